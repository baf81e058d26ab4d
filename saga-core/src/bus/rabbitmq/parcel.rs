//! Something to publish.

use std::sync::Arc;

use super::properties::Moved;
use crate::commit::{OutboxId, OutboxRow};

/// Something to publish.
#[derive(Debug, Clone)]
pub(super) enum Parcel {
    /// A row of the outbox.
    Row(OutboxId, OutboxRow),
    /// A row whose queue is not there: it goes to the exchange of that name, if that is.
    Rerouted(OutboxId, OutboxRow),
    /// A delivery that moves to another queue.
    Moved(Arc<Moved>),
}

impl Parcel {
    /// The row, and its number; `None`: it is none.
    pub(super) fn into_row(self) -> Option<(OutboxId, OutboxRow)> {
        match self {
            Self::Row(id, row) | Self::Rerouted(id, row) => Some((id, row)),
            Self::Moved(_) => None,
        }
    }

    /// Where it goes when its queue is not there. MassTransit's addresses name exchanges, and a receive endpoint's has its
    /// queue's name; but a service may ask for its faults at an exchange that has no such queue. The temporary address of a
    /// requester always has one, and if not, the requester is gone.
    pub(super) fn rerouted(self) -> Result<Self, Self> {
        match self {
            Self::Row(id, row) if !row.envelope.is_to_temporary_address() => Ok(Self::Rerouted(id, row)),
            other => Err(other),
        }
    }

    /// Whether it is published to whoever subscribes.
    pub(super) fn is_event(&self) -> bool {
        matches!(self, Self::Row(_, OutboxRow { destination: None, .. }))
    }

    /// Why a message that came back can not be delivered.
    pub(super) fn no_place(&self, why: &str) -> String {
        match self {
            Self::Row(_, OutboxRow { destination: Some(name), .. }) => {
                format!("there is no queue for {name} at the broker: {why}")
            }
            Self::Rerouted(_, OutboxRow { destination: Some(name), .. }) => {
                format!("there is no queue for {name} at the broker, nor an exchange that passes on to one: {why}")
            }
            _ => why.to_owned(),
        }
    }
}
