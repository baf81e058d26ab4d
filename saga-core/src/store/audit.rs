//! A look at a live store that writes nothing: what an auditor reads.

use std::collections::HashSet;

use async_trait::async_trait;
use uuid::Uuid;

use crate::commit::{DeadLetterRow, JournalRow, OutboxId, OutboxRow, StoredInstance};
use crate::store::{DeadLetterPage, Page, StoreError};

/// How far there is something to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// The largest id of an instance, or of a history.
    pub last_id: Option<Uuid>,
    /// The largest id of an outbox row; 0 if there is none.
    pub last_outbox: OutboxId,
    /// How many dead letters were not redriven.
    pub dead_letters: u64,
}

/// A look at a store that writes nothing, takes no lock and has no lease, while any number of hosts work on it.
///
/// Everything that is read between two calls of [`refresh`](Audit::refresh) is of one moment, so what one commit has
/// written is seen as a whole or not at all. A look keeps the database from tidying up: refresh it every few reads.
#[async_trait]
pub trait Audit: Send {
    /// Goes on to what is committed now.
    async fn refresh(&mut self) -> Result<(), StoreError>;

    /// How far there is something to look at: a look that is not to chase what hosts add meanwhile ends there.
    async fn extent(&mut self, saga: &str) -> Result<Extent, StoreError>;

    /// The ids, from `from` on and in their order, of a saga's instances and of histories that have none: `limit` of them,
    /// or all there are.
    async fn ids(&mut self, saga: &str, from: Uuid, limit: usize) -> Result<Vec<Uuid>, StoreError>;

    /// Those of the instances that exist.
    async fn instances(&mut self, saga: &str, ids: &[Uuid]) -> Result<Page<StoredInstance>, StoreError>;

    /// The histories of these instances, each of them oldest first.
    async fn journals(&mut self, saga: &str, ids: &[Uuid]) -> Result<Page<JournalRow>, StoreError>;

    /// Who has handled these messages: pairs of message and endpoint.
    async fn handled(&mut self, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError>;

    /// Those of these messages that wait in the store: to be sent, or to be delivered later.
    async fn waiting(&mut self, messages: &[Uuid]) -> Result<HashSet<Uuid>, StoreError>;

    /// Who has given these messages up, redriven or not: pairs of message and endpoint.
    async fn given_up(&mut self, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError>;

    /// Unsettled outbox rows of any process with an id larger than `after`, smallest first. They stay whose they are.
    async fn outbox(&mut self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError>;

    /// As [`Store::dead_letters`](super::Store::dead_letters).
    async fn dead_letters(&mut self, page: &DeadLetterPage) -> Result<Page<DeadLetterRow>, StoreError>;
}
