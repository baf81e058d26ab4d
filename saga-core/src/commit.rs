//! What one batch writes: plain data that a store applies in one transaction, without interpreting it.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::FailureKind;
use crate::message::{Body, Envelope};
use crate::saga::Row;

/// Everything that one batch writes, all of it or nothing.
///
/// A store applies the fields in the order in which they are declared here.
#[derive(Debug)]
pub struct Commit {
    /// The time of the commit: `created_at` and `updated_at` of what it writes.
    pub at: DateTime<Utc>,
    /// Inbox rows to remove, so that a redriven message is handled again.
    pub forgotten: Vec<InboxRow>,
    /// Dead letters that are redriven. One that is not there, or was redriven before, is a conflict.
    pub redriven: Vec<Uuid>,
    /// Messages that are handled with this commit. One that is there already is a conflict.
    pub inbox: Vec<InboxRow>,
    /// Instances to write. A stored version other than the expected one is a conflict.
    pub instances: Vec<InstanceRow>,
    /// Retries and faults of instances, counted without touching their version; of no instance, no mistake.
    pub marks: Vec<Mark>,
    /// History.
    pub journal: Vec<JournalRow>,
    /// Rows of the domain, given to the writer registered for their type, in order.
    pub rows: Vec<Arc<dyn Row>>,
    /// Messages to deliver later.
    pub timers: Vec<TimerRow>,
    /// Timers that are cancelled; one that is not there is no mistake.
    pub cancelled: Vec<Uuid>,
    /// Timers that fire with this commit. One that is not there was cancelled, or fired by another host: a conflict.
    pub fired: Vec<Uuid>,
    /// Messages to send.
    pub outbox: Vec<OutboxRow>,
    /// Outbox rows that are sent; one that is not there is no mistake.
    pub settled: Vec<OutboxId>,
    /// Messages that nobody could handle.
    pub dead_letters: Vec<DeadLetterRow>,
    /// Whether the process that commits sends its outbox rows and fires its timers itself, as is usual. If not, they are
    /// nobody's until a process takes them over that does; a store that several share tells those at once.
    pub handed_over: bool,
}

impl Commit {
    /// An empty commit. Its time is cut to microseconds: that is what databases keep, and a saga must not remember
    /// another time than its history tells.
    pub fn new(at: DateTime<Utc>) -> Self {
        Self {
            at: at.trunc_subsecs(6),
            forgotten: Vec::new(),
            redriven: Vec::new(),
            inbox: Vec::new(),
            instances: Vec::new(),
            marks: Vec::new(),
            journal: Vec::new(),
            rows: Vec::new(),
            timers: Vec::new(),
            cancelled: Vec::new(),
            fired: Vec::new(),
            outbox: Vec::new(),
            settled: Vec::new(),
            dead_letters: Vec::new(),
            handed_over: true,
        }
    }

    /// Whether it takes sent rows out, and does nothing else. Nobody waits for these to be gone.
    #[cfg(any(feature = "runtime", feature = "sqlite", feature = "postgres"))]
    pub(crate) fn settles_only(&self) -> bool {
        let Self { forgotten, redriven, inbox, instances, marks, journal, .. } = self;
        let Self { rows, timers, cancelled, fired, outbox, dead_letters, .. } = self;
        !self.settled.is_empty()
            && forgotten.is_empty()
            && redriven.is_empty()
            && inbox.is_empty()
            && instances.is_empty()
            && marks.is_empty()
            && journal.is_empty()
            && rows.is_empty()
            && timers.is_empty()
            && cancelled.is_empty()
            && fired.is_empty()
            && outbox.is_empty()
            && dead_letters.is_empty()
    }
}

/// How long each part of a commit was at some moment.
#[cfg(feature = "runtime")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths([usize; 7]);

#[cfg(feature = "runtime")]
impl Commit {
    /// An empty commit with room for what so many messages usually write: large rows are not moved again and again while
    /// it grows.
    pub(crate) fn of(messages: usize, at: DateTime<Utc>) -> Self {
        let mut commit = Self::new(at);
        commit.inbox.reserve(messages);
        commit.instances.reserve(messages);
        commit.journal.reserve(messages);
        commit.rows.reserve(messages);
        commit.outbox.reserve(messages);
        commit
    }

    /// Remembers how long each part is that the handling of one message may add to.
    pub(crate) fn lengths(&self) -> Lengths {
        Lengths([
            self.inbox.len(),
            self.marks.len(),
            self.journal.len(),
            self.rows.len(),
            self.timers.len(),
            self.outbox.len(),
            self.dead_letters.len(),
        ])
    }

    /// Takes back what was added since.
    pub(crate) fn truncate(&mut self, Lengths([inbox, marks, journal, rows, timers, outbox, dead]): Lengths) {
        self.inbox.truncate(inbox);
        self.marks.truncate(marks);
        self.journal.truncate(journal);
        self.rows.truncate(rows);
        self.timers.truncate(timers);
        self.outbox.truncate(outbox);
        self.dead_letters.truncate(dead);
    }
}

/// A name that is part of the program, or was read from storage.
pub type Name = Cow<'static, str>;

/// The store's own number of an outbox row; later rows have larger ones.
pub type OutboxId = i64;

/// "This endpoint has handled this message."
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboxRow {
    /// The endpoint's name.
    pub endpoint: Name,
    /// The message's id.
    pub message_id: Uuid,
}

/// The new content of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceRow {
    /// [`Saga::NAME`](crate::Saga::NAME).
    pub saga: &'static str,
    /// The instance's id.
    pub id: Uuid,
    /// The version that must be stored now; 0: none may be.
    pub expected: u64,
    /// The version after the commit.
    pub version: u64,
    /// The name of its state.
    pub state: &'static str,
    /// The saga's data, JSON.
    pub data: String,
    /// The running timers, a JSON object: message name → token.
    pub timers: String,
}

/// An instance as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredInstance {
    /// The instance's id.
    pub id: Uuid,
    /// The version: how many steps it has taken.
    pub version: u64,
    /// The name of its state.
    pub state: String,
    /// The saga's data, JSON.
    pub data: Body,
    /// The running timers, a JSON object: message name → token.
    pub timers: Body,
    /// How many retries its messages have needed, over its whole life.
    pub retry_count: u32,
    /// The failure that made one of its messages a dead letter and was not mended since.
    pub fault: Option<String>,
    /// When its first step was committed.
    pub created_at: DateTime<Utc>,
    /// When its last step was committed.
    pub updated_at: DateTime<Utc>,
}

/// What an instance's messages went through, counted beside its steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// [`Saga::NAME`](crate::Saga::NAME).
    pub saga: Name,
    /// The instance's id.
    pub id: Uuid,
    /// How many retries to add.
    pub retries: u32,
    /// What becomes of its fault.
    pub fault: FaultMark,
}

/// What becomes of an instance's fault.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultMark {
    /// It stays as it is.
    Keep,
    /// A message of the instance became a dead letter.
    Set(String),
    /// A redriven message of the instance was handled, any of them: with several faults, the first that is mended
    /// clears the mark, and the dead letters tell of the others.
    Clear,
}

/// What happened to a message, as the journal tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalOutcome {
    /// The instance took a step.
    Moved,
    /// Nothing changed, as the table says; or the timer had been cancelled.
    Ignored,
    /// Too early; delivered again later.
    Deferred,
    /// A failed attempt; tried again later.
    Retried,
    /// A mistake in this state; a dead letter.
    Rejected,
    /// The last attempt failed; a dead letter.
    Faulted,
}

impl JournalOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Moved, Self::Ignored, Self::Deferred, Self::Retried, Self::Rejected, Self::Faulted];

    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Ignored => "ignored",
            Self::Deferred => "deferred",
            Self::Retried => "retried",
            Self::Rejected => "rejected",
            Self::Faulted => "faulted",
        }
    }

    /// The outcome of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// One line of an instance's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalRow {
    /// [`Saga::NAME`](crate::Saga::NAME).
    pub saga: Name,
    /// The instance's id.
    pub id: Uuid,
    /// The instance's version after the step; absent where it took none.
    pub version: Option<u64>,
    /// The endpoint that handled the message.
    pub endpoint: Name,
    /// The message's id.
    pub message_id: Uuid,
    /// The name of its type.
    pub message_type: Name,
    /// Its body.
    pub message: Body,
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// What caused it.
    pub initiator_id: Option<Uuid>,
    /// The user on whose behalf.
    pub user: Option<String>,
    /// Which attempt this was, the first is 1.
    pub attempt: u32,
    /// What happened to it.
    pub outcome: JournalOutcome,
    /// The state before; absent where no saga was asked.
    pub from: Option<Name>,
    /// The state after.
    pub to: Option<Name>,
    /// What it caused.
    pub effects: Vec<JournalEffect>,
    /// What was wrong, if anything.
    pub error: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// One thing that a message caused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEffect {
    /// `publish`, `send`, `respond`, `call`, `schedule`, `unschedule` or `write`.
    pub kind: Name,
    /// The message's type; of a written row, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The produced message's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// The endpoint that it was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Name>,
    /// When a timer is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<DateTime<Utc>>,
}

/// A message to deliver later.
#[derive(Debug, Clone, PartialEq)]
pub struct TimerRow {
    /// The timer's own id.
    pub token: Uuid,
    /// The endpoint that it is delivered to.
    pub endpoint: Name,
    /// Whether it is a saga's timer or another attempt at a message.
    pub kind: TimerKind,
    /// When it is due.
    pub due: DateTime<Utc>,
    /// What is delivered.
    pub envelope: Arc<Envelope>,
}

/// Why a message is delivered later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// A saga scheduled it.
    Timer,
    /// It failed or came too early, and is tried again.
    Redelivery,
}

impl TimerKind {
    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timer => "timer",
            Self::Redelivery => "redelivery",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Timer, Self::Redelivery].into_iter().find(|it| it.name() == name)
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// The endpoint to send it to; absent: published to whoever subscribed.
    pub destination: Option<Name>,
    /// What is sent.
    pub envelope: Arc<Envelope>,
}

/// Where an outbox row goes: what fills up together when nobody takes it, and must not keep the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// To one endpoint.
    Endpoint(Name),
    /// To the subscribers of one message type.
    Event(Name),
}

impl Lane {
    /// The lane of a row.
    pub fn of(row: &OutboxRow) -> Self {
        match &row.destination {
            Some(endpoint) => Self::Endpoint(endpoint.clone()),
            None => Self::Event(row.envelope.message_type.first().cloned().unwrap_or_default()),
        }
    }
}

/// A message that nobody could handle, with everything needed to understand it and to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterRow {
    /// The dead letter's own id, derived from message, endpoint and number of redrives.
    pub id: Uuid,
    /// The endpoint that could not handle it.
    pub endpoint: Name,
    /// The saga on whose behalf it was sent, or that could not handle it.
    pub saga: Option<Name>,
    /// What kind of failure it was.
    pub reason: Cow<'static, str>,
    /// What was wrong.
    pub error: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// The message.
    pub envelope: Arc<Envelope>,
    /// When it was given up.
    pub at: DateTime<Utc>,
    /// When an operator took it out again; written by [`Commit::redriven`], absent in a commit.
    pub redriven_at: Option<DateTime<Utc>>,
}

impl DeadLetterRow {
    /// The dead letter of `envelope`, given up at `endpoint`.
    pub fn new(envelope: &Arc<Envelope>, endpoint: Name, kind: FailureKind, error: &str, at: DateTime<Utc>) -> Self {
        Self {
            id: envelope.produced_id(&format!("dead-letter/{endpoint}"), 0),
            endpoint,
            saga: envelope.saga().map(|saga| Name::Owned(saga.to_owned())),
            reason: Cow::Borrowed(kind.name()),
            error: error.to_owned(),
            attempts: envelope.attempt(),
            envelope: envelope.clone(),
            at,
            redriven_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_time_finer_than_a_database_keeps_when_a_commit_begins_then_it_is_cut() {
        let fine = DateTime::from_timestamp_nanos(1_234_567_891);
        assert_eq!(Commit::new(fine).at, DateTime::from_timestamp_nanos(1_234_567_000));
    }
}
