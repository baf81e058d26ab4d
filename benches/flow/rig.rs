//! A runtime without a host around it, with what a workload registers.

use std::sync::Arc;
use std::time::Duration;

use host::config::{BusUrl, StoreUrl};
use order_saga::{Notification, OrderRow, PostgresOrderRows, SqliteOrderRows};
use saga_core::{
    Bus, Client, EmbeddedBus, PostgresStore, RabbitMqBus, Runtime, RuntimeBuilder, RuntimeError, SqliteStore, Store,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::entry::connected;
use crate::place::Place;
use crate::watched::{Seen, Watched};

/// Runtimes that run, on one store and one bus, as hosts do.
pub(crate) struct Rig {
    pub(crate) clients: Vec<Client>,
    running: Vec<Running>,
    /// Its files stay as long as anything runs.
    _place: Place,
}

struct Running {
    store: Opened,
    bus: Option<Arc<RabbitMqBus>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RuntimeError>>,
}

/// A store, to be closed at the end.
enum Opened {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Rig {
    /// Starts so many; the store of each is watched, and answers so much later.
    pub(crate) async fn start(
        place: &Place,
        hosts: usize,
        seen: &Arc<Seen>,
        delay: Duration,
        register: impl Fn(RuntimeBuilder) -> RuntimeBuilder,
    ) -> Self {
        let (mut clients, mut running) = (Vec::new(), Vec::new());
        for _ in 0..hosts {
            let store = open(&place.store).await;
            let inner: Arc<dyn Store> = match &store {
                Opened::Sqlite(store) => Arc::new(store.clone()),
                Opened::Postgres(store) => Arc::new(store.clone()),
            };
            let watched = Arc::new(Watched { inner, seen: seen.clone(), delay });
            let rabbit = match &place.bus {
                BusUrl::Embedded => None,
                BusUrl::RabbitMq(url) => {
                    Some(Arc::new(RabbitMqBus::builder(url.expose()).local(true).build().expect("a broker's address")))
                }
            };
            let bus: Arc<dyn Bus> = rabbit.clone().map_or_else(|| Arc::new(EmbeddedBus::new()) as _, |it| it as _);
            let runtime = register(Runtime::builder(watched, bus)).build().expect("a runtime");
            clients.push(runtime.client());
            let (stop, stopped) = oneshot::channel();
            // Dropped or sent, it ends.
            let task = tokio::spawn(runtime.run(async { drop(stopped.await) }));
            running.push(Running { store, bus: rabbit, stop, task });
        }
        connected(&clients).await;
        Self { clients, running, _place: place.clone() }
    }

    /// Stops as it should be stopped.
    pub(crate) async fn stop(self) {
        drop(self.clients);
        for Running { store, bus, stop, task } in self.running {
            drop(stop);
            task.await.expect("a loop that ends").expect("a clean end");
            if let Some(bus) = bus {
                bus.close().await;
            }
            match store {
                Opened::Sqlite(store) => store.close().await,
                Opened::Postgres(store) => store.close().await,
            }
        }
    }
}

async fn open(url: &StoreUrl) -> Opened {
    match url {
        StoreUrl::Memory => panic!("--store memory: is no store to measure on; say sqlite: or postgres:"),
        StoreUrl::Sqlite(_) => {
            let builder = SqliteStore::builder(&url.to_string());
            let builder = builder.writer::<OrderRow, _>(SqliteOrderRows).writer::<Notification, _>(SqliteOrderRows);
            let store = builder.open().await.expect("a store");
            store.migrate(&sqlx::migrate!("migrations/sqlite")).await.expect("tables");
            Opened::Sqlite(store)
        }
        StoreUrl::Postgres(server) => {
            let builder = PostgresStore::builder(server.expose()).connections(CONNECTIONS);
            let builder = builder.writer::<OrderRow, _>(PostgresOrderRows).writer::<Notification, _>(PostgresOrderRows);
            let store = builder.open().await.expect("a store");
            store.migrate(&sqlx::migrate!("migrations/postgres")).await.expect("tables");
            Opened::Postgres(store)
        }
    }
}

/// As many as a host has if nobody says.
const CONNECTIONS: u32 = 16;
