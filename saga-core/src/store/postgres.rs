//! The PostgreSQL store: one database, any number of hosts.

mod apply;
mod audit;
mod connections;
mod domain;
mod encode;
mod error;
mod migrate;
#[cfg(feature = "mutations")]
mod mutated;
mod open;
mod outbox;
mod purge;
mod read;
mod text;
mod transact;
mod watch;

use std::any::TypeId;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::domain::{Writers, erased};
use self::open::{CONNECTIONS, Database};
use self::watch::Host;
use crate::commit::{Commit, DeadLetterRow, JournalRow, Lane, OutboxId, OutboxRow, StoredInstance, TimerRow};
use crate::probe::{Probe, Probes};
use crate::saga::Row;
use crate::store::{Backlog, Change, DeadLetterPage, LoadQuery, Loaded, Old, Page, Store, StoreError};

pub use self::audit::PostgresAudit;
pub use self::domain::PostgresWriter;

/// How long closing waits for each thing that must end: transactions, the lease, connections that were lent. A
/// transaction ends within it unless the server is away.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Builds a [`PostgresStore`].
#[must_use]
pub struct PostgresStoreBuilder {
    url: String,
    host: Option<Uuid>,
    name: String,
    connections: u32,
    writers: Writers,
    probes: Probes,
}

/// Keeps everything in one PostgreSQL database, which any number of hosts share: what was committed survives `kill -9` of
/// host and server, and the loss of either.
///
/// Each commit is one transaction (READ COMMITTED, versions compared) in a task of its own, so a caller who is dropped
/// cancels nothing. Each open store is a host with a lease, which it renews every two seconds: six seconds after a host is
/// lost, others take over the outbox rows that it had. A clone is another handle on the same store; with the last one the
/// lease is no longer renewed.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    watch: Mutex<Option<JoinHandle<()>>>,
    abort: AbortHandle,
}

/// What the store's tasks share.
struct Core {
    database: Database,
    writers: Writers,
    probes: Probes,
    host: Host,
    /// Rows that were taken over and may have been given to nobody.
    adrift: Arc<Mutex<HashSet<OutboxId>>>,
    /// Closed: no more are begun.
    transactions: TaskTracker,
    /// Cancelled when the lease is to end.
    closing: CancellationToken,
}

impl PostgresStoreBuilder {
    /// Registers the writer of the domain rows of one type.
    pub fn writer<R: Row, W: PostgresWriter<R>>(mut self, writer: W) -> Self {
        self.writers.add::<R>(erased(writer));
        self
    }

    /// Who is told of the points inside the transaction, [`Point::InboxWritten`](crate::Point::InboxWritten) and
    /// [`Point::InstanceWritten`](crate::Point::InstanceWritten); nobody if not said.
    pub fn probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes = Probes(Some(probe));
        self
    }

    /// The id of this host, if it has one that outlives its process: then what it left is its own again at once. No two
    /// processes may have one at the same time. A new one if not said.
    pub fn host(mut self, id: Uuid) -> Self {
        self.host = Some(id);
        self
    }

    /// What people call this host, in `saga_hosts` and as the connections' `application_name`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many connections the flow has at the most; 10 if not said, and never less than 2. Beside them there are five
    /// for reading, and one that keeps the lease.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(2);
        self
    }

    /// Opens the store. It connects when it is first used, and again whenever a connection was lost; the tables are not
    /// made, see [`PostgresStore::migrate`].
    ///
    /// What the URL does not say is taken from libpq's variables and `~/.pgpass`. Encryption is `sslmode=verify-full`,
    /// with `sslrootcert=` for a CA of one's own; where nothing is said, the server decides.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the URL is no PostgreSQL database's. It is not repeated: it may hold a password.
    pub async fn open(self) -> Result<PostgresStore, StoreError> {
        let database = Database::at(&self.url, self.connections, &self.name)?;
        let core = Arc::new(Core {
            database,
            writers: self.writers,
            probes: self.probes,
            host: Host::new(self.host.unwrap_or_else(Uuid::now_v7), self.name),
            adrift: Arc::default(),
            transactions: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        let watch = tokio::spawn(watch::run(core.clone()));
        let abort = watch.abort_handle();
        Ok(PostgresStore(Arc::new(Inner { core, watch: Mutex::new(Some(watch)), abort })))
    }
}

impl PostgresStore {
    /// Begins to build a store on the database at `url`, as `postgres://saga@localhost:5432/orders`.
    pub fn builder(url: &str) -> PostgresStoreBuilder {
        PostgresStoreBuilder {
            url: url.to_owned(),
            host: None,
            name: "saga".to_owned(),
            connections: CONNECTIONS,
            writers: Writers::default(),
            probes: Probes::default(),
        }
    }

    /// The migrations of saga-core's own tables, `migrations/postgres/0001_saga.sql`. An application with tables of its
    /// own hands [`migrate`](Self::migrate) a migrator that holds that file and its own.
    pub fn migrator() -> Migrator {
        migrate::migrator()
    }

    /// Applies the migrations that the database does not have. Safe to call at each start, of several hosts at once: one
    /// migrates and the others wait. Where all are applied, no right to change the schema is needed.
    ///
    /// # Errors
    /// When a migration fails (it is rolled back, and holds no lock), or what was applied before is not what the migrator
    /// holds; [`StoreError::Conflict`] when a table is in use for too long, or another host migrates for too long.
    pub async fn migrate(&self, migrator: &Migrator) -> Result<(), StoreError> {
        migrate::run(&self.0.core.database, migrator).await
    }

    /// The versions of the migrator's migrations that the database does not have: none when all is ready.
    ///
    /// # Errors
    /// When the database can not be read.
    pub async fn pending_migrations(&self, migrator: &Migrator) -> Result<Vec<i64>, StoreError> {
        migrate::pending(&self.0.core.database, migrator).await
    }

    /// Whether the database answers, and the store was not closed.
    ///
    /// # Errors
    /// Says what is wrong.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let core = &self.0.core;
        if core.transactions.is_closed() {
            return Err(closed());
        }
        let what = format!("the database {} does not answer", core.database.place());
        core.database.look(&what, sqlx::query("SELECT")).await.map(drop)
    }

    /// Connections for the application's own queries. They can not write; what a commit wrote is seen as soon as it
    /// has returned.
    pub fn reader(&self) -> PgPool {
        self.0.core.database.readers.clone()
    }

    /// The id under which this host's outbox rows are known.
    pub fn host_id(&self) -> Uuid {
        self.0.core.host.id
    }

    /// Finishes the commits that were begun, gives this host's outbox rows to the others at once, and closes the
    /// connections. Commits that come later are refused.
    pub async fn close(&self) {
        let core = &self.0.core;
        core.transactions.close();
        in_time("transactions have not ended", core.transactions.wait()).await;
        core.closing.cancel();
        if let Some(watch) = self.0.watch.lock().await.take() {
            in_time("the lease has not ended", watch).await;
        }
        in_time("connections have not come back", core.database.close()).await;
    }
}

/// What is waited for when the store is closed must not hold the process up.
async fn in_time<T>(what: &str, ending: impl Future<Output = T>) {
    if tokio::time::timeout(CLOSE_TIMEOUT, ending).await.is_err() {
        tracing::warn!("{what} within {CLOSE_TIMEOUT:?}; closing the store without");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        read::load(&self.0.core.database, query).await
    }

    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        let core = &self.0.core;
        core.writers.check(&commit)?;
        transact::unhurried(core, transact::commit(core.clone(), commit)).await
    }

    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        outbox::sweep(&self.0.core, None, after, limit).await
    }

    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        outbox::sweep(&self.0.core, Some(lane), after, limit).await
    }

    async fn take_over(&self, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        outbox::take_over(&self.0.core, limit).await
    }

    async fn changed(&self) -> Change {
        self.0.core.host.changed().await
    }

    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError> {
        purge::purge(&self.0.core.database, old, limit).await
    }

    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError> {
        read::due_timers(&self.0.core.database, now, limit).await
    }

    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        read::next_due_after(&self.0.core.database, after).await
    }

    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
        read::instance(&self.0.core.database, saga, id).await
    }

    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
        read::journal(&self.0.core.database, saga, id).await
    }

    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
        read::dead_letters(&self.0.core.database, page).await
    }

    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        read::dead_letter(&self.0.core.database, id).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        read::backlog(&self.0.core.database).await
    }

    fn writes(&self, row: TypeId) -> bool {
        self.0.core.writers.contains(row)
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store was closed".to_owned())
}
