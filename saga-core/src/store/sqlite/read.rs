//! What is read back, each query on its own snapshot of what is committed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};
use uuid::Uuid;

use super::error::of_query;
use super::text;
use crate::commit::{
    DeadLetterRow, JournalOutcome, JournalRow, Lane, OutboxId, OutboxRow, StoredInstance, TimerKind, TimerRow,
};
use crate::message::{Body, Envelope};
use crate::store::sql::{add, corrupt};
use crate::store::{Backlog, DeadLetterPage, Page, StoreError};

pub(super) async fn instance(pool: &SqlitePool, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
    let row = sqlx::query(
        "SELECT id, version, state, data, timers, retry_count, fault, created_at, updated_at FROM saga_instances
         WHERE id = ? AND saga = ?",
    );
    let row = row.bind(text::id(id).as_str().to_owned()).bind(saga).fetch_optional(pool).await;
    let row = row.map_err(|error| of_query("the instance can not be read", &error))?;
    row.as_ref().map(read_instance).transpose()
}

pub(super) async fn journal(pool: &SqlitePool, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT instance_id, saga, version, endpoint, message_id, message_type, message, conversation_id,
           initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at
         FROM saga_journal WHERE instance_id = ? AND saga = ? ORDER BY seq",
    );
    let rows = rows.bind(text::id(id).as_str().to_owned()).bind(saga).fetch_all(pool).await;
    let rows = rows.map_err(|error| of_query("the journal can not be read", &error))?;
    rows.iter().map(read_journal).collect()
}

/// Of one lane, or of all. A lane is asked for when it is behind, so most of the rows that are passed are its own.
pub(super) async fn outbox(
    pool: &SqlitePool,
    lane: Option<&Lane>,
    after: OutboxId,
    limit: usize,
) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
    let mut page = Page { rows: Vec::new(), unreadable: Vec::new() };
    let mut after = after;
    while page.rows.len() < limit {
        let wanted = limit - page.rows.len();
        let (endpoint, event) = match lane {
            None => (None, None),
            Some(Lane::Endpoint(name)) => (Some(&**name), None),
            Some(Lane::Event(name)) => (None, Some(&**name)),
        };
        let rows = sqlx::query(
            "SELECT id, destination, envelope FROM saga_outbox
             WHERE id > ?1 AND (?2 IS NULL OR destination = ?2)
               AND (?3 IS NULL OR destination IS NULL AND message_type = ?3)
             ORDER BY id LIMIT ?4",
        );
        let rows = rows.bind(after).bind(endpoint).bind(event).bind(text::number(wanted as u64)).fetch_all(pool).await;
        let rows = rows.map_err(|error| of_query("the outbox can not be read", &error))?;
        for row in &rows {
            after = Columns(row, "saga_outbox").get(0)?;
            add(&mut page, after.to_string(), read_outbox(row));
        }
        if rows.len() < wanted {
            break;
        }
    }
    Ok(page)
}

pub(super) async fn due_timers(
    pool: &SqlitePool,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<Page<TimerRow>, StoreError> {
    let mut page = Page { rows: Vec::new(), unreadable: Vec::new() };
    // The place in the order is kept as it is stored, so that a row can be passed over whatever is wrong with it.
    let (mut due, mut token) = (String::new(), String::new());
    while page.rows.len() < limit {
        let wanted = limit - page.rows.len();
        let rows = sqlx::query(
            "SELECT token, kind, endpoint, due, envelope FROM saga_timers
             WHERE due <= ? AND (due, token) > (?, ?) ORDER BY due, token LIMIT ?",
        );
        let rows = rows.bind(text::time(now)).bind(&due).bind(&token).bind(text::number(wanted as u64));
        let rows = rows.fetch_all(pool).await.map_err(|error| of_query("the timers can not be read", &error))?;
        for row in &rows {
            let columns = Columns(row, "saga_timers");
            (token, due) = (columns.get(0)?, columns.get(3)?);
            add(&mut page, token.clone(), read_timer(row));
        }
        if rows.len() < wanted {
            break;
        }
    }
    Ok(page)
}

pub(super) async fn next_due_after(
    pool: &SqlitePool,
    after: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let row = sqlx::query("SELECT min(due) FROM saga_timers WHERE due > ?").bind(text::time(after));
    let row = row.fetch_one(pool).await.map_err(|error| of_query("the timers can not be read", &error))?;
    Columns(&row, "saga_timers").optional_time(0)
}

pub(super) async fn dead_letters(pool: &SqlitePool, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
    let rows = match page.before {
        None => sqlx::query(
            "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at FROM saga_dead_letters
             WHERE redriven_at IS NULL ORDER BY at DESC, id DESC LIMIT ?",
        ),
        Some((at, id)) => sqlx::query(
            "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at FROM saga_dead_letters
             WHERE redriven_at IS NULL AND (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?",
        )
        .bind(text::time(at))
        .bind(text::id(id).as_str().to_owned()),
    };
    let rows = rows.bind(text::number(page.limit as u64)).fetch_all(pool).await;
    let rows = rows.map_err(|error| of_query("the dead letters can not be read", &error))?;
    rows.iter().map(read_dead_letter).collect()
}

pub(super) async fn dead_letter(pool: &SqlitePool, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
    let row = sqlx::query(
        "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at FROM saga_dead_letters
         WHERE id = ?",
    );
    let row = row.bind(text::id(id).as_str().to_owned()).fetch_optional(pool).await;
    let row = row.map_err(|error| of_query("the dead letter can not be read", &error))?;
    row.as_ref().map(read_dead_letter).transpose()
}

pub(super) async fn backlog(pool: &SqlitePool) -> Result<Backlog, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM saga_outbox),
           (SELECT created_at FROM saga_outbox ORDER BY id LIMIT 1),
           (SELECT count(*) FROM saga_timers),
           (SELECT min(due) FROM saga_timers),
           (SELECT count(*) FROM saga_dead_letters WHERE redriven_at IS NULL)",
    );
    let row = row.fetch_one(pool).await.map_err(|error| of_query("the backlog can not be read", &error))?;
    let columns = Columns(&row, "the backlog");
    Ok(Backlog {
        outbox: columns.number(0)?,
        oldest_outbox: columns.optional_time(1)?,
        timers: columns.number(2)?,
        next_due: columns.optional_time(3)?,
        dead_letters: columns.number(4)?,
    })
}

pub(super) fn read_outbox(row: &SqliteRow) -> Result<(OutboxId, OutboxRow), StoreError> {
    let columns = Columns(row, "saga_outbox");
    let destination = columns.get::<Option<String>>(1)?.map(text::name);
    Ok((columns.get(0)?, OutboxRow { destination, envelope: columns.envelope(2)? }))
}

fn read_timer(row: &SqliteRow) -> Result<TimerRow, StoreError> {
    let columns = Columns(row, "saga_timers");
    Ok(TimerRow {
        token: columns.id(0)?,
        kind: columns.named(1, TimerKind::from_name)?,
        endpoint: text::name(columns.get(2)?),
        due: columns.time(3)?,
        envelope: columns.envelope(4)?,
    })
}

pub(super) fn read_instance(row: &SqliteRow) -> Result<StoredInstance, StoreError> {
    let columns = Columns(row, "saga_instances");
    Ok(StoredInstance {
        id: columns.id(0)?,
        version: columns.number(1)?,
        state: columns.get(2)?,
        data: columns.body(3)?,
        timers: columns.body(4)?,
        retry_count: columns.number(5)?,
        fault: columns.get(6)?,
        created_at: columns.time(7)?,
        updated_at: columns.time(8)?,
    })
}

pub(super) fn read_journal(row: &SqliteRow) -> Result<JournalRow, StoreError> {
    let columns = Columns(row, "saga_journal");
    Ok(JournalRow {
        id: columns.id(0)?,
        saga: text::name(columns.get(1)?),
        version: columns.get::<Option<i64>>(2)?.map(|it| columns.in_range(it)).transpose()?,
        endpoint: text::name(columns.get(3)?),
        message_id: columns.id(4)?,
        message_type: text::name(columns.get(5)?),
        message: columns.body(6)?,
        conversation_id: columns.id(7)?,
        initiator_id: columns.get::<Option<&str>>(8)?.map(|it| text::read_id(it, columns.1)).transpose()?,
        user: columns.get(9)?,
        attempt: columns.number(10)?,
        outcome: columns.named(11, JournalOutcome::from_name)?,
        from: columns.get::<Option<String>>(12)?.map(text::name),
        to: columns.get::<Option<String>>(13)?.map(text::name),
        effects: columns.json(14)?,
        error: columns.get(15)?,
        at: columns.time(16)?,
    })
}

pub(super) fn read_dead_letter(row: &SqliteRow) -> Result<DeadLetterRow, StoreError> {
    let columns = Columns(row, "saga_dead_letters");
    Ok(DeadLetterRow {
        id: columns.id(0)?,
        endpoint: text::name(columns.get(1)?),
        saga: columns.get::<Option<String>>(2)?.map(text::name),
        reason: text::name(columns.get(3)?),
        error: columns.get(4)?,
        attempts: columns.number(5)?,
        envelope: columns.envelope(6)?,
        at: columns.time(7)?,
        redriven_at: columns.optional_time(8)?,
    })
}

/// The columns of one row, and the table that they come from.
pub(super) struct Columns<'a>(pub(super) &'a SqliteRow, pub(super) &'static str);

impl<'a> Columns<'a> {
    pub(super) fn get<T: sqlx::Decode<'a, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &self,
        index: usize,
    ) -> Result<T, StoreError> {
        self.0.try_get(index).map_err(|error| of_query(self.1, &error))
    }

    pub(super) fn id(&self, index: usize) -> Result<Uuid, StoreError> {
        text::read_id(self.get(index)?, self.1)
    }

    fn time(&self, index: usize) -> Result<DateTime<Utc>, StoreError> {
        text::read_time(self.get(index)?, self.1)
    }

    fn optional_time(&self, index: usize) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.get::<Option<&str>>(index)?.map(|it| text::read_time(it, self.1)).transpose()
    }

    fn number<T: TryFrom<i64>>(&self, index: usize) -> Result<T, StoreError> {
        self.in_range(self.get(index)?)
    }

    fn in_range<T: TryFrom<i64>>(&self, number: i64) -> Result<T, StoreError> {
        text::read_number(number, self.1)
    }

    fn body(&self, index: usize) -> Result<Body, StoreError> {
        let json: String = self.get(index)?;
        Body::from_json(json).map_err(|error| StoreError::Corrupt(format!("{} holds no JSON: {error}", self.1)))
    }

    fn json<T: DeserializeOwned>(&self, index: usize) -> Result<T, StoreError> {
        let json: &str = self.get(index)?;
        serde_json::from_str(json).map_err(|error| corrupt(self.1, json, &error))
    }

    fn envelope(&self, index: usize) -> Result<Arc<Envelope>, StoreError> {
        self.json(index).map(Arc::new)
    }

    fn named<T>(&self, index: usize, from_name: fn(&str) -> Option<T>) -> Result<T, StoreError> {
        let name: &str = self.get(index)?;
        from_name(name).ok_or_else(|| corrupt(self.1, name, &"this version knows no such name"))
    }
}
