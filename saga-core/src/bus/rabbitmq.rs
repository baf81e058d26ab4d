//! The RabbitMQ bus, over amqprs: MassTransit's topology and wire format, publisher confirms, reconnection for ever.

mod address;
mod backoff;
mod balance;
mod builder;
mod connection;
mod consumer;
mod destinations;
mod endpoint;
mod events;
mod health;
mod ledger;
mod life;
mod link;
mod parcel;
mod partition;
mod properties;
mod publisher;
mod receipts;
mod supervisor;
mod tls;
mod topology;

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError, Confirm, Delivery, Endpoint, Local, Receipt};
use crate::commit::{OutboxId, OutboxRow};

use builder::Settings;
pub use builder::{BuildError, QueueType, RabbitMqBusBuilder};
use consumer::{Consumer, Plans};
use health::{Health, Side};
use ledger::Ledger;
use parcel::Parcel;
use publisher::Publisher;
use receipts::Receipts;
use supervisor::supervise;
use topology::Plan;

/// Carries messages over a RabbitMQ broker, to and from other processes of this library and of MassTransit.
///
/// What may be relied upon
/// - A message is confirmed when the broker says that it has taken it, to disk and to a majority where the queue is a quorum
///   queue. Whatever happens before, it is published again: when the connection is lost, all that was not confirmed is.
/// - A delivery is acknowledged when [`acknowledge`](Bus::acknowledge) was called for it, and not before; what was not
///   acknowledged is delivered again after a connection is lost or this process has died.
/// - Connections that are lost are opened again for ever, with growing pauses, and the topology is declared each time.
///   [`health`](Bus::health) says what is wrong meanwhile. A broker that takes no messages because its memory or disk is full
///   stops publishing alone: deliveries and acknowledgements have a connection of their own.
/// - A queue that exists with other arguments is an error of [`start`](Bus::start); found later, it shows in `health`, and
///   the other endpoints go on.
///
/// At the broker, an endpoint is a fanout exchange and a durable queue of its name, and an event a fanout exchange of its
/// type's name. What is sent to an address goes straight into the queue of its name; where there is none, to the exchange of
/// that name, because a service may want its faults at an exchange. A message of a type that its endpoint does not handle
/// moves to the queue `<endpoint>_skipped`. One that breaks the connection over which it is delivered, which amqprs does over
/// headers that are not UTF-8, moves to `<endpoint>_error` after a hundred times, if the queue is a quorum queue.
///
/// An endpoint in [shards](crate::Shard) has a queue for each, `<endpoint>_shard_<n>`, with a single active consumer, and an
/// exchange `<endpoint>_shards` before them; what comes without a bucket, to `<endpoint>_unsorted` or into the queue of the
/// endpoint's name, is moved to its shard. Hosts count each other and share the shards. All must say the same number. While
/// it changes no message is lost, whether it grows or shrinks, but messages of one instance may overtake each other: what
/// waits in a queue of the older number is moved, at the next start, by whoever finds it. A queue that is left over stays,
/// empty; delete it when every host has the new number, the highest number first: the first that is not there ends the
/// search for them.
///
/// With [`local`](RabbitMqBusBuilder::local) what is sent to an endpoint goes straight to it when it was committed just now,
/// where this process consumes that endpoint and it has room; it is confirmed when it is acknowledged.
///
/// Each connection has a thread of its own. The crate feature `traces` of amqprs is off; who turns it on must keep its
/// level at `amqprs=info`, because below that it logs passwords and messages.
///
/// Metrics: `saga_bus_confirms_total` by `result` (`taken`, `returned`, `refused`), `saga_bus_reconnects_total` by
/// `connection` (`publishing`, `consuming`), `saga_bus_unconfirmed`, the messages that are published and not confirmed, and
/// by `endpoint` `saga_bus_local_total`, the messages that went past the broker, and `saga_bus_local_in_hand`, those of them
/// that are not acknowledged.
pub struct RabbitMqBus {
    shared: Arc<Shared>,
    local: Local,
    running: Mutex<Running>,
}

/// What both connections share.
struct Shared {
    settings: Settings,
    health: Health,
    ledger: Ledger,
    receipts: Arc<Receipts>,
    /// Two connections that declare one queue at the same moment get into each other's way.
    declaring: tokio::sync::Mutex<()>,
}

enum Running {
    Not,
    /// Ends with the bus; dropped, it ends at once.
    Since(JoinSet<()>, CancellationToken),
    NoMore,
}

impl RabbitMqBus {
    /// Begins to build a bus for the broker at `amqp[s]://user:password@host:port/vhost`.
    pub fn builder(url: impl AsRef<str>) -> RabbitMqBusBuilder {
        RabbitMqBusBuilder::new(url.as_ref())
    }

    fn new(settings: Settings) -> Self {
        let receipts = Arc::new(Receipts::default());
        let (health, ledger) = (Health::new(), Ledger::new(receipts.clone()));
        let shared = Shared { settings, health, ledger, receipts, declaring: tokio::sync::Mutex::default() };
        Self { shared: Arc::new(shared), local: Local::default(), running: Mutex::new(Running::Not) }
    }

    /// Tells the broker what was acknowledged, waits a few seconds for what it has not confirmed, and closes both connections.
    /// Messages that were sent and not confirmed come back as unavailable. Dropping the bus instead is as a crash: nothing is
    /// lost, but what the broker was not told yet happens again.
    pub async fn close(&self) {
        let before = std::mem::replace(&mut *self.running(), Running::NoMore);
        if let Running::Since(mut tasks, stop) = before {
            stop.cancel();
            while tasks.join_next().await.is_some() {}
        }
        self.shared.ledger.close();
        self.local.close();
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn up(&self, side: Side) {
        if self.health.up(side) {
            tracing::info!(connection = side.name(), broker = %self.settings.server, "connected to the broker");
        }
    }
}

impl fmt::Debug for RabbitMqBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = format_args!("{}", self.shared.settings.server);
        f.debug_struct("RabbitMqBus").field("server", &server).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bus for RabbitMqBus {
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
        let topology = |why: String| BusError::Topology(why);
        let (queue_type, prefetch) = (self.shared.settings.queue_type, self.shared.settings.prefetch);
        let plans = Plan::all(endpoints, queue_type, prefetch).map_err(|error| topology(error.to_string()))?;
        let plans: Arc<[Plan]> = plans.into();
        let (deliveries, receivers): (Vec<_>, _) = endpoints.iter().map(|_| mpsc::unbounded_channel()).unzip();
        {
            let mut running = self.running();
            if !matches!(*running, Running::Not) || !self.shared.ledger.confirm_to(confirms.clone()) {
                return Err(topology("this bus was started or closed before; each runtime needs its own".to_owned()));
            }
            if self.shared.settings.local {
                // The endpoints' own plans come first, in their order.
                let room = plans.iter().map(|plan| usize::from(plan.prefetch));
                let places = endpoints.iter().zip(room).zip(&deliveries);
                self.local.open(places.map(|((endpoint, room), to)| (endpoint, room, to)), &confirms);
            }
            let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
            let publisher = Publisher { shared: self.shared.clone(), plans: plans.clone(), stop: stop.clone() };
            let consumer = Consumer {
                shared: self.shared.clone(),
                plans: Arc::new(Mutex::new(Plans::Declared(plans))),
                deliveries: deliveries.into(),
                stop: stop.clone(),
                decoders: Handle::current(),
                fragile: AtomicU32::new(0),
            };
            tasks.spawn(supervise(publisher, self.shared.clone(), stop.clone()));
            tasks.spawn(supervise(consumer, self.shared.clone(), stop.clone()));
            *running = Running::Since(tasks, stop);
        }
        match self.shared.health.first_outcome().await {
            Ok(()) => Ok(receivers),
            Err(why) => {
                *self.running() = Running::NoMore;
                self.local.close();
                Err(BusError::Topology(why))
            }
        }
    }

    async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) {
        self.shared.ledger.push(rows.into_iter().map(|(id, row)| Parcel::Row(id, row)));
    }

    fn hand_over(&self, id: OutboxId, row: &OutboxRow) -> bool {
        self.local.deliver(id, row)
    }

    fn acknowledge(&self, receipts: &[Receipt]) {
        self.local.acknowledge(receipts);
        self.shared.receipts.acknowledge(receipts);
    }

    fn health(&self) -> Result<(), String> {
        match &*self.running() {
            Running::Not => return Err("the bus is not started".to_owned()),
            Running::NoMore => return Err("the bus is closed".to_owned()),
            Running::Since(..) => {}
        }
        if self.shared.ledger.is_deaf() == Some(true) {
            return Err("the runtime of this bus has stopped".to_owned());
        }
        let silence = self.shared.ledger.silence(Instant::now()).map(|(long, waiting)| {
            let seconds = long.as_secs();
            format!(
                "the broker has confirmed nothing for {seconds} s and {waiting} messages wait: it may take none because its \
                 memory or disk is full; see its alarms"
            )
        });
        let trouble: Vec<_> = silence.into_iter().chain(self.shared.health.trouble()).collect();
        if trouble.is_empty() { Ok(()) } else { Err(trouble.join("; ")) }
    }
}
