//! What was promised, as far as it can be seen from outside: what was committed, sent and handled, and what of it must
//! not have been.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::commit::{Commit, InboxRow, OutboxId, OutboxRow, TimerKind};
use crate::message::Envelope;

/// Remembers every commit and every message that the broker has stored.
#[derive(Default)]
pub(super) struct Ledger {
    /// Every outbox row that was ever committed.
    committed: BTreeMap<OutboxId, OutboxRow>,
    /// Those of them that the broker has, or had.
    stored: BTreeSet<OutboxId>,
    /// Those that were set aside: their message is a dead letter.
    set_aside: BTreeSet<OutboxId>,
    /// Answers that the broker had no place for, because whoever asked is gone.
    unwanted: BTreeSet<OutboxId>,
    handled: BTreeMap<(String, Uuid), u32>,
    /// Messages whose outcome at an endpoint was committed, and the last row that it is an answer to. What is to be tried
    /// again is a later row, which needs an outcome of its own; once it was handled or given up, the inbox answers all
    /// that come, until an operator has the message redriven.
    answered: BTreeMap<(String, Uuid), OutboxId>,
    versions: BTreeMap<(&'static str, Uuid), u64>,
}

impl Ledger {
    /// A commit was carried out. Says what is wrong with it.
    pub(super) fn committed(&mut self, commit: &Commit, ids: &[OutboxId]) -> Vec<String> {
        let mut wrong = Vec::new();
        let last = self.committed.last_key_value().map_or(0, |(id, _)| *id);
        for row in &commit.forgotten {
            self.handled.remove(&key(row));
            self.answered.insert(key(row), last);
        }
        for row in &commit.inbox {
            self.answered.insert(key(row), OutboxId::MAX);
            let times = self.handled.entry(key(row)).or_default();
            *times += 1;
            if *times > 1 {
                wrong.push(format!("message {} was handled {times} times by {}", row.message_id, row.endpoint));
            }
        }
        for row in &commit.instances {
            let last = self.versions.insert((row.saga, row.id), row.version).unwrap_or(0);
            if last != row.expected {
                let (saga, id, from) = (row.saga, row.id, row.expected);
                wrong.push(format!("a step of {saga} {id} from version {from} was written over version {last}"));
            }
        }
        for row in commit.timers.iter().filter(|it| it.kind == TimerKind::Redelivery) {
            let answered = self.answered.entry((row.endpoint.to_string(), row.envelope.message_id)).or_default();
            *answered = last.max(*answered);
        }
        self.committed.extend(ids.iter().copied().zip(commit.outbox.iter().cloned()));
        for id in &commit.settled {
            if !commit.dead_letters.is_empty() {
                self.set_aside.insert(*id);
            } else if !self.is_done_with(*id) {
                wrong.push(format!("outbox row {id} was settled, and neither has the broker had its message nor has its endpoint handled it"));
            }
        }
        wrong
    }

    /// The broker was given a message. Says what is wrong with it.
    pub(super) fn arrived(&self, id: OutboxId, row: &OutboxRow) -> Option<String> {
        let message = row.envelope.message_id;
        match self.committed.get(&id) {
            None => Some(format!("message {message} was sent as outbox row {id}, which was never committed")),
            Some(committed) if committed != row => Some(format!(
                "message {message} was sent as outbox row {id}, which is {}",
                committed.envelope.message_id
            )),
            Some(_) => None,
        }
    }

    /// The broker has stored a message.
    pub(super) fn stored(&mut self, id: OutboxId) {
        self.stored.insert(id);
    }

    /// The broker has no place for a message, and has said so.
    pub(super) fn unroutable(&mut self, id: OutboxId, row: &OutboxRow) {
        if row.envelope.is_to_temporary_address() {
            self.unwanted.insert(id);
        }
    }

    /// Messages that were committed and never sent.
    pub(super) fn never_sent(&self) -> Vec<Arc<Envelope>> {
        let unsent = self.committed.iter().filter(|(id, _)| !self.is_done_with(**id));
        unsent.map(|(_, row)| row.envelope.clone()).collect()
    }

    fn is_done_with(&self, id: OutboxId) -> bool {
        [&self.stored, &self.set_aside, &self.unwanted].iter().any(|done| done.contains(&id)) || self.is_answered(id)
    }

    /// Whether its endpoint has an outcome, however the message came there.
    fn is_answered(&self, id: OutboxId) -> bool {
        let Some(OutboxRow { destination: Some(endpoint), envelope }) = self.committed.get(&id) else { return false };
        self.answered.get(&(endpoint.to_string(), envelope.message_id)).is_some_and(|last| id <= *last)
    }
}

fn key(row: &InboxRow) -> (String, Uuid) {
    (row.endpoint.to_string(), row.message_id)
}
