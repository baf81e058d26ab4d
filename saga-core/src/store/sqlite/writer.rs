//! The one task that writes: it owns the connection, so no transaction is ever cancelled half-way, and it commits in
//! one transaction whatever is waiting.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::apply::{Group, apply};
use super::domain::Writers;
use super::encode::Encoded;
use super::error::of_statement;
use super::open::{Database, Lock};
use crate::commit::{Commit, Name, OutboxId};
use crate::probe::Probes;
use crate::store::StoreError;

/// Commits that may wait for the writer; who comes later waits for a place.
pub(super) const WAITING: usize = 1_024;
/// Most commits of one transaction: what is saved by one more is less than a hundredth.
const MAX_COMMITS: usize = 256;
/// A group that has this many rows takes no further commit, so that the others need not wait too long.
const MAX_ROWS: usize = 8_192;

/// What the writer is asked to do.
pub(super) enum Command {
    /// Commit, and say the ids of the outbox rows.
    Commit(Job),
    /// Remove old rows, and say how many there were.
    Purge(Purge),
    /// Finish what was asked before, close the database, say so and end.
    Close(oneshot::Sender<()>),
}

/// A commit, its rows as SQLite takes them, and who waits for it.
pub(super) struct Job {
    pub(super) commit: Arc<Commit>,
    pub(super) rows: Encoded,
    pub(super) reply: oneshot::Sender<Result<Vec<OutboxId>, StoreError>>,
}

/// Old rows to remove.
pub(super) struct Purge {
    pub(super) sql: &'static str,
    /// The rows' keys, a JSON array.
    pub(super) keys: String,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The task's belongings.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) lock: Lock,
    pub(super) writers: Arc<Writers>,
    pub(super) probes: Probes,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) connection: Option<SqliteConnection>,
}

impl Writer {
    pub(super) async fn run(mut self) {
        let mut waiting = None;
        let mut next_id = None;
        loop {
            let command = match waiting.take() {
                Some(command) => command,
                None => match self.commands.recv().await {
                    Some(command) => command,
                    None => return,
                },
            };
            match command {
                Command::Commit(first) => {
                    let group = self.gather(first, &mut waiting);
                    self.commit(group, &mut next_id).await;
                }
                Command::Purge(Purge { sql, keys, reply }) => {
                    reply.send(self.purge(sql, keys).await).ok();
                }
                Command::Close(closed) => {
                    self.close().await;
                    closed.send(()).ok();
                    return;
                }
            }
        }
    }

    /// The first commit and those that wait behind it, as far as they can be applied together.
    fn gather(&mut self, first: Job, waiting: &mut Option<Command>) -> Vec<Job> {
        let mut footprint = Footprint::default();
        footprint.admits(&first.commit);
        let mut group = vec![first];
        while group.len() < MAX_COMMITS && footprint.rows < MAX_ROWS {
            match self.commands.try_recv() {
                Ok(Command::Commit(job)) if footprint.admits(&job.commit) => group.push(job),
                Ok(command) => {
                    *waiting = Some(command);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    /// Commits a group in one transaction; if one of it is at fault, each in its own, so that only that one fails.
    async fn commit(&mut self, mut group: Vec<Job>, next_id: &mut Option<OutboxId>) {
        let commits: Vec<_> = group.iter().map(|job| job.commit.clone()).collect();
        let mut rows = Encoded::default();
        group.iter_mut().for_each(|job| rows.append(std::mem::take(&mut job.rows)));
        match self.transact(&commits, rows, next_id).await {
            Ok(first) => {
                let mut id = first;
                for job in group {
                    let ids = (id..).take(job.commit.outbox.len()).collect::<Vec<_>>();
                    id = ids.last().map_or(id, |last| last + 1);
                    job.reply.send(Ok(ids)).ok();
                }
            }
            Err(StoreError::Conflict(_) | StoreError::Rejected(_)) if group.len() > 1 => {
                for job in group {
                    let rows = Encoded::of(&job.commit);
                    let alone = self.transact(std::slice::from_ref(&job.commit), rows, next_id).await;
                    let ids = alone.map(|first| (first..).take(job.commit.outbox.len()).collect());
                    job.reply.send(ids).ok();
                }
            }
            Err(error) => {
                for job in group {
                    job.reply.send(Err(error.clone())).ok();
                }
            }
        }
    }

    async fn purge(&mut self, sql: &'static str, keys: String) -> Result<(), StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect(&self.lock, false).await?,
        };
        sqlx::query(sql).bind(keys).execute(&mut connection).await.map_err(unavailable)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// One transaction; returns the id of its first outbox row. A connection that is not known to be sound afterwards
    /// is not used again.
    async fn transact(
        &mut self,
        commits: &[Arc<Commit>],
        rows: Encoded,
        next_id: &mut Option<OutboxId>,
    ) -> Result<OutboxId, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect(&self.lock, false).await?,
        };
        let group = Group::new(commits, rows);
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let applied = async {
            let first = match *next_id {
                Some(id) => id,
                None => first_id(&mut transaction).await?,
            };
            let rows: usize = commits.iter().map(|commit| commit.outbox.len()).sum();
            *next_id = Some(first + OutboxId::try_from(rows).unwrap_or(OutboxId::MAX));
            apply(&mut transaction, group, first, &self.writers, &self.probes).await?;
            Ok(first)
        };
        let applied = applied.await;
        let ended = match &applied {
            Ok(_) => transaction.commit().await,
            Err(_) => transaction.rollback().await,
        };
        match (applied, ended) {
            (applied, Ok(())) => {
                self.connection = Some(connection);
                applied
            }
            (Ok(_), Err(error)) => {
                Err(StoreError::Unavailable(format!("it is unknown whether the transaction was committed: {error}")))
            }
            (Err(error), Err(_)) => Err(error),
        }
    }

    async fn close(&mut self) {
        self.commands.close();
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database was not closed properly; nothing is lost");
        }
    }
}

/// What a group of commits touches. Commits that touch nothing in common may be applied part by part and still mean
/// the same as one after another.
#[derive(Default)]
struct Footprint {
    keys: HashSet<(Name, Uuid)>,
    rows: usize,
    alone: bool,
}

impl Footprint {
    /// Whether the commit can join; if so, it has joined.
    fn admits(&mut self, commit: &Commit) -> bool {
        let alone = !commit.forgotten.is_empty() || !commit.redriven.is_empty();
        if self.rows > 0 && (alone || self.alone || keys(commit).any(|key| self.keys.contains(&key))) {
            return false;
        }
        self.alone = alone;
        self.keys.extend(keys(commit));
        self.rows += 1 + commit.rows.len() + commit.outbox.len() + commit.settled.len() + commit.journal.len();
        true
    }
}

/// The keys that a commit writes to. Two kinds of keys that look alike part two commits without need, and no more.
fn keys(commit: &Commit) -> impl Iterator<Item = (Name, Uuid)> {
    let inbox = commit.inbox.iter().map(|row| (row.endpoint.clone(), row.message_id));
    let instances = commit.instances.iter().map(|row| (Name::Borrowed(row.saga), row.id));
    let marks = commit.marks.iter().map(|row| (row.saga.clone(), row.id));
    let cancelled = commit.cancelled.iter().chain(&commit.fired).copied();
    let timers = commit.timers.iter().map(|row| row.token).chain(cancelled);
    let dead_letters = commit.dead_letters.iter().map(|row| row.id);
    let others = timers.chain(dead_letters).map(|id| (Name::Borrowed(""), id));
    inbox.chain(instances).chain(marks).chain(others)
}

/// The first outbox id that was never given, although the rows of all others may be gone.
async fn first_id(connection: &mut SqliteConnection) -> Result<OutboxId, StoreError> {
    sqlx::query_scalar("SELECT 1 + coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'saga_outbox'")
        .fetch_one(connection)
        .await
        .map_err(unavailable)
}

fn unavailable(error: sqlx::Error) -> StoreError {
    of_statement("the database can not be written", &error, StoreError::Unavailable)
}
