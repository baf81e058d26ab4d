//! Named points in the life of a message, for tests that crash there.

use async_trait::async_trait;

/// A named point in the life of a message. `P1` to `P8`: received, transaction begun with the inbox written, instance
/// written, committed, sent but not confirmed, confirmed but not settled, settled, acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// P1: a batch was received, nothing is written.
    Received,
    /// P2: a transaction has begun and the inbox rows are written in it.
    InboxWritten,
    /// P3: the instances are written, the transaction is not committed.
    InstanceWritten,
    /// P4: the transaction is committed, nothing is sent.
    Committed,
    /// P5: messages are sent, not confirmed.
    Sent,
    /// P6: messages are confirmed, their outbox rows not settled.
    Confirmed,
    /// P7: outbox rows are settled.
    Settled,
    /// P8: deliveries are acknowledged.
    Acknowledged,
    /// H1: a submission is committed, its sender not told.
    Submitted,
    /// T1: due timers are read, not moved to the outbox.
    TimerRead,
    /// T2: due timers are moved to the outbox.
    TimerStored,
    /// E1: an activity or consumer has done its work, its outcome is not committed.
    Performed,
}

impl Point {
    /// Every point, in the order of a message's life.
    pub const ALL: [Self; 12] = [
        Self::Received,
        Self::InboxWritten,
        Self::InstanceWritten,
        Self::Committed,
        Self::Sent,
        Self::Confirmed,
        Self::Settled,
        Self::Acknowledged,
        Self::Submitted,
        Self::TimerRead,
        Self::TimerStored,
        Self::Performed,
    ];

    /// The point's short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "P1",
            Self::InboxWritten => "P2",
            Self::InstanceWritten => "P3",
            Self::Committed => "P4",
            Self::Sent => "P5",
            Self::Confirmed => "P6",
            Self::Settled => "P7",
            Self::Acknowledged => "P8",
            Self::Submitted => "H1",
            Self::TimerRead => "T1",
            Self::TimerStored => "T2",
            Self::Performed => "E1",
        }
    }

    /// The point of that short name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.name() == name)
    }
}

/// Told whenever a point is reached. Nothing happens beyond it until the call returns; one that never returns has
/// stopped that loop, as a crash would.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// A point is reached.
    async fn reached(&self, point: Point);
}

/// A probe, or none: what the loops hold.
#[derive(Clone, Default)]
pub(crate) struct Probes(pub(crate) Option<std::sync::Arc<dyn Probe>>);

impl Probes {
    pub(crate) async fn reached(&self, point: Point) {
        if let Some(probe) = &self.0 {
            probe.reached(point).await;
        }
    }
}
