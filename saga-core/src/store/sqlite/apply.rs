//! What a transaction writes: the parts of a commit, in the order in which `Commit` declares them, row by row with
//! statements that stay prepared. `OR FAIL` saves SQLite the journal it would keep of each statement: a failure rolls the
//! whole transaction back anyway.

use std::borrow::Cow;

use rusqlite::{CachedStatement, Connection, Params, params};
use uuid::Uuid;

use super::domain::{self, Writers};
use super::encode::Encoded;
use super::error::of_statement;
use super::text::{id, number, time};
use crate::commit::{Commit, FaultMark, InboxRow, OutboxId};
use crate::mutation::{Mutation, is_out};
use crate::probe::Point;
use crate::store::StoreError;

const INBOX: &str = "INSERT OR FAIL INTO saga_inbox (message_id, endpoint, handled_at) VALUES (?, ?, ?)";

const FORGET: &str = "DELETE FROM saga_inbox WHERE message_id = ? AND endpoint = ?";

const REDRIVE: &str = "UPDATE saga_dead_letters SET redriven_at = ? WHERE redriven_at IS NULL AND id = ?";

const NEW_INSTANCE: &str =
    "INSERT OR FAIL INTO saga_instances (id, saga, version, state, data, timers, created_at, updated_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";

const INSTANCE: &str = "UPDATE OR FAIL saga_instances
     SET version = ?4, state = ?5, data = ?6, timers = ?7, updated_at = ?8
     WHERE id = ?1 AND saga = ?2 AND version = ?3";

const MARK: &str = "UPDATE OR FAIL saga_instances
     SET retry_count = retry_count + ?3, fault = CASE WHEN ?4 THEN ?5 ELSE fault END WHERE id = ?1 AND saga = ?2";

const JOURNAL: &str =
    "INSERT OR FAIL INTO saga_journal (instance_id, saga, version, endpoint, message_id, message_type,
       message, conversation_id, initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const TIMER: &str = "INSERT OR REPLACE INTO saga_timers
       (token, kind, endpoint, due, message_id, message_type, envelope, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";

const DELETE_TIMER: &str = "DELETE FROM saga_timers WHERE token = ?";

const OUTBOX: &str = "INSERT OR FAIL INTO saga_outbox
       (id, message_id, message_type, destination, envelope, created_at) VALUES (?, ?, ?, ?, ?, ?)";

const SETTLE: &str = "DELETE FROM saga_outbox WHERE id BETWEEN ? AND ?";

const DEAD_LETTER: &str = "INSERT OR REPLACE INTO saga_dead_letters
       (id, endpoint, saga, reason, error, attempts, message_id, message_type, envelope, at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Writes the commit into the transaction that is open on the connection; `first` is the id of its first outbox row.
/// `reached` is told of the points on the way.
pub(super) fn apply(
    connection: &Connection,
    commit: &Commit,
    rows: &Encoded,
    first: OutboxId,
    writers: &Writers,
    reached: &dyn Fn(Point) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    forget(connection, &commit.forgotten)?;
    redrive(connection, commit)?;
    if !commit.inbox.is_empty() {
        handle(connection, commit, rows)?;
        reached(Point::InboxWritten)?;
    }
    if !commit.instances.is_empty() {
        move_instances(connection, commit, rows)?;
        reached(Point::InstanceWritten)?;
    }
    mark(connection, commit)?;
    write_journal(connection, commit, rows)?;
    domain::write(writers, connection, &commit.rows)?;
    write_timers(connection, commit, rows)?;
    let mut cancel = Statement::new(connection, DELETE_TIMER, "a timer can not be cancelled", StoreError::Rejected);
    for token in &commit.cancelled {
        cancel.execute([id(*token)])?;
    }
    fire(connection, &commit.fired)?;
    write_outbox(connection, commit, rows, first)?;
    settle(connection, &commit.settled)?;
    bury(connection, commit, rows)
}

fn forget(connection: &Connection, rows: &[InboxRow]) -> Result<(), StoreError> {
    let mut forget = Statement::new(connection, FORGET, "an inbox row can not be removed", StoreError::Rejected);
    for row in rows {
        forget.execute(params![id(row.message_id), &*row.endpoint])?;
    }
    Ok(())
}

fn redrive(connection: &Connection, commit: &Commit) -> Result<(), StoreError> {
    let mut redrive = Statement::new(connection, REDRIVE, "a dead letter can not be redriven", StoreError::Conflict);
    for letter in &commit.redriven {
        if redrive.execute(params![time(commit.at), id(*letter)])? == 0 {
            let text = format!("dead letter {letter} is not there, or was redriven before");
            return Err(StoreError::Conflict(text));
        }
    }
    Ok(())
}

fn handle(connection: &Connection, commit: &Commit, rows: &Encoded) -> Result<(), StoreError> {
    if is_out(Mutation::InboxCheck) {
        forget(connection, &commit.inbox)?;
    }
    let mut insert = Statement::new(connection, INBOX, "a message was handled before", StoreError::Conflict);
    for row in &commit.inbox {
        insert.execute(params![id(row.message_id), &*row.endpoint, rows.at])?;
    }
    Ok(())
}

fn move_instances(connection: &Connection, commit: &Commit, rows: &Encoded) -> Result<(), StoreError> {
    #[cfg(feature = "mutations")]
    super::mutated::expect_any_version(connection, &commit.instances)?;
    let there = "an instance that was to be new is there already";
    let mut insert = Statement::new(connection, NEW_INSTANCE, there, StoreError::Conflict);
    let mut update = Statement::new(connection, INSTANCE, "an instance can not be written", StoreError::Conflict);
    for row in &commit.instances {
        let (instance, version) = (id(row.id), number(row.version));
        if row.expected == 0 {
            insert.execute(params![instance, row.saga, version, row.state, row.data, row.timers, rows.at])?;
            continue;
        }
        let expected = number(row.expected);
        let values = params![instance, row.saga, expected, version, row.state, row.data, row.timers, rows.at];
        if update.execute(values)? == 0 {
            let text = format!("{} {} is not at version {expected} any more", row.saga, row.id);
            return Err(StoreError::Conflict(text));
        }
    }
    Ok(())
}

fn mark(connection: &Connection, commit: &Commit) -> Result<(), StoreError> {
    let mut update = Statement::new(connection, MARK, "an instance can not be marked", StoreError::Rejected);
    for mark in &commit.marks {
        let fault = if let FaultMark::Set(fault) = &mark.fault { Some(fault) } else { None };
        update.execute(params![id(mark.id), &*mark.saga, mark.retries, mark.fault != FaultMark::Keep, fault])?;
    }
    Ok(())
}

fn write_journal(connection: &Connection, commit: &Commit, rows: &Encoded) -> Result<(), StoreError> {
    let mut insert = Statement::new(connection, JOURNAL, "the journal can not be written", StoreError::Rejected);
    for (row, effects) in commit.journal.iter().zip(&rows.effects) {
        // Nearly always the commit's own time, which is written once.
        let at = if row.at == commit.at { Cow::Borrowed(&*rows.at) } else { Cow::Owned(time(row.at)) };
        insert.execute(params![
            id(row.id),
            &*row.saga,
            row.version.map(number),
            &*row.endpoint,
            id(row.message_id),
            &*row.message_type,
            row.message.as_str(),
            id(row.conversation_id),
            row.initiator_id.map(id),
            row.user,
            row.attempt,
            row.outcome.name(),
            row.from.as_deref(),
            row.to.as_deref(),
            effects,
            row.error,
            at,
        ])?;
    }
    Ok(())
}

fn write_timers(connection: &Connection, commit: &Commit, rows: &Encoded) -> Result<(), StoreError> {
    let mut insert = Statement::new(connection, TIMER, "a timer can not be written", StoreError::Rejected);
    for (row, json) in commit.timers.iter().zip(&rows.timers) {
        let (token, kind, due, message) = (id(row.token), row.kind.name(), time(row.due), &row.envelope);
        let (message_id, name) = (id(message.message_id), message.name());
        insert.execute(params![token, kind, &*row.endpoint, due, message_id, name, json, rows.at])?;
    }
    Ok(())
}

/// Removes the timers that fire; each must be there.
fn fire(connection: &Connection, fired: &[Uuid]) -> Result<(), StoreError> {
    let mut delete = Statement::new(connection, DELETE_TIMER, "a timer can not fire", StoreError::Rejected);
    for token in fired {
        if delete.execute([id(*token)])? == 0 && !is_out(Mutation::FiredOnce) {
            return Err(StoreError::Conflict(format!("timer {token} was cancelled, or has fired before")));
        }
    }
    Ok(())
}

fn write_outbox(connection: &Connection, commit: &Commit, rows: &Encoded, first: OutboxId) -> Result<(), StoreError> {
    let mut insert = Statement::new(connection, OUTBOX, "the outbox can not be written", StoreError::Rejected);
    for (key, (row, json)) in (first..).zip(commit.outbox.iter().zip(&rows.outbox)) {
        let (message_id, name) = (id(row.envelope.message_id), row.envelope.name());
        insert.execute(params![key, message_id, name, row.destination.as_deref(), json, rows.at])?;
    }
    Ok(())
}

/// Ids of one commit follow each other, so most go with one statement.
fn settle(connection: &Connection, settled: &[OutboxId]) -> Result<(), StoreError> {
    let mut delete = Statement::new(connection, SETTLE, "a sent row can not be removed", StoreError::Rejected);
    let mut settled = settled.to_vec();
    settled.sort_unstable();
    for run in settled.chunk_by(|one, next| one + 1 == *next) {
        delete.execute(params![run.first(), run.last()])?;
    }
    Ok(())
}

fn bury(connection: &Connection, commit: &Commit, rows: &Encoded) -> Result<(), StoreError> {
    let mut insert = Statement::new(connection, DEAD_LETTER, "a dead letter can not be written", StoreError::Rejected);
    for (row, json) in commit.dead_letters.iter().zip(&rows.dead_letters) {
        let (message_id, name) = (id(row.envelope.message_id), row.envelope.name());
        insert.execute(params![
            id(row.id),
            &*row.endpoint,
            row.saga.as_deref(),
            &*row.reason,
            row.error,
            row.attempts,
            message_id,
            name,
            json,
            time(row.at),
        ])?;
    }
    Ok(())
}

/// A statement that is executed row by row, and prepared when the first row comes.
struct Statement<'a> {
    connection: &'a Connection,
    sql: &'static str,
    /// What its error begins with.
    what: &'static str,
    /// What a violated constraint means.
    constraint: fn(String) -> StoreError,
    prepared: Option<CachedStatement<'a>>,
}

impl<'a> Statement<'a> {
    fn new(
        connection: &'a Connection,
        sql: &'static str,
        what: &'static str,
        constraint: fn(String) -> StoreError,
    ) -> Self {
        Self { connection, sql, what, constraint, prepared: None }
    }

    /// Executes it for one row; returns how many rows of the table it touched.
    fn execute(&mut self, params: impl Params) -> Result<usize, StoreError> {
        let prepared = match &mut self.prepared {
            Some(prepared) => Ok(prepared),
            none => self.connection.prepare_cached(self.sql).map(|it| none.insert(it)),
        };
        let touched = prepared.and_then(|it| it.execute(params));
        touched.map_err(|error| of_statement(self.what, &error, self.constraint))
    }
}
