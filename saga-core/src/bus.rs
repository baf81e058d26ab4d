//! The bus's port: endpoints that receive, messages that are sent and confirmed.

mod embedded;
#[cfg(any(feature = "rabbitmq", feature = "testkit"))]
mod local;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod shard;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::commit::{Name, OutboxId, OutboxRow};
use crate::message::Envelope;

pub use embedded::EmbeddedBus;
#[cfg(any(feature = "rabbitmq", feature = "testkit"))]
pub(crate) use local::Local;
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::{BuildError as RabbitMqBuildError, QueueType, RabbitMqBus, RabbitMqBusBuilder};
pub use shard::{BUCKETS, Shard, ShardKey, bucket};

/// What carries messages between endpoints. Every adapter passes the conformance suite of the testkit.
///
/// It delivers at least once, in no promised order. A message that was confirmed is delivered even if this process
/// dies; one that was not is sent again from the outbox.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Declares the endpoints with their subscriptions and begins to receive; called once, before anything is sent.
    /// Each endpoint's messages come out of its own channel, which ends when the bus is closed; that of an endpoint that
    /// is not consumed stays empty. The shards of an endpoint are declared like endpoints of one name, one behind the
    /// other from the first to the last; a message goes to the one that it belongs to.
    ///
    /// # Errors
    /// When the topology can not be declared: says which part, and what is there instead.
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError>;

    /// Sends messages; returns when they are on their way, not when they have arrived. The outcome of each comes
    /// through `confirms`, in any order, exactly once.
    async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>);

    /// Takes a message that this process has committed just now, if the bus can give it to an endpoint of this process
    /// itself, and at once; else it is sent. One with a broker may do so without it, and confirms the message when it is
    /// acknowledged: until then its row in the outbox is the queue, and whoever finds it there, after a crash, sends it
    /// over the broker. As many may be taken as the endpoints take; a bus that makes no difference takes none.
    fn hand_over(&self, id: OutboxId, row: &OutboxRow) -> bool {
        let _ = (id, row);
        false
    }

    /// These deliveries are handled, durably; never deliver them again.
    fn acknowledge(&self, receipts: &[Receipt]);

    /// Whether the bus can send and receive now; if not, why.
    fn health(&self) -> Result<(), String>;
}

/// An endpoint: a queue with a name, and the message types published to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub name: Name,
    /// The names of the types that it subscribes to.
    pub subscriptions: Vec<&'static str>,
    /// The names of all types that it handles: those, and the commands that are sent to it. Of a temporary endpoint none
    /// is named: it takes whatever is sent to it.
    pub handles: Vec<&'static str>,
    /// Whether this process takes its messages; if not, the queue is declared and fills for others.
    pub consumed: bool,
    /// Whether it lives as long as the process: the endpoint that answers to its requests come to.
    pub temporary: bool,
    /// How many unacknowledged messages it takes at the most: for a bus that pushes over a network, and as many again for
    /// one that also hands them over. The embedded bus has no use for it, because the relay's window bounds what it holds.
    pub prefetch: usize,
    /// Which shard of the endpoint this is; `None`: it can have none.
    pub shard: Option<Shard>,
}

/// One message, delivered to one endpoint.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub envelope: Arc<Envelope>,
    /// What to acknowledge it by.
    pub receipt: Receipt,
    /// How often it was delivered before and not acknowledged, as far as the bus counts that.
    pub redelivered: u32,
}

/// What a delivery is acknowledged by. A receipt of an earlier epoch (a connection that was lost) is void: the bus
/// ignores it, and the message is delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Which connection it came over; none has the largest number, which is for what came over none.
    pub epoch: u64,
    /// Its number there.
    pub tag: u64,
}

/// What became of a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// The outbox row.
    pub id: OutboxId,
    /// Arrived, or why not.
    pub result: Result<(), SendError>,
}

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no place for it, now or later: set the row aside.
    #[error("{0}")]
    Unroutable(String),
    /// The bus could not take it now: send it again later.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a bus could not start.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The topology is not as declared, and waiting will not mend it.
    #[error("{0}")]
    Topology(String),
    /// The server can not be reached.
    #[error("{0}")]
    Unavailable(String),
}
