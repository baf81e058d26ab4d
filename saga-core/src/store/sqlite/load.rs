//! What a batch must know before it steps: read by id, row by row, on connections of its own that call SQLite directly.
//! Over the pool each row would cost more on its way between two threads than in the database.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::closed;
use super::error::of_statement;
use super::open::{BUSY_TIMEOUT, Database};
use super::text;
use crate::commit::StoredInstance;
use crate::message::Body;
use crate::store::{LoadQuery, Loaded, StoreError};

const HANDLED: &str = "SELECT 1 FROM saga_inbox WHERE message_id = ? AND endpoint = ?";

const INSTANCE: &str = "SELECT version, state, data, timers, retry_count, fault, created_at, updated_at
     FROM saga_instances WHERE id = ? AND saga = ?";

/// Loads that run at the same time; another waits for its turn. A few more than a process has endpoints, because each load
/// takes a thread, a connection and its two files.
const LOADS: usize = 16;

/// So few keys are read on the thread that asks, a worker of the application: tens of microseconds where the pages are in
/// memory, less than the way to another thread and back. A lone message has two, and waits for them at each of its steps.
const FEW: usize = 4;

/// Connections that only read, as many as loads have run at the same time.
#[derive(Clone)]
pub(super) struct Loader {
    database: Database,
    places: Arc<Semaphore>,
    /// Absent when the store was closed.
    idle: Arc<Mutex<Option<Vec<Connection>>>>,
}

impl Loader {
    pub(super) fn new(database: Database) -> Self {
        Self { database, places: Arc::new(Semaphore::new(LOADS)), idle: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    /// Reads a few keys at once, and more on a thread that may wait.
    pub(super) async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        if query.messages.len() + query.instances.len() <= FEW
            && let Some(loaded) = self.read_at_once(query)
        {
            return Ok(loaded);
        }
        let place = self.places.clone().acquire_owned().await.map_err(|_| closed())?;
        let loader = self.clone();
        let (endpoint, saga) = (query.endpoint.to_owned(), query.saga.to_owned());
        let (messages, instances) = (query.messages.to_vec(), query.instances.to_vec());
        let loaded = tokio::task::spawn_blocking(move || {
            let _place = place;
            let idle = loader.lock().as_mut().map(Vec::pop);
            let connection = idle.ok_or_else(closed)?.map_or_else(|| loader.database.connect_reader(), Ok)?;
            let query = LoadQuery { endpoint: &endpoint, messages: &messages, saga: &saga, instances: &instances };
            let loaded = read(&connection, &query);
            if loaded.is_ok() {
                loader.put_back(connection);
            }
            loaded
        });
        let ended = |error| Err(StoreError::Unavailable(format!("the load did not end: {error}")));
        loaded.await.unwrap_or_else(ended)
    }

    /// Reads on this thread, if nothing has to be waited for: neither a connection nor a lock.
    fn read_at_once(&self, query: &LoadQuery<'_>) -> Option<Loaded> {
        let connection = self.lock().as_mut()?.pop()?;
        connection.busy_timeout(Duration::ZERO).ok()?;
        let loaded = read(&connection, query).ok()?;
        connection.busy_timeout(BUSY_TIMEOUT).ok()?;
        self.put_back(connection);
        Some(loaded)
    }

    /// Closes the connections; loads that come later are refused.
    pub(super) fn close(&self) {
        self.lock().take();
    }

    /// Keeps a sound connection for the next load.
    fn put_back(&self, connection: Connection) {
        if let Some(idle) = &mut *self.lock() {
            idle.push(connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of it from one snapshot; a transaction also saves SQLite a lock for each statement.
fn read(connection: &Connection, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
    let execute = |sql: &'static str| {
        let executed = connection.prepare_cached(sql).and_then(|mut it| it.execute([]));
        executed.map_err(|error| failed("the database can not be read", &error))
    };
    execute("BEGIN")?;
    let loaded = Loaded {
        handled: handled(connection, query.endpoint, query.messages)?,
        instances: read_instances(connection, query.saga, query.instances)?,
    };
    execute("COMMIT")?;
    Ok(loaded)
}

fn handled(connection: &Connection, endpoint: &str, messages: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let failed = |error: rusqlite::Error| failed("the inbox can not be read", &error);
    let mut found = HashSet::new();
    if messages.is_empty() {
        return Ok(found);
    }
    let mut select = connection.prepare_cached(HANDLED).map_err(failed)?;
    for id in messages {
        if select.exists((text::id(*id), endpoint)).map_err(failed)? {
            found.insert(*id);
        }
    }
    Ok(found)
}

fn read_instances(
    connection: &Connection,
    saga: &str,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, StoredInstance>, StoreError> {
    let failed = |error: rusqlite::Error| failed("the instances can not be read", &error);
    let mut found = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(found);
    }
    let mut select = connection.prepare_cached(INSTANCE).map_err(failed)?;
    for id in ids {
        let stored = select.query_row((text::id(*id), saga), |row| Ok(instance(*id, row))).optional();
        if let Some(stored) = stored.map_err(failed)? {
            found.insert(*id, stored?);
        }
    }
    Ok(found)
}

fn instance(id: Uuid, row: &Row<'_>) -> Result<StoredInstance, StoreError> {
    const TABLE: &str = "saga_instances";
    let corrupt = |error: rusqlite::Error| StoreError::Corrupt(format!("{TABLE}: {error}"));
    let time = |index| -> Result<DateTime<Utc>, StoreError> {
        let value = row.get_ref(index).map_err(corrupt)?;
        text::read_time(value.as_str().map_err(|error| corrupt(error.into()))?, TABLE)
    };
    let body = |index| -> Result<Body, StoreError> {
        let json: String = row.get(index).map_err(corrupt)?;
        Body::from_json(json).map_err(|error| StoreError::Corrupt(format!("{TABLE} holds no JSON: {error}")))
    };
    Ok(StoredInstance {
        id,
        version: text::read_number(row.get(0).map_err(corrupt)?, TABLE)?,
        state: row.get(1).map_err(corrupt)?,
        data: body(2)?,
        timers: body(3)?,
        retry_count: text::read_number(row.get(4).map_err(corrupt)?, TABLE)?,
        fault: row.get(5).map_err(corrupt)?,
        created_at: time(6)?,
        updated_at: time(7)?,
    })
}

fn failed(what: &str, error: &rusqlite::Error) -> StoreError {
    of_statement(what, error, StoreError::Unavailable)
}
