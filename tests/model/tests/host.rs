//! What a host of the model has in its hands: everything that a crash takes away.

use super::protocol::{Message, ROUTED};

/// One host.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    pub dead: bool,
    /// The saga endpoint handles one message at a time, the consumer's endpoint too.
    pub saga: Option<Work>,
    pub consumer: Option<Work>,
    /// How far its relay is with each message.
    pub relay: [Relay; ROUTED],
    /// How often each message was delivered to it and not acknowledged, over the connection that it has now.
    pub unacknowledged: [u8; ROUTED],
}

/// A message in a host's hands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    pub message: Message,
    pub stage: Stage,
    /// How many deliveries of it are to be acknowledged over the connection that there is now.
    pub receipts: u8,
    pub has_caller: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Its instance was loaded at this version; its outcome is not committed.
    Loaded { version: u8 },
    /// Its commit was carried out, and the answer was lost.
    Unsure,
    /// Its outcome is committed, by this host or by the other.
    Committed,
}

/// How far a relay is with a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relay {
    /// It does not know of it.
    #[default]
    Nothing,
    /// It is on its way to the broker: a row is sent as soon as the relay knows of it.
    InFlight,
    /// The broker has it, its confirm is on the way.
    Stored,
    Confirmed,
}

impl Host {
    pub fn slot(&mut self, saga: bool) -> &mut Option<Work> {
        if saga { &mut self.saga } else { &mut self.consumer }
    }

    pub fn work(&self, saga: bool) -> Option<&Work> {
        if saga { self.saga.as_ref() } else { self.consumer.as_ref() }
    }

    /// The connection is gone: receipts are void, and what was not confirmed is sent again. Returns what the broker
    /// delivers again.
    pub fn disconnect(&mut self, sends_again: bool) -> [u8; ROUTED] {
        for work in [&mut self.saga, &mut self.consumer].into_iter().flatten() {
            work.receipts = 0;
        }
        for relay in &mut self.relay {
            if matches!(relay, Relay::InFlight | Relay::Stored) {
                *relay = if sends_again { Relay::InFlight } else { Relay::Nothing };
            }
        }
        std::mem::take(&mut self.unacknowledged)
    }
}
