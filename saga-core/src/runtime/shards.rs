//! The shards of a saga's endpoint: how many there are, and which of their loops a submission goes to.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::bus::{BUCKETS, Shard, ShardKey};
use crate::machine::Machine;
use crate::message::Envelope;
use crate::runtime::Registered;
use crate::runtime::deliver::Submission;
use crate::saga::Saga;

/// How an endpoint is parted.
pub(super) struct Partition {
    /// Into how many shards, at least 1.
    pub(super) shards: usize,
    /// By what.
    pub(super) key: ShardKey,
}

impl Partition {
    /// Its shards, from the first to the last.
    pub(super) fn all(&self) -> impl Iterator<Item = Shard> + '_ {
        (0..self.shards).map(|index| Shard { index, of: self.shards, key: self.key.clone() })
    }
}

/// Where the submissions for one endpoint go in: a door for each of its shards.
pub(crate) struct Doors {
    key: ShardKey,
    doors: Vec<mpsc::Sender<Submission>>,
}

impl Doors {
    /// Doors that hold no more than `most` submissions together, and what comes out of each.
    pub(super) fn new(partition: &Partition, most: usize) -> (Self, Vec<mpsc::Receiver<Submission>>) {
        let share = most.div_ceil(partition.shards);
        let (doors, receivers) = (0..partition.shards).map(|_| mpsc::channel(share)).unzip();
        (Self { key: partition.key.clone(), doors }, receivers)
    }

    /// The one that a message goes through.
    pub(super) fn of(&self, envelope: &Envelope) -> Option<&mpsc::Sender<Submission>> {
        self.doors.get(self.key.place(envelope, self.doors.len()))
    }
}

/// Tells a message's instance as the saga does. What it can not read belongs where the envelope says: it becomes a dead
/// letter of that instance.
pub(super) fn key<S: Saga>(machine: Machine<S>) -> ShardKey {
    ShardKey::new(move |envelope| machine.read(envelope).map_or(envelope.correlation_id, |event| Some(event.id)))
}

/// Parts the endpoints as it was said; what can not be parted so is a mistake.
pub(super) fn part(
    endpoints: &mut BTreeMap<&'static str, Registered>,
    shards: BTreeMap<&'static str, usize>,
) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (name, count) in shards {
        match endpoints.get_mut(name) {
            Some(Registered::Saga { partition, .. }) if (1..=BUCKETS).contains(&count) => partition.shards = count,
            Some(Registered::Saga { .. }) => {
                mistakes.push(format!("endpoint {name} is to have {count} shards: say 1 to {BUCKETS}"));
            }
            _ => mistakes.push(format!("endpoint {name} is to have {count} shards, and no saga is registered on it")),
        }
    }
    mistakes
}
