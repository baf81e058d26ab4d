//! What a transaction writes: the parts of its commits, in the order in which `Commit` declares them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::domain::Writers;
use super::error::of_statement;
use super::text;
use super::values::{Statement, Values};
use crate::commit::{
    Commit, DeadLetterRow, FaultMark, InboxRow, InstanceRow, JournalRow, Mark, OutboxId, OutboxRow, TimerRow,
};
use crate::message::Body;
use crate::probe::{Point, Probes};
use crate::store::StoreError;

// `OR FAIL`, because the whole transaction is rolled back whenever a statement fails: SQLite then need not write down,
// page by page, how to take back the statement alone, which was a tenth of all its work.

static INBOX: Values = Values::new("INSERT OR FAIL INTO saga_inbox (message_id, endpoint, handled_at)", "(?,?,?)", "");

static NEW_INSTANCES: Values = Values::new(
    "INSERT OR FAIL INTO saga_instances (id, saga, version, state, data, timers, created_at, updated_at)",
    "(?,?,?,?,?,?,?,?)",
    "",
);

static INSTANCES: Values = Values::new(
    "WITH new (id, saga, expected, version, state, data, timers, at) AS (",
    "(?,?,?,?,?,?,?,?)",
    ") UPDATE OR FAIL saga_instances AS old SET version = new.version, state = new.state, data = new.data,
         timers = new.timers, updated_at = new.at
       FROM new WHERE old.id = new.id AND old.saga = new.saga AND old.version = new.expected",
);

static MARKS: Values = Values::new(
    "WITH mark (id, saga, retries, touches_fault, fault) AS (",
    "(?,?,?,?,?)",
    ") UPDATE OR FAIL saga_instances AS it SET retry_count = it.retry_count + mark.retries,
         fault = CASE WHEN mark.touches_fault THEN mark.fault ELSE it.fault END
       FROM mark WHERE it.id = mark.id AND it.saga = mark.saga",
);

static JOURNAL: Values = Values::new(
    "INSERT OR FAIL INTO saga_journal (instance_id, saga, version, endpoint, message_id, message_type, message,
       conversation_id, initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at)",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "",
);

static TIMERS: Values = Values::new(
    "INSERT OR REPLACE INTO saga_timers
       (token, kind, endpoint, due, message_id, message_type, envelope, created_at)",
    "(?,?,?,?,?,?,?,?)",
    "",
);

static OUTBOX: Values = Values::new(
    "INSERT OR FAIL INTO saga_outbox (id, message_id, message_type, destination, envelope, created_at)",
    "(?,?,?,?,?,?)",
    "",
);

static DEAD_LETTERS: Values = Values::new(
    "INSERT OR REPLACE INTO saga_dead_letters
       (id, endpoint, saga, reason, error, attempts, message_id, message_type, envelope, at)",
    "(?,?,?,?,?,?,?,?,?,?)",
    "",
);

/// The commits of one transaction, each with its time as text.
pub(super) struct Group<'a>(Vec<(String, &'a Commit)>);

impl<'a> Group<'a> {
    pub(super) fn new(commits: &'a [Arc<Commit>]) -> Self {
        Self(commits.iter().map(|commit| (text::time(commit.at), &**commit)).collect())
    }

    /// The rows of one part of all commits, each with the time of its commit.
    fn part<T>(&self, part: impl Fn(&'a Commit) -> &'a [T]) -> Vec<(&str, &'a T)> {
        self.0.iter().flat_map(|(at, commit)| part(commit).iter().map(|row| (at.as_str(), row))).collect()
    }
}

/// Writes the commits into the transaction that is open on the connection; `first` is the id of the first outbox row.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    group: &Group<'_>,
    first: OutboxId,
    writers: &Writers,
    probes: &Probes,
) -> Result<(), StoreError> {
    redrive(connection, group).await?;
    handle(connection, group, probes).await?;
    move_instances(connection, group, probes).await?;
    let refused = |what| move |error: sqlx::Error| of_statement(what, &error, StoreError::Rejected);

    let marks = merge(group.part(|it| &it.marks));
    MARKS.execute(connection, marks, bind_mark).await.map_err(refused("an instance can not be marked"))?;
    let journal = group.part(|it| &it.journal);
    JOURNAL.execute(connection, journal, bind_journal).await.map_err(refused("the journal can not be written"))?;
    writers.write(connection, group.0.iter().flat_map(|(_, commit)| &commit.rows)).await?;
    let timers = group.part(|it| &it.timers);
    TIMERS.execute(connection, timers, bind_timer).await.map_err(refused("a timer can not be written"))?;
    delete(
        connection,
        "DELETE FROM saga_timers WHERE token IN (SELECT value FROM json_each(?))",
        group.part(|it| &it.cancelled).into_iter().map(|(_, token)| format!("\"{}\"", text::id(*token))),
    )
    .await?;
    let outbox = group.part(|it| &it.outbox).into_iter().zip(first..).collect();
    OUTBOX.execute(connection, outbox, bind_outbox).await.map_err(refused("the outbox can not be written"))?;
    delete(
        connection,
        "DELETE FROM saga_outbox WHERE id IN (SELECT value FROM json_each(?))",
        group.part(|it| &it.settled).into_iter().map(|(_, id)| id.to_string()),
    )
    .await?;
    let dead = group.part(|it| &it.dead_letters);
    DEAD_LETTERS
        .execute(connection, dead, bind_dead_letter)
        .await
        .map_err(refused("a dead letter can not be written"))?;
    Ok(())
}

async fn redrive(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<(), StoreError> {
    delete(
        connection,
        "DELETE FROM saga_inbox WHERE (message_id, endpoint) IN
           (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
        group.part(|it| &it.forgotten).into_iter().map(|(_, row)| {
            serde_json::Value::from_iter([text::id(row.message_id).to_string(), row.endpoint.to_string()]).to_string()
        }),
    )
    .await?;
    for (at, commit) in group.0.iter().filter(|(_, commit)| !commit.redriven.is_empty()) {
        let redriven = sqlx::query(
            "UPDATE saga_dead_letters SET redriven_at = ?
             WHERE redriven_at IS NULL AND id IN (SELECT value FROM json_each(?))",
        )
        .bind(at)
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

async fn handle(connection: &mut SqliteConnection, group: &Group<'_>, probes: &Probes) -> Result<(), StoreError> {
    let rows = group.part(|it| &it.inbox);
    if rows.is_empty() {
        return Ok(());
    }
    INBOX
        .execute(connection, rows, bind_inbox)
        .await
        .map_err(|error| of_statement("one of the messages was handled before", &error, StoreError::Conflict))?;
    probes.reached(Point::InboxWritten).await;
    Ok(())
}

async fn move_instances(
    connection: &mut SqliteConnection,
    group: &Group<'_>,
    probes: &Probes,
) -> Result<(), StoreError> {
    let (new, old): (Vec<_>, Vec<_>) = group.part(|it| &it.instances).into_iter().partition(|(_, it)| it.expected == 0);
    if new.is_empty() && old.is_empty() {
        return Ok(());
    }
    NEW_INSTANCES.execute(connection, new, bind_new_instance).await.map_err(|error| {
        of_statement("an instance that was to be new is there already", &error, StoreError::Conflict)
    })?;
    let expected = old.len() as u64;
    let example = old.first().map(|(_, it)| (it.saga, it.id, it.expected));
    let moved = INSTANCES
        .execute(connection, old, bind_instance)
        .await
        .map_err(|error| of_statement("an instance can not be written", &error, StoreError::Conflict))?;
    if moved != expected {
        let which = example.map_or_else(String::new, |(saga, id, version)| {
            if expected == 1 { format!(": {saga} {id} was expected at version {version}") } else { String::new() }
        });
        return Err(StoreError::Conflict(format!("{} of {expected} instances have moved{which}", expected - moved)));
    }
    probes.reached(Point::InstanceWritten).await;
    Ok(())
}

/// Deletes the rows whose keys are given as JSON; one that is not there is no mistake.
async fn delete(
    connection: &mut SqliteConnection,
    sql: &'static str,
    keys: impl ExactSizeIterator<Item = String>,
) -> Result<(), StoreError> {
    if keys.len() == 0 {
        return Ok(());
    }
    let deleted = sqlx::query(sql).bind(text::list(keys)).execute(connection).await;
    deleted.map(drop).map_err(|error| of_statement("rows can not be removed", &error, StoreError::Rejected))
}

/// One mark for each instance, because an update takes each row once: retries added up, the last word on the fault.
fn merge<'a>(marks: Vec<(&str, &'a Mark)>) -> Vec<(Uuid, &'a str, u32, &'a FaultMark)> {
    let mut places: HashMap<(&str, Uuid), usize> = HashMap::new();
    let mut merged: Vec<(Uuid, &str, u32, &FaultMark)> = Vec::new();
    for (_, mark) in marks {
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
    merged
}

fn bind_inbox(statement: Statement, (at, row): (&str, &InboxRow)) -> Statement {
    statement.bind(text::id(row.message_id)).bind(&*row.endpoint).bind(at)
}

fn bind_new_instance(statement: Statement, (at, row): (&str, &InstanceRow)) -> Statement {
    let statement = statement.bind(text::id(row.id)).bind(row.saga).bind(text::number(row.version)).bind(row.state);
    statement.bind(&*row.data).bind(&*row.timers).bind(at).bind(at)
}

fn bind_instance(statement: Statement, (at, row): (&str, &InstanceRow)) -> Statement {
    let statement = statement.bind(text::id(row.id)).bind(row.saga).bind(text::number(row.expected));
    let statement = statement.bind(text::number(row.version)).bind(row.state).bind(&*row.data).bind(&*row.timers);
    statement.bind(at)
}

fn bind_mark(statement: Statement, (id, saga, retries, fault): (Uuid, &str, u32, &FaultMark)) -> Statement {
    let text = if let FaultMark::Set(fault) = fault { Some(fault.as_str()) } else { None };
    let statement = statement.bind(text::id(id)).bind(saga).bind(i64::from(retries));
    statement.bind(*fault != FaultMark::Keep).bind(text)
}

fn bind_journal(statement: Statement, (_, row): (&str, &JournalRow)) -> Statement {
    let effects = match &row.effects[..] {
        [] => "[]".to_owned(),
        effects => json(&effects),
    };
    let statement = statement.bind(text::id(row.id)).bind(&*row.saga).bind(row.version.map(text::number));
    let statement = statement.bind(&*row.endpoint).bind(text::id(row.message_id)).bind(&*row.message_type);
    let statement = statement.bind(row.message.as_str()).bind(text::id(row.conversation_id));
    let statement = statement.bind(row.initiator_id.map(text::id)).bind(row.user.as_deref());
    let statement = statement.bind(i64::from(row.attempt)).bind(row.outcome.name());
    let statement = statement.bind(row.from.as_deref()).bind(row.to.as_deref()).bind(effects);
    statement.bind(row.error.as_deref()).bind(text::time(row.at))
}

fn bind_timer(statement: Statement, (at, row): (&str, &TimerRow)) -> Statement {
    let statement = statement.bind(text::id(row.token)).bind(row.kind.name()).bind(&*row.endpoint);
    let statement = statement.bind(text::time(row.due)).bind(text::id(row.envelope.message_id));
    statement.bind(row.envelope.name()).bind(json(&*row.envelope)).bind(at)
}

fn bind_outbox(statement: Statement, ((at, row), id): ((&str, &OutboxRow), OutboxId)) -> Statement {
    let statement = statement.bind(id).bind(text::id(row.envelope.message_id)).bind(row.envelope.name());
    statement.bind(row.destination.as_deref()).bind(json(&*row.envelope)).bind(at)
}

fn bind_dead_letter(statement: Statement, (_, row): (&str, &DeadLetterRow)) -> Statement {
    let statement = statement.bind(text::id(row.id)).bind(&*row.endpoint).bind(row.saga.as_deref());
    let statement = statement.bind(&*row.reason).bind(&*row.error).bind(i64::from(row.attempts));
    let statement = statement.bind(text::id(row.envelope.message_id)).bind(row.envelope.name());
    statement.bind(json(&*row.envelope)).bind(text::time(row.at))
}

fn json(value: &impl Serialize) -> String {
    Body::of(value).as_str().to_owned()
}
