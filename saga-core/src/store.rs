//! The store's port: one atomic commit, and the reads that the loops need. A store never interprets events.

mod audit;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::commit::{Commit, DeadLetterRow, JournalRow, Lane, OutboxId, OutboxRow, StoredInstance, TimerRow};

pub use audit::{Audit, Extent};
pub use memory::{MemoryStore, MemoryStoreBuilder, MemoryWriter};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresAudit, PostgresStore, PostgresStoreBuilder, PostgresWriter};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteAudit, SqliteStore, SqliteStoreBuilder, SqliteWriter};

/// Where everything is kept. Every adapter passes the conformance suite of the testkit.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What a batch must know before it steps: the instances it meets, and which of its messages were handled.
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError>;

    /// Writes all of a commit or nothing of it; durable when it returns. Answers the ids given to the commit's
    /// outbox rows, in their order.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] and [`StoreError::Rejected`] promise that nothing was written. After
    /// [`StoreError::Unavailable`] it may have been, or may be a little later: commit again, and a conflict in the inbox
    /// tells.
    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError>;

    /// Unsettled outbox rows that belong to this process, or to nobody, with an id larger than `after`, smallest first:
    /// `limit` of them, or all there are. What was nobody's belongs to this process from then on.
    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError>;

    /// As [`Store::outbox`], of one lane.
    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError>;

    /// Takes over unsettled outbox rows whose process is gone, or that nobody has: `limit` of them, or all there are.
    /// From then on they are this process's own, and no other is given them. A store that one process has for itself
    /// has none.
    async fn take_over(&self, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        let _ = limit;
        Ok(Page { rows: Vec::new(), unreadable: Vec::new() })
    }

    /// Returns when another process may have left something to do, and says what; never, where one process has the
    /// store for itself. May be dropped and called again: nothing is missed by it.
    async fn changed(&self) -> Change {
        std::future::pending().await
    }

    /// Removes rows that nobody needs any more, the oldest first: `limit` of them. Says whether there may be more.
    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError>;

    /// Timers that are due at `now`, the earliest first: `limit` of them, or all there are.
    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError>;

    /// When the earliest of those timers is due that are due later than `after`.
    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// When the earliest timer of all is due.
    async fn next_due(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.next_due_after(DateTime::<Utc>::MIN_UTC).await
    }

    /// One instance.
    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError>;

    /// The history of one instance, oldest first.
    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError>;

    /// Dead letters that were not redriven, newest first, older than the page's `before`.
    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError>;

    /// One dead letter, redriven or not.
    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError>;

    /// What waits in the store.
    async fn backlog(&self) -> Result<Backlog, StoreError>;

    /// Whether a writer is registered for rows of this type.
    fn writes(&self, row: TypeId) -> bool;
}

/// What another process may have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Outbox rows that nobody sends: take them over.
    Outbox,
    /// Timers that nobody fires: look when the next is due.
    Timers,
}

/// Rows that are kept for a time only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// Messages that were handled before this time. One of them that is delivered once more is handled once more.
    Inbox(DateTime<Utc>),
    /// History from before this time.
    Journal(DateTime<Utc>),
    /// Dead letters that were redriven before this time; the others stay until somebody redrives them.
    Redriven(DateTime<Utc>),
}

/// What a batch must know.
#[derive(Debug, Clone, Copy)]
pub struct LoadQuery<'a> {
    /// The endpoint whose inbox is asked.
    pub endpoint: &'a str,
    /// The messages asked for.
    pub messages: &'a [Uuid],
    /// The saga whose instances are asked for.
    pub saga: &'a str,
    /// The instances asked for; empty for an endpoint that is no saga's.
    pub instances: &'a [Uuid],
}

/// What was found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Those of the messages that the endpoint has handled.
    pub handled: HashSet<Uuid>,
    /// Those of the instances that exist.
    pub instances: HashMap<Uuid, StoredInstance>,
}

/// Rows of the outbox or of the timers, in their order. A row that can not be read blocks no other: the store passes it
/// over, tells of it, and leaves it where it is for an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What was asked for.
    pub rows: Vec<T>,
    /// What was passed over on the way.
    pub unreadable: Vec<Unreadable>,
}

/// A stored row that can not be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unreadable {
    /// Its key, as it is stored.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A page of dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterPage {
    /// Only those given up before this time, or at it with a smaller id.
    pub before: Option<(DateTime<Utc>, Uuid)>,
    /// How many at most.
    pub limit: usize,
}

/// What waits in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Backlog {
    /// Unsettled outbox rows.
    pub outbox: u64,
    /// When the oldest of them was written.
    pub oldest_outbox: Option<DateTime<Utc>>,
    /// Timers and redeliveries that wait.
    pub timers: u64,
    /// When the earliest of them is due.
    pub next_due: Option<DateTime<Utc>>,
    /// Dead letters that were not redriven.
    pub dead_letters: u64,
}

/// Why a store could not do what it was asked. Whether to try again is decided where the error is made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else was quicker: load again and repeat the work. Counts against no message.
    #[error("somebody else changed it meanwhile: {0}")]
    Conflict(String),
    /// The database is away, busy or full: wait and repeat. Counts against no message.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The database refuses what the commit says: one of its messages spoils it. Split the batch.
    #[error("the store refuses the rows: {0}")]
    Rejected(String),
    /// What is stored can not be read back: an operator must look.
    #[error("what is stored can not be read: {0}")]
    Corrupt(String),
}
