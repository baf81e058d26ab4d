//! What a transaction writes: the parts of its commits, in the order in which `Commit` declares them.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::domain::Writers;
use super::encode::{Encoded, SqliteCells};
use super::error::{of_statement, of_writer};
use super::text;
use super::values::SqliteRows;
use crate::commit::{Commit, FaultMark, InboxRow, Mark, OutboxId};
use crate::mutation::{Mutation, is_out};
use crate::probe::{Point, Probes};
use crate::store::StoreError;

static INBOX: SqliteRows =
    SqliteRows::new("INSERT OR FAIL INTO saga_inbox (message_id, endpoint, handled_at)", "(?,?,?)", "");

static NEW_INSTANCES: SqliteRows = SqliteRows::new(
    "INSERT OR FAIL INTO saga_instances (id, saga, version, state, data, timers, created_at, updated_at)",
    "(?,?,?,?,?,?,?,?)",
    "",
);

static INSTANCES: SqliteRows = SqliteRows::new(
    "WITH new (id, saga, expected, version, state, data, timers, at) AS (",
    "(?,?,?,?,?,?,?,?)",
    ") UPDATE OR FAIL saga_instances AS old SET version = new.version, state = new.state, data = new.data,
         timers = new.timers, updated_at = new.at
       FROM new WHERE old.id = new.id AND old.saga = new.saga AND old.version = new.expected",
);

static MARKS: SqliteRows = SqliteRows::new(
    "WITH mark (id, saga, retries, touches_fault, fault) AS (",
    "(?,?,?,?,?)",
    ") UPDATE OR FAIL saga_instances AS it SET retry_count = it.retry_count + mark.retries,
         fault = CASE WHEN mark.touches_fault THEN mark.fault ELSE it.fault END
       FROM mark WHERE it.id = mark.id AND it.saga = mark.saga",
);

static JOURNAL: SqliteRows = SqliteRows::new(
    "INSERT OR FAIL INTO saga_journal (instance_id, saga, version, endpoint, message_id, message_type, message,
       conversation_id, initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at)",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "",
);

static TIMERS: SqliteRows = SqliteRows::new(
    "INSERT OR REPLACE INTO saga_timers
       (token, kind, endpoint, due, message_id, message_type, envelope, created_at)",
    "(?,?,?,?,?,?,?,?)",
    "",
);

static OUTBOX: SqliteRows = SqliteRows::new(
    "INSERT OR FAIL INTO saga_outbox (message_id, message_type, destination, envelope, created_at, id)",
    "(?,?,?,?,?,?)",
    "",
);

static DEAD_LETTERS: SqliteRows = SqliteRows::new(
    "INSERT OR REPLACE INTO saga_dead_letters
       (id, endpoint, saga, reason, error, attempts, message_id, message_type, envelope, at)",
    "(?,?,?,?,?,?,?,?,?,?)",
    "",
);

const DELETE_TIMERS: &str = "DELETE FROM saga_timers WHERE token IN (SELECT value FROM json_each(?))";

/// The commits of one transaction, and their rows as SQLite takes them.
pub(super) struct Group<'a> {
    commits: &'a [Arc<Commit>],
    rows: Encoded,
}

impl<'a> Group<'a> {
    /// `rows` are those of the commits, in their order.
    pub(super) fn new(commits: &'a [Arc<Commit>], rows: Encoded) -> Self {
        Self { commits, rows }
    }

    /// One part of all commits.
    fn part<T>(&self, part: impl Fn(&'a Commit) -> &'a [T]) -> Vec<&'a T> {
        self.commits.iter().flat_map(|commit| part(commit)).collect()
    }
}

/// Writes the commits into the transaction that is open on the connection; `first` is the id of the first outbox row.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    mut group: Group<'_>,
    first: OutboxId,
    writers: &Writers,
    probes: &Probes,
) -> Result<(), StoreError> {
    redrive(connection, &group).await?;
    handle(connection, &mut group, probes).await?;
    move_instances(connection, &mut group, probes).await?;
    let refused = |what| move |error: sqlx::Error| of_statement(what, &error, StoreError::Rejected);
    let Encoded { journal, timers, outbox, dead_letters, .. } = std::mem::take(&mut group.rows);

    let marks = merge(group.part(|it| &it.marks));
    MARKS.execute(connection, marks).await.map_err(refused("an instance can not be marked"))?;
    JOURNAL.execute(connection, journal).await.map_err(refused("the journal can not be written"))?;
    writers.write(connection, group.commits.iter().flat_map(|commit| &commit.rows), of_writer).await?;
    TIMERS.execute(connection, timers).await.map_err(refused("a timer can not be written"))?;
    delete(
        connection,
        DELETE_TIMERS,
        group.part(|it| &it.cancelled).into_iter().map(|token| format!("\"{}\"", text::id(*token))),
    )
    .await?;
    fire(connection, &group).await?;
    OUTBOX.execute(connection, with_ids(outbox, first)).await.map_err(refused("the outbox can not be written"))?;
    delete(
        connection,
        "DELETE FROM saga_outbox WHERE id IN (SELECT value FROM json_each(?))",
        group.part(|it| &it.settled).into_iter().map(OutboxId::to_string),
    )
    .await?;
    DEAD_LETTERS.execute(connection, dead_letters).await.map_err(refused("a dead letter can not be written"))?;
    Ok(())
}

/// Gives each row of the outbox its id, behind its other values.
fn with_ids(outbox: SqliteCells, first: OutboxId) -> SqliteCells {
    let columns = OUTBOX.columns() - 1;
    let mut ids = first..;
    let mut rows = SqliteCells::with_capacity(outbox.len() / columns * OUTBOX.columns());
    for (index, cell) in outbox.into_iter().enumerate() {
        rows.push(cell);
        if (index + 1) % columns == 0 {
            rows.push(ids.next().into());
        }
    }
    rows
}

async fn redrive(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<(), StoreError> {
    forget(connection, group.part(|it| &it.forgotten)).await?;
    for commit in group.commits.iter().filter(|commit| !commit.redriven.is_empty()) {
        let redriven = sqlx::query(
            "UPDATE saga_dead_letters SET redriven_at = ?
             WHERE redriven_at IS NULL AND id IN (SELECT value FROM json_each(?))",
        )
        .bind(text::time(commit.at))
        .bind(text::ids(&commit.redriven))
        .execute(&mut *connection)
        .await
        .map_err(|error| of_statement("a dead letter can not be redriven", &error, StoreError::Conflict))?;
        if redriven.rows_affected() != commit.redriven.len() as u64 {
            let text = match &commit.redriven[..] {
                [id] => format!("dead letter {id} is not there, or was redriven before"),
                ids => format!("one of {} dead letters is not there, or was redriven before", ids.len()),
            };
            return Err(StoreError::Conflict(text));
        }
    }
    Ok(())
}

async fn forget(connection: &mut SqliteConnection, rows: Vec<&InboxRow>) -> Result<(), StoreError> {
    let keys = rows.into_iter().map(|row| {
        serde_json::Value::from_iter([text::id(row.message_id).to_string(), row.endpoint.to_string()]).to_string()
    });
    let sql = "DELETE FROM saga_inbox WHERE (message_id, endpoint) IN
       (SELECT value ->> 0, value ->> 1 FROM json_each(?))";
    delete(connection, sql, keys).await.map(drop)
}

async fn handle(connection: &mut SqliteConnection, group: &mut Group<'_>, probes: &Probes) -> Result<(), StoreError> {
    let rows = std::mem::take(&mut group.rows.inbox);
    if rows.is_empty() {
        return Ok(());
    }
    if is_out(Mutation::InboxCheck) {
        forget(connection, group.part(|it| &it.inbox)).await?;
    }
    INBOX
        .execute(connection, rows)
        .await
        .map_err(|error| of_statement("one of the messages was handled before", &error, StoreError::Conflict))?;
    probes.reached(Point::InboxWritten).await;
    Ok(())
}

async fn move_instances(
    connection: &mut SqliteConnection,
    group: &mut Group<'_>,
    probes: &Probes,
) -> Result<(), StoreError> {
    let new = std::mem::take(&mut group.rows.new_instances);
    let old = std::mem::take(&mut group.rows.instances);
    if new.is_empty() && old.is_empty() {
        return Ok(());
    }
    NEW_INSTANCES.execute(connection, new).await.map_err(|error| {
        of_statement("an instance that was to be new is there already", &error, StoreError::Conflict)
    })?;
    let expected = (old.len() / INSTANCES.columns()) as u64;
    #[cfg(feature = "mutations")]
    super::mutated::expect_any_version(connection, &group.part(|it| &it.instances)).await?;
    let moved = INSTANCES
        .execute(connection, old)
        .await
        .map_err(|error| of_statement("an instance can not be written", &error, StoreError::Conflict))?;
    if moved != expected {
        let rows = group.part(|it| &it.instances);
        let which = match &rows[..] {
            [it] => format!(": {} {} was expected at version {}", it.saga, it.id, it.expected),
            _ => String::new(),
        };
        return Err(StoreError::Conflict(format!("{} of {expected} instances have moved{which}", expected - moved)));
    }
    probes.reached(Point::InstanceWritten).await;
    Ok(())
}

/// Removes the timers that fire; each must be there.
async fn fire(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<(), StoreError> {
    let fired = group.part(|it| &it.fired);
    let expected = fired.len() as u64;
    let tokens = fired.into_iter().map(|token| format!("\"{}\"", text::id(*token)));
    let found = delete(connection, DELETE_TIMERS, tokens).await?;
    if found == expected || is_out(Mutation::FiredOnce) {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("{} of {expected} timers were cancelled, or have fired before", expected - found)))
}

/// Deletes the rows whose keys are given as JSON, and says how many were there.
async fn delete(
    connection: &mut SqliteConnection,
    sql: &'static str,
    keys: impl ExactSizeIterator<Item = String>,
) -> Result<u64, StoreError> {
    if keys.len() == 0 {
        return Ok(0);
    }
    let deleted = sqlx::query(sql).bind(text::list(keys)).execute(connection).await;
    let deleted = deleted.map_err(|error| of_statement("rows can not be removed", &error, StoreError::Rejected))?;
    Ok(deleted.rows_affected())
}

/// One mark for each instance, because an update takes each row once: retries added up, the last word on the fault.
fn merge(marks: Vec<&Mark>) -> SqliteCells {
    let mut places: HashMap<(&str, Uuid), usize> = HashMap::new();
    let mut merged: Vec<(Uuid, &str, u32, &FaultMark)> = Vec::new();
    for mark in marks {
        let place = *places.entry((&mark.saga, mark.id)).or_insert(merged.len());
        match merged.get_mut(place) {
            None => merged.push((mark.id, &mark.saga, mark.retries, &mark.fault)),
            Some((_, _, retries, fault)) => {
                *retries = retries.saturating_add(mark.retries);
                if mark.fault != FaultMark::Keep {
                    *fault = &mark.fault;
                }
            }
        }
    }
    let cells = |(id, saga, retries, fault): (Uuid, &str, u32, &FaultMark)| {
        let text = if let FaultMark::Set(fault) = fault { Some(fault.as_str()) } else { None };
        let touches = i64::from(*fault != FaultMark::Keep);
        [id.into(), saga.into(), i64::from(retries).into(), touches.into(), text.into()]
    };
    merged.into_iter().flat_map(cells).collect()
}
