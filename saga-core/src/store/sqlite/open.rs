//! Where the database is, how it is opened, and who may open it.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, SqliteConnection, SqlitePool};

use super::error::{of_query, of_statement};
use crate::store::StoreError;

/// How long SQLite waits for a lock that somebody else holds, a backup or a shell; within a request's patience.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reader waits for a connection; beyond the busy timeout, so that the busy database is named.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a database may still be in the hands of a process, or of a store in this one, that is just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Connections for reading: the loops of a runtime and a few queries of the application at a time.
const READERS: u32 = 4;
/// What the writer says to its connection.
///
/// - No checkpoints of its own: see `checkpoint.rs`.
/// - A cache of 16 MB, so that a large group of commits fits, and the pages that every commit touches stay.
const WRITER_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -16000;";
/// Statements kept prepared on a connection: more than there are, those of the application's writers included.
const PREPARED: usize = 256;

/// The place of a database, and how to connect to it.
#[derive(Debug, Clone)]
pub(super) struct Database {
    path: PathBuf,
    options: SqliteConnectOptions,
}

impl Database {
    /// Reads the URL and makes the folder.
    pub(super) fn at(url: &str) -> Result<Self, StoreError> {
        let unusable = |why: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{url:?} is no SQLite database: {why}; expected sqlite://folder/file.db"))
        };
        if !url.starts_with("sqlite:") {
            return Err(unusable(&"the URL does not begin with sqlite:"));
        }
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(unusable(&"it would be lost with the process, and needs a file"));
        }
        let options = url.split_once('?').map_or("", |(_, options)| options);
        if let Some(option) = options.split('&').find(|it| !["", "mode=rw", "mode=rwc"].contains(it)) {
            return Err(unusable(&format_args!("a store does not take the option `{option}`")));
        }
        let options = SqliteConnectOptions::from_str(url).map_err(|error| unusable(&error))?;
        let path = options.get_filename().to_path_buf();
        let name = path.file_name().ok_or_else(|| unusable(&"it names no file"))?.to_owned();
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs::create_dir_all(folder).and_then(|()| folder.canonicalize());
        let path = folder.map_err(|error| unusable(&format!("its folder can not be made: {error}")))?.join(name);
        let options = options
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("temp_store", "MEMORY")
            .statement_cache_capacity(PREPARED)
            .disable_statement_logging();
        Ok(Self { path, options })
    }

    /// Takes the database for this process. A process that dies gives it back.
    pub(super) async fn lock(&self) -> Result<Lock, StoreError> {
        let mut name = OsString::from(&self.path);
        name.push(".lock");
        let (path, file) = (self.path.clone(), PathBuf::from(name));
        // The wait is in real time, on a thread that may wait, whatever clock the tests have given to tokio.
        let taken = tokio::task::spawn_blocking(move || take(&path, &file)).await;
        taken.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("the lock can not be taken: {error}"))))
    }

    /// Opens the database for the writer; it is made if `create` is said and it is not there.
    pub(super) fn connect_writer(&self, create: bool) -> Result<Connection, StoreError> {
        let create = if create { OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::empty() };
        self.open(OpenFlags::SQLITE_OPEN_READ_WRITE | create, WRITER_SETTINGS)
    }

    /// Opens the database for a reader.
    pub(super) fn connect_reader(&self) -> Result<Connection, StoreError> {
        self.open(OpenFlags::SQLITE_OPEN_READ_WRITE, "PRAGMA query_only = ON")
    }

    fn open(&self, flags: OpenFlags, settings: &str) -> Result<Connection, StoreError> {
        let open = || {
            // A connection of ours is on one thread at a time.
            let connection = Connection::open_with_flags(&self.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.execute_batch(settings)?;
            connection.set_prepared_statement_cache_capacity(PREPARED);
            Ok(connection)
        };
        open().map_err(|error: rusqlite::Error| {
            of_statement(format_args!("{} can not be opened", self.path.display()), &error, StoreError::Unavailable)
        })
    }

    /// Opens the database for migrations. The connection holds the lock, too, until its last statement is done.
    pub(super) async fn connect_migrator(&self, lock: &Lock) -> Result<SqliteConnection, StoreError> {
        let failed = |error: sqlx::Error| of_query(format_args!("{} can not be opened", self.path.display()), &error);
        let options = self.options.clone().create_if_missing(false);
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let lock = lock.clone();
        connection.lock_handle().await.map_err(failed)?.set_rollback_hook(move || drop(lock.clone()));
        Ok(connection)
    }

    /// Connections that can only read.
    pub(super) fn readers(&self) -> SqlitePool {
        SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(self.options.clone().create_if_missing(false).pragma("query_only", "ON"))
    }
}

fn take(path: &Path, file: &Path) -> Result<Lock, StoreError> {
    let failed = |error: std::io::Error| {
        StoreError::Unavailable(format!("the lock file {} can not be taken: {error}", file.display()))
    };
    let handle = File::options().create(true).truncate(false).write(true).open(file).map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match handle.try_lock() {
            Ok(()) => return Ok(Lock(Arc::new(handle))),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Unavailable(format!(
                    "{} is in use by another process, which holds {}; one process at a time works on a SQLite \
                     database: stop the other one, or use another file",
                    path.display(),
                    file.display()
                )));
            }
        }
    }
}

/// "This process works on this database"; given back with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] Arc<File>);
