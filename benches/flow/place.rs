//! The store and the bus of a run: new and empty each time, of whatever kind.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use host::config::{BusUrl, StoreUrl};
use tempfile::TempDir;
use test_servers::{Postgres, Rabbit};

/// A kind of store and a kind of bus.
#[derive(Debug, Clone)]
pub(crate) struct Pairing {
    pub(crate) store: String,
    pub(crate) bus: String,
}

/// Where a run takes place.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) store: StoreUrl,
    pub(crate) bus: BusUrl,
    /// Where a file is kept, until nobody needs the place any more.
    folder: Arc<TempDir>,
}

impl Pairing {
    /// `sqlite:`, `postgres:` and `rabbitmq:` alone mean new ones: a file in a temporary folder, a database and a virtual
    /// host of servers that end with this process. A whole URL is taken as it is.
    pub(crate) fn place(&self) -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = match self.store.as_str() {
            "sqlite:" => format!("sqlite://{}", folder.path().join("orders.db").display()),
            "postgres:" => postgres().database(),
            url => url.to_owned(),
        };
        let store = store.parse().unwrap_or_else(|error| panic!("--store {store}: {error}"));
        Place { store, bus: self.new_bus(), folder: Arc::new(folder) }
    }

    /// The same store, and a bus on which nothing waits.
    pub(crate) fn again(&self, place: &Place) -> Place {
        Place { store: place.store.clone(), bus: self.new_bus(), folder: place.folder.clone() }
    }

    /// Whether the flow runs on servers, and not in this process alone.
    pub(crate) fn has_servers(&self) -> bool {
        self.has_broker() && !self.store.starts_with("sqlite:")
    }

    pub(crate) fn has_broker(&self) -> bool {
        self.bus != "embedded:"
    }

    /// Whether several hosts can share the store.
    pub(crate) fn is_shared(&self) -> bool {
        self.store.starts_with("postgres")
    }

    /// Where the database of this process has its files, in which its processes stand.
    pub(crate) fn database_folder(&self) -> Option<PathBuf> {
        static FOLDER: OnceLock<PathBuf> = OnceLock::new();
        let ask = || postgres().query(postgres().url(), "SHOW data_directory").trim().into();
        (self.store == "postgres:").then(|| FOLDER.get_or_init(ask).clone())
    }

    /// The process of this process's broker.
    pub(crate) fn broker_process(&self) -> Option<String> {
        static PROCESS: OnceLock<String> = OnceLock::new();
        let ask = || rabbit().eval("os:getpid().").trim().trim_matches('"').to_owned();
        (self.bus == "rabbitmq:").then(|| PROCESS.get_or_init(ask).clone())
    }

    fn new_bus(&self) -> BusUrl {
        let bus = match self.bus.as_str() {
            "rabbitmq:" => rabbit().vhost(),
            url => url.to_owned(),
        };
        bus.parse().unwrap_or_else(|error| panic!("--bus {bus}: {error}"))
    }
}

/// The server of this process, as durable as in production.
pub(crate) fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

/// The broker of this process.
pub(crate) fn rabbit() -> &'static Rabbit {
    static BROKER: OnceLock<Rabbit> = OnceLock::new();
    BROKER.get_or_init(Rabbit::start)
}
