//! The one thread that writes: it owns the connection, so no transaction is ever cancelled half-way, and it commits in
//! one transaction whatever is waiting. It calls SQLite itself: over a pool each statement would cost a way to another
//! thread and back, which is more than the statement.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::apply::apply;
use super::checkpoint::Checkpoints;
use super::domain::Writers;
use super::encode::Encoded;
use super::error::of_statement;
use super::open::{Database, Lock};
use crate::commit::{Commit, OutboxId};
use crate::probe::{Point, Probes};
use crate::store::StoreError;

/// Commits that may wait for the writer; who comes later waits for a place.
pub(super) const WAITING: usize = 1_024;
/// Most commits of one transaction: what is saved by one more is less than a hundredth.
const MAX_COMMITS: usize = 256;
/// A group that has this many rows takes no further commit, so that the others need not wait too long.
const MAX_ROWS: usize = 8_192;

/// How long a commit that only takes sent rows out of the outbox waits for a transaction to ride along with. Nobody waits
/// for these rows to be gone, and a transaction of its own would make those wait who do.
pub(super) const RIDE: Duration = Duration::from_millis(20);

/// What the writer is asked to do.
pub(super) enum Command {
    /// Commit, and say the ids of the outbox rows.
    Commit(Job),
    /// Carry out the commits that wait for the next transaction: none has come for a while.
    Depart,
    /// Remove old rows.
    Purge(Purge),
    /// Finish what was asked before, close the database, say so and end.
    Close(oneshot::Sender<()>),
}

/// A commit, the JSON of its rows, and who waits for it.
pub(super) struct Job {
    pub(super) commit: Arc<Commit>,
    pub(super) rows: Encoded,
    pub(super) reply: oneshot::Sender<Result<Vec<OutboxId>, StoreError>>,
}

/// What became of a commit: the ids of its outbox rows.
pub(super) type Answer = oneshot::Receiver<Result<Vec<OutboxId>, StoreError>>;

/// Old rows to remove.
pub(super) struct Purge {
    pub(super) sql: &'static str,
    /// The rows' keys, a JSON array.
    pub(super) keys: String,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The thread's belongings.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) writers: Arc<Writers>,
    pub(super) probes: Probes,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Commits that wait for the next transaction. Dropped with the writer, so that nobody waits for one that has ended.
    pub(super) riders: mpsc::UnboundedReceiver<Job>,
    pub(super) connection: Option<Connection>,
    /// Cancelled when nobody has the store any more.
    pub(super) dropped: CancellationToken,
    pub(super) checkpoints: Option<Checkpoints>,
    /// Where probes wait.
    pub(super) executor: Handle,
    /// The next id of an outbox row, once it is known.
    pub(super) next_id: Option<OutboxId>,
    /// Held until the last statement is done: nobody else may open the database before. Last, because fields are dropped
    /// in their order.
    pub(super) lock: Option<Lock>,
}

impl Writer {
    /// Writes until the store is closed or dropped.
    pub(super) fn run(mut self) {
        let mut waiting = None;
        self.connection.iter().for_each(Checkpoints::watch);
        while let Some(command) = waiting.take().or_else(|| self.commands.blocking_recv()) {
            if self.dropped.is_cancelled() {
                return;
            }
            match command {
                Command::Commit(first) => {
                    let group = self.gather(first, &mut waiting);
                    self.commit(group);
                }
                Command::Depart => {
                    let group = self.waiting_riders();
                    self.commit(group);
                }
                Command::Purge(Purge { sql, keys, reply }) => {
                    reply.send(self.purge(sql, &keys)).ok();
                }
                Command::Close(closed) => {
                    self.close();
                    closed.send(()).ok();
                    return;
                }
            }
            if let (Some(connection), Some(checkpoints)) = (&self.connection, &mut self.checkpoints) {
                checkpoints.committed(connection);
            }
        }
    }

    /// The commits that ride along, the first one, and those that wait behind it.
    ///
    /// Sent rows go out of the outbox before new ones come into it, because SQLite writes each page that was emptied into
    /// the log: so the new rows take these pages, and do not need others besides.
    fn gather(&mut self, first: Job, waiting: &mut Option<Command>) -> Vec<Job> {
        let mut group = self.waiting_riders();
        let (mut rows, most) = (rows_of(&first.commit), group.len() + MAX_COMMITS);
        group.push(first);
        while group.len() < most && rows < MAX_ROWS {
            match self.commands.try_recv() {
                Ok(Command::Commit(job)) => {
                    rows += rows_of(&job.commit);
                    group.push(job);
                }
                // They ride along with this one.
                Ok(Command::Depart) => {}
                Ok(command) => {
                    *waiting = Some(command);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    fn waiting_riders(&mut self) -> Vec<Job> {
        std::iter::from_fn(|| self.riders.try_recv().ok()).collect()
    }

    /// Commits a group in one transaction; if one of it is at fault, each in its own, so that only that one fails.
    fn commit(&mut self, group: Vec<Job>) {
        if group.is_empty() {
            return;
        }
        match self.transact(&group) {
            Ok(ids) => {
                for (Job { commit, reply, .. }, ids) in group.into_iter().zip(ids) {
                    // Who waits takes the commit apart, and must be the only one who has it.
                    drop(commit);
                    reply.send(Ok(ids)).ok();
                }
            }
            Err(StoreError::Conflict(_) | StoreError::Rejected(_)) if group.len() > 1 => {
                for job in group {
                    let alone = self.transact(std::slice::from_ref(&job));
                    job.reply.send(alone.map(|ids| ids.into_iter().flatten().collect())).ok();
                }
            }
            Err(error) => {
                for job in group {
                    job.reply.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn purge(&mut self, sql: &'static str, keys: &str) -> Result<(), StoreError> {
        let connection = self.connection()?;
        connection.execute(sql, [keys]).map_err(|error| unavailable(&error))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// One transaction; returns the ids of each commit's outbox rows. A connection that is not known to be sound afterwards
    /// is not used again.
    fn transact(&mut self, group: &[Job]) -> Result<Vec<Vec<OutboxId>>, StoreError> {
        let connection = self.connection()?;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| unavailable(&error))?;
        let applied = self.apply(&connection, group);
        let ended = connection.execute_batch(if applied.is_ok() { "COMMIT" } else { "ROLLBACK" });
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

    /// One commit after the other: each finds what those before it have written.
    fn apply(&mut self, connection: &Connection, group: &[Job]) -> Result<Vec<Vec<OutboxId>>, StoreError> {
        let mut ids = Vec::with_capacity(group.len());
        let mut next = match self.next_id {
            Some(id) => id,
            None => first_id(connection)?,
        };
        for job in group {
            let first = next;
            next += OutboxId::try_from(job.commit.outbox.len()).unwrap_or(OutboxId::MAX);
            // Not given again, whatever becomes of the transaction.
            self.next_id = Some(next);
            apply(connection, &job.commit, &job.rows, first, &self.writers, &|point| self.reached(point))?;
            ids.push((first..next).collect());
        }
        Ok(ids)
    }

    /// Tells the probe, and waits for it as long as the store is there.
    fn reached(&self, point: Point) -> Result<(), StoreError> {
        if self.probes.0.is_none() {
            return Ok(());
        }
        self.executor.block_on(async {
            tokio::select! {
                biased;
                () = self.dropped.cancelled() => Err(StoreError::Unavailable("the store was dropped".to_owned())),
                () = self.probes.reached(point) => Ok(()),
            }
        })
    }

    fn connection(&mut self) -> Result<Connection, StoreError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                let connection = self.database.connect_writer(false)?;
                Checkpoints::watch(&connection);
                Ok(connection)
            }
        }
    }

    fn close(&mut self) {
        self.commands.close();
        self.riders.close();
        let group = self.waiting_riders();
        self.commit(group);
        if let Some(checkpoints) = self.checkpoints.take() {
            checkpoints.end();
        }
        if let Some(connection) = self.connection.take()
            && let Err((_, error)) = connection.close()
        {
            tracing::warn!(%error, "the database was not closed properly; nothing is lost");
        }
        drop(self.lock.take());
    }
}

/// About how many rows a commit writes.
fn rows_of(commit: &Commit) -> usize {
    1 + commit.rows.len() + commit.outbox.len() + commit.settled.len() + commit.journal.len()
}

/// The first outbox id that was never given, although the rows of all others may be gone.
fn first_id(connection: &Connection) -> Result<OutboxId, StoreError> {
    let sql = "SELECT 1 + coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'saga_outbox'";
    connection.query_row(sql, [], |row| row.get(0)).map_err(|error| unavailable(&error))
}

fn unavailable(error: &rusqlite::Error) -> StoreError {
    of_statement("the database can not be written", error, StoreError::Unavailable)
}
