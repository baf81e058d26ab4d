//! The SQLite store: one file, one process, one writer, no server.

mod apply;
mod audit;
mod checkpoint;
mod domain;
mod encode;
mod error;
mod load;
mod migrate;
#[cfg(feature = "mutations")]
mod mutated;
mod open;
mod purge;
mod read;
mod text;
mod writer;

use std::any::TypeId;
use std::fmt::Display;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::{Connection, SqlitePool};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::checkpoint::Checkpoints;
use self::domain::{Writers, erased};
use self::encode::Encoded;
use self::load::Loader;
use self::open::{Database, Lock};
use self::writer::{Answer, Command, Job, Purge, RIDE, WAITING, Writer};
use crate::commit::{Commit, DeadLetterRow, JournalRow, Lane, OutboxId, OutboxRow, StoredInstance, TimerRow};
use crate::probe::{Probe, Probes};
use crate::saga::Row;
use crate::store::{Backlog, DeadLetterPage, LoadQuery, Loaded, Old, Page, Store, StoreError};

pub use self::audit::SqliteAudit;
pub use self::domain::SqliteWriter;

/// Builds a [`SqliteStore`].
#[must_use]
pub struct SqliteStoreBuilder {
    url: String,
    writers: Writers,
    probes: Probes,
}

/// Keeps everything in one SQLite database (WAL, `synchronous=FULL`): what was committed survives `kill -9` and a loss
/// of power.
///
/// One process at a time works on a database; the others are refused when they open it. Within the process one thread
/// writes, and commits in one transaction whatever is waiting; readers never wait for it. A clone is another handle on
/// the same store; with the last one the thread ends, and a commit that nobody waits for any more may be lost with it.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    database: Database,
    /// Held while migrations run, so that they run one after another; empty when the store was closed.
    lock: Mutex<Option<Lock>>,
    readers: SqlitePool,
    loader: Loader,
    writers: Arc<Writers>,
    commands: mpsc::Sender<Command>,
    /// Commits that wait for the next transaction.
    riders: mpsc::UnboundedSender<Job>,
    /// Cancelled when the last handle is gone.
    dropped: CancellationToken,
}

impl SqliteStoreBuilder {
    /// Registers the writer of the domain rows of one type.
    pub fn writer<R: Row, W: SqliteWriter<R>>(mut self, writer: W) -> Self {
        self.writers.add::<R>(erased(writer));
        self
    }

    /// Who is told of the points inside the transaction, [`Point::InboxWritten`](crate::Point::InboxWritten) and
    /// [`Point::InstanceWritten`](crate::Point::InstanceWritten); nobody if not said.
    pub fn probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes = Probes(Some(probe));
        self
    }

    /// Opens the database, and takes it for this process. File and folder are made if they are not there; the tables
    /// are not, see [`SqliteStore::migrate`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the URL is no SQLite file's, the file can not be opened, or another process
    /// works on it; [`StoreError::Corrupt`] when the file is no database.
    pub async fn open(self) -> Result<SqliteStore, StoreError> {
        let database = Database::at(&self.url)?;
        let lock = database.lock().await?;
        let opening = database.clone();
        let connection = tokio::task::spawn_blocking(move || opening.connect_writer(true)).await;
        let connection = connection.unwrap_or_else(|error| Err(not_started(&error)))?;
        let readers = database.readers();
        let loader = Loader::new(database.clone());
        let writers = Arc::new(self.writers);
        let (commands, receiver) = mpsc::channel(WAITING);
        let (riders, waiting) = mpsc::unbounded_channel();
        let dropped = CancellationToken::new();
        let checkpoints = Checkpoints::start(database.clone(), lock.clone()).map_err(|error| not_started(&error))?;
        let writer = Writer {
            database: database.clone(),
            writers: writers.clone(),
            probes: self.probes,
            commands: receiver,
            riders: waiting,
            connection: Some(connection),
            dropped: dropped.clone(),
            checkpoints: Some(checkpoints),
            executor: Handle::current(),
            next_id: None,
            lock: Some(lock.clone()),
        };
        let thread = thread::Builder::new().name("saga-sqlite-writer".to_owned());
        thread.spawn(move || writer.run()).map_err(|error| not_started(&error))?;
        let lock = Mutex::new(Some(lock));
        Ok(SqliteStore(Arc::new(Inner { database, lock, readers, loader, writers, commands, riders, dropped })))
    }
}

impl SqliteStore {
    /// Begins to build a store on the database at `url`, as `sqlite://data/orders.db`.
    pub fn builder(url: &str) -> SqliteStoreBuilder {
        SqliteStoreBuilder { url: url.to_owned(), writers: Writers::default(), probes: Probes::default() }
    }

    /// The migrations of saga-core's own tables, `migrations/sqlite/0001_saga.sql`. An application with tables of its
    /// own hands [`migrate`](Self::migrate) a migrator that holds that file and its own.
    pub fn migrator() -> Migrator {
        migrate::migrator()
    }

    /// Applies the migrations that the database does not have. Safe to call at each start.
    ///
    /// # Errors
    /// When a migration fails (it is rolled back), or what was applied before is not what the migrator holds.
    pub async fn migrate(&self, migrator: &Migrator) -> Result<(), StoreError> {
        let lock = self.0.lock.lock().await;
        let mut connection = self.0.database.connect_migrator(lock.as_ref().ok_or_else(closed)?).await?;
        migrate::run(migrator, &mut connection).await?;
        connection.close().await.map_err(|error| error::of_query("the database can not be closed", &error))
    }

    /// The versions of the migrator's migrations that the database does not have: none when all is ready.
    ///
    /// # Errors
    /// When the database can not be read.
    pub async fn pending_migrations(&self, migrator: &Migrator) -> Result<Vec<i64>, StoreError> {
        let reader = self.0.readers.acquire().await;
        let mut reader = reader.map_err(|error| error::of_query("the database can not be read", &error))?;
        migrate::pending(migrator, &mut reader).await
    }

    /// Whether the database answers and the writer is at work.
    ///
    /// # Errors
    /// Says what is wrong.
    pub async fn ping(&self) -> Result<(), StoreError> {
        if self.0.commands.is_closed() {
            return Err(closed());
        }
        let answer = sqlx::query("SELECT 1").execute(&self.0.readers).await;
        answer.map(drop).map_err(|error| error::of_query("the database does not answer", &error))
    }

    /// Connections for the application's own queries. They can not write; what a commit wrote is seen as soon as it
    /// has returned.
    pub fn reader(&self) -> SqlitePool {
        self.0.readers.clone()
    }

    /// Finishes the commits that were handed over, closes the database and gives it back to other processes. Commits
    /// that come later are refused.
    pub async fn close(&self) {
        let (closed, is_closed) = oneshot::channel();
        if self.0.commands.send(Command::Close(closed)).await.is_ok() {
            is_closed.await.ok();
        }
        self.0.readers.close().await;
        self.0.loader.close();
        self.0.lock.lock().await.take();
    }

    /// Commits with the next transaction, or alone where none comes. Where the caller goes away, it is carried out with
    /// the next transaction or at the close.
    async fn ride(&self, job: Job, mut answer: Answer) -> Result<Vec<OutboxId>, StoreError> {
        self.0.riders.send(job).map_err(|_| closed())?;
        // Real time: a matter of the machine's pace, and of nothing that happens.
        let answered = match timeout(RIDE, &mut answer).await {
            Ok(answered) => answered,
            Err(_) => {
                // A writer that takes no more commands has taken it along, or drops it.
                self.0.commands.send(Command::Depart).await.ok();
                answer.await
            }
        };
        answered.map_err(|_| closed())?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.dropped.cancel();
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        self.0.loader.load(query).await
    }

    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        self.0.writers.check(&commit)?;
        let (reply, answer) = oneshot::channel();
        let rows = Encoded::of(&commit);
        let rides = commit.settles_only();
        let job = Job { commit, rows, reply };
        if rides {
            return self.ride(job, answer).await;
        }
        self.0.commands.send(Command::Commit(job)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        read::outbox(&self.0.readers, None, after, limit).await
    }

    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        read::outbox(&self.0.readers, Some(lane), after, limit).await
    }

    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError> {
        let bite = purge::find(&self.0.readers, old, limit).await?;
        let Some(keys) = bite.keys else { return Ok(false) };
        let (reply, answer) = oneshot::channel();
        let command = Command::Purge(Purge { sql: bite.sql, keys, reply });
        self.0.commands.send(command).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())??;
        Ok(bite.is_full)
    }

    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError> {
        read::due_timers(&self.0.readers, now, limit).await
    }

    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        read::next_due_after(&self.0.readers, after).await
    }

    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
        read::instance(&self.0.readers, saga, id).await
    }

    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
        read::journal(&self.0.readers, saga, id).await
    }

    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
        read::dead_letters(&self.0.readers, page).await
    }

    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        read::dead_letter(&self.0.readers, id).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        read::backlog(&self.0.readers).await
    }

    fn writes(&self, row: TypeId) -> bool {
        self.0.writers.contains(row)
    }
}

fn not_started(error: &dyn Display) -> StoreError {
    StoreError::Unavailable(format!("the writer can not be started: {error}"))
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store was closed".to_owned())
}
