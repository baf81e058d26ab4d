//! The memory store: for tests and examples. It keeps every promise of the port but durability.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::commit::{
    Commit, DeadLetterRow, FaultMark, InboxRow, JournalRow, Lane, OutboxId, OutboxRow, StoredInstance, TimerRow,
};
use crate::message::Body;
use crate::mutation::{Mutation, is_out};
use crate::probe::{Point, Probe, Probes};
use crate::saga::Row;
use crate::store::{Backlog, DeadLetterPage, LoadQuery, Loaded, Old, Page, Store, StoreError};

/// Writes domain rows of one type into the application's own tables in memory.
pub trait MemoryWriter<R: Row>: Send + Sync + 'static {
    /// Whether the rows could be written; nothing is written yet.
    ///
    /// # Errors
    /// Says which row is refused, and why; the whole commit is then refused.
    fn check(&self, rows: &[&R]) -> Result<(), String>;

    /// Writes the rows; they were checked before, and nothing was written since.
    fn write(&self, rows: &[&R]);
}

/// Builds a [`MemoryStore`].
#[derive(Default)]
pub struct MemoryStoreBuilder {
    writers: HashMap<TypeId, Box<dyn ErasedWriter>>,
    probes: Probes,
}

/// Keeps everything in memory. A clone is another handle on the same content, so a runtime that "crashed" can be
/// followed by another one on the same store.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    tables: Mutex<Tables>,
    writers: HashMap<TypeId, Box<dyn ErasedWriter>>,
    probes: Probes,
}

#[derive(Default)]
struct Tables {
    inbox: HashMap<InboxRow, DateTime<Utc>>,
    instances: HashMap<(String, Uuid), StoredInstance>,
    journal: Vec<JournalRow>,
    timers: BTreeMap<Uuid, TimerRow>,
    outbox: BTreeMap<OutboxId, (DateTime<Utc>, OutboxRow)>,
    last_outbox_id: OutboxId,
    dead_letters: BTreeMap<Uuid, DeadLetterRow>,
}

impl MemoryStore {
    /// Begins to build a store.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStoreBuilder {
    /// Registers the writer of the rows of one type.
    #[must_use]
    pub fn writer<R: Row, W: MemoryWriter<R>>(mut self, writer: W) -> Self {
        self.writers.insert(TypeId::of::<R>(), Box::new(Typed(writer, std::marker::PhantomData)));
        self
    }

    /// Who is told of named points.
    #[must_use]
    pub fn probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes = Probes(Some(probe));
        self
    }

    /// The store, empty.
    pub fn build(self) -> MemoryStore {
        let Self { writers, probes } = self;
        MemoryStore(Arc::new(Inner { tables: Mutex::default(), writers, probes }))
    }
}

trait ErasedWriter: Send + Sync {
    fn check(&self, rows: &[&dyn Any]) -> Result<(), String>;
    fn write(&self, rows: &[&dyn Any]);
}

struct Typed<R, W>(W, std::marker::PhantomData<fn() -> R>);

impl<R: Row, W: MemoryWriter<R>> ErasedWriter for Typed<R, W> {
    fn check(&self, rows: &[&dyn Any]) -> Result<(), String> {
        self.0.check(&rows.iter().filter_map(|row| row.downcast_ref()).collect::<Vec<_>>())
    }
    fn write(&self, rows: &[&dyn Any]) {
        self.0.write(&rows.iter().filter_map(|row| row.downcast_ref()).collect::<Vec<_>>());
    }
}

/// The rows of a commit by type, in order.
type ByType<'a> = Vec<(&'a dyn ErasedWriter, Vec<&'a dyn Any>)>;

impl Inner {
    fn by_type<'a>(&'a self, rows: &'a [Arc<dyn Row>]) -> Result<ByType<'a>, StoreError> {
        let mut types: Vec<TypeId> = Vec::new();
        let mut groups: ByType<'a> = Vec::new();
        for row in rows {
            let any: &dyn Any = &**row;
            let at = match types.iter().position(|id| *id == any.type_id()) {
                Some(at) => at,
                None => {
                    let writer = self.writers.get(&any.type_id()).ok_or_else(|| {
                        StoreError::Rejected(format!("the memory store has no writer for the row {row:?}"))
                    })?;
                    types.push(any.type_id());
                    groups.push((&**writer, Vec::new()));
                    groups.len() - 1
                }
            };
            groups[at].1.push(any);
        }
        Ok(groups)
    }
}

impl Tables {
    /// Whether the commit fits what is stored; nothing is written yet.
    fn check(&self, commit: &Commit) -> Result<(), StoreError> {
        let conflict = |text: String| Err(StoreError::Conflict(text));
        for id in &commit.redriven {
            if self.dead_letters.get(id).is_none_or(|row| row.redriven_at.is_some()) {
                return conflict(format!("dead letter {id} is not there, or was redriven before"));
            }
        }
        let mut new = HashSet::new();
        for row in &commit.inbox {
            let stored =
                self.inbox.contains_key(row) && !commit.forgotten.contains(row) && !is_out(Mutation::InboxCheck);
            if stored || !new.insert(row) {
                return conflict(format!("message {} was handled by {} before", row.message_id, row.endpoint));
            }
        }
        let mut versions = HashMap::new();
        for row in &commit.instances {
            let key = (row.saga.to_owned(), row.id);
            let stored = self.instances.get(&key).map_or(0, |it| it.version);
            if versions.insert(key, row.version).unwrap_or(stored) != row.expected && !is_out(Mutation::VersionCheck) {
                return conflict(format!("instance {} of {} is not at version {}", row.id, row.saga, row.expected));
            }
        }
        for token in &commit.fired {
            if !self.timers.contains_key(token) && !is_out(Mutation::FiredOnce) {
                return conflict(format!("timer {token} was cancelled, or has fired before"));
            }
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) -> Vec<OutboxId> {
        for row in &commit.forgotten {
            self.inbox.remove(row);
        }
        for id in &commit.redriven {
            if let Some(row) = self.dead_letters.get_mut(id) {
                row.redriven_at = Some(commit.at);
            }
        }
        self.inbox.extend(commit.inbox.iter().map(|row| (row.clone(), commit.at)));
        self.write_instances(commit);
        self.journal.extend(commit.journal.iter().cloned());
        for row in &commit.timers {
            self.timers.insert(row.token, row.clone());
        }
        for token in commit.cancelled.iter().chain(&commit.fired) {
            self.timers.remove(token);
        }
        let mut ids = Vec::with_capacity(commit.outbox.len());
        for row in &commit.outbox {
            self.last_outbox_id += 1;
            self.outbox.insert(self.last_outbox_id, (commit.at, row.clone()));
            ids.push(self.last_outbox_id);
        }
        for id in &commit.settled {
            self.outbox.remove(id);
        }
        for row in &commit.dead_letters {
            self.dead_letters.insert(row.id, row.clone());
        }
        ids
    }

    fn write_instances(&mut self, commit: &Commit) {
        let body = |json: &str| Body::from_json(json.to_owned()).unwrap_or_else(|_| Body::of(&()));
        for row in &commit.instances {
            let key = (row.saga.to_owned(), row.id);
            let old = self.instances.remove(&key);
            let stored = StoredInstance {
                id: row.id,
                version: row.version,
                state: row.state.to_owned(),
                data: body(&row.data),
                timers: body(&row.timers),
                retry_count: old.as_ref().map_or(0, |it| it.retry_count),
                created_at: old.as_ref().map_or(commit.at, |it| it.created_at),
                fault: old.and_then(|it| it.fault),
                updated_at: commit.at,
            };
            self.instances.insert(key, stored);
        }
        for mark in &commit.marks {
            if let Some(it) = self.instances.get_mut(&(mark.saga.to_string(), mark.id)) {
                it.retry_count += mark.retries;
                match &mark.fault {
                    FaultMark::Keep => {}
                    FaultMark::Set(fault) => it.fault = Some(fault.clone()),
                    FaultMark::Clear => it.fault = None,
                }
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        let tables = self.tables();
        let mut loaded = Loaded::default();
        for &message_id in query.messages {
            let row = InboxRow { endpoint: query.endpoint.to_owned().into(), message_id };
            if tables.inbox.contains_key(&row) {
                loaded.handled.insert(message_id);
            }
        }
        for &id in query.instances {
            if let Some(stored) = tables.instances.get(&(query.saga.to_owned(), id)) {
                loaded.instances.insert(id, stored.clone());
            }
        }
        Ok(loaded)
    }

    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        if !commit.inbox.is_empty() {
            self.0.probes.reached(Point::InboxWritten).await;
        }
        if !commit.instances.is_empty() {
            self.0.probes.reached(Point::InstanceWritten).await;
        }
        let rows = self.0.by_type(&commit.rows)?;
        let mut tables = self.tables();
        tables.check(&commit)?;
        for (writer, rows) in &rows {
            writer.check(rows).map_err(StoreError::Rejected)?;
        }
        for (writer, rows) in &rows {
            writer.write(rows);
        }
        Ok(tables.apply(&commit))
    }

    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        let tables = self.tables();
        let rows = tables.outbox.range(after.saturating_add(1)..).take(limit);
        let rows = rows.map(|(id, (_, row))| (*id, row.clone())).collect();
        Ok(Page { rows, unreadable: Vec::new() })
    }

    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        let tables = self.tables();
        let rows = tables.outbox.range(after.saturating_add(1)..).map(|(id, (_, row))| (*id, row.clone()));
        let rows = rows.filter(|(_, row)| Lane::of(row) == *lane).take(limit).collect();
        Ok(Page { rows, unreadable: Vec::new() })
    }

    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let removed = match old {
            Old::Inbox(before) => {
                let rows = tables.inbox.iter().filter(|(_, at)| **at < before).map(|(row, _)| row.clone());
                let rows: Vec<_> = rows.take(limit).collect();
                rows.iter().filter(|row| tables.inbox.remove(row).is_some()).count()
            }
            Old::Journal(before) => {
                let old = tables.journal.iter().take(limit).take_while(|row| row.at < before).count();
                tables.journal.drain(..old).count()
            }
            Old::Redriven(before) => {
                let is_old = |row: &DeadLetterRow| row.redriven_at.is_some_and(|at| at < before);
                let ids: Vec<_> = tables.dead_letters.values().filter(|row| is_old(row)).map(|row| row.id).collect();
                ids.iter().take(limit).filter(|id| tables.dead_letters.remove(id).is_some()).count()
            }
        };
        Ok(removed == limit)
    }

    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError> {
        let mut due: Vec<_> = self.tables().timers.values().filter(|row| row.due <= now).cloned().collect();
        due.sort_by_key(|row| (row.due, row.token));
        due.truncate(limit);
        Ok(Page { rows: due, unreadable: Vec::new() })
    }

    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(self.tables().timers.values().map(|row| row.due).filter(|due| *due > after).min())
    }

    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
        Ok(self.tables().instances.get(&(saga.to_owned(), id)).cloned())
    }

    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
        Ok(self.tables().journal.iter().filter(|row| row.saga == saga && row.id == id).cloned().collect())
    }

    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
        let tables = self.tables();
        let open = tables.dead_letters.values().filter(|row| row.redriven_at.is_none());
        let mut rows: Vec<_> =
            open.filter(|row| page.before.is_none_or(|before| (row.at, row.id) < before)).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.at, row.id)));
        rows.truncate(page.limit);
        Ok(rows)
    }

    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        Ok(self.tables().dead_letters.get(&id).cloned())
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let tables = self.tables();
        Ok(Backlog {
            outbox: tables.outbox.len() as u64,
            oldest_outbox: tables.outbox.values().map(|(at, _)| *at).min(),
            timers: tables.timers.len() as u64,
            next_due: tables.timers.values().map(|row| row.due).min(),
            dead_letters: tables.dead_letters.values().filter(|row| row.redriven_at.is_none()).count() as u64,
        })
    }

    fn writes(&self, row: TypeId) -> bool {
        self.0.writers.contains_key(&row)
    }
}
