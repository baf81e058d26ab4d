//! What is read back, each query on its own snapshot of what is committed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Row as _};
use uuid::Uuid;

use super::error::of_statement;
use super::open::Database;
use super::text::{Time, count, name, restored, stored, time};
use crate::commit::{
    DeadLetterRow, JournalOutcome, JournalRow, OutboxId, OutboxRow, StoredInstance, TimerKind, TimerRow,
};
use crate::message::{Body, Envelope};
use crate::store::sql::{add, corrupt};
use crate::store::{Backlog, DeadLetterPage, LoadQuery, Loaded, Page, StoreError};

/// What a batch must know, in one query: a handled message is a row that has nothing but an id.
const LOAD: &str = "SELECT message_id, NULL::bigint, NULL, NULL, NULL, NULL::bigint, NULL, NULL::timestamptz,
      NULL::timestamptz
    FROM saga_inbox WHERE message_id = ANY($1) AND endpoint = $2
    UNION ALL
    SELECT id, version, state, data, timers, retry_count, fault, created_at, updated_at
    FROM saga_instances WHERE id = ANY($3) AND saga = $4";

/// The place in the order is given as it is stored, so that a row can be passed over whatever is wrong with it.
const DUE: &str = "SELECT token, kind, endpoint, due, envelope FROM saga_timers
    WHERE due <= $1 AND (due, token) > ($2, $3) ORDER BY due, token LIMIT $4";

pub(super) async fn load(database: &Database, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    if query.messages.is_empty() && query.instances.is_empty() {
        return Ok(loaded);
    }
    let load = sqlx::query(LOAD).bind(query.messages).bind(stored(query.endpoint));
    let load = load.bind(query.instances).bind(stored(query.saga));
    for row in &database.ask("the inbox and the instances can not be read", load).await? {
        let columns = Columns(row, "saga_instances");
        match columns.get::<Option<i64>>(1)? {
            None => drop(loaded.handled.insert(columns.get(0)?)),
            Some(_) => drop(loaded.instances.insert(columns.get(0)?, read_instance(row)?)),
        }
    }
    Ok(loaded)
}

pub(super) async fn instance(database: &Database, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
    let query = sqlx::query(
        "SELECT id, version, state, data, timers, retry_count, fault, created_at, updated_at
         FROM saga_instances WHERE id = $1 AND saga = $2",
    );
    let query = query.bind(id).bind(stored(saga));
    let rows = database.look("the instance can not be read", query).await?;
    rows.first().map(read_instance).transpose()
}

pub(super) async fn journal(database: &Database, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
    let query = sqlx::query(
        "SELECT instance_id, saga, version, endpoint, message_id, message_type, message, conversation_id,
           initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at
         FROM saga_journal WHERE instance_id = $1 AND saga = $2 ORDER BY seq",
    );
    let query = query.bind(id).bind(stored(saga));
    let rows = database.look("the journal can not be read", query).await?;
    rows.iter().map(read_journal).collect()
}

pub(super) async fn due_timers(
    database: &Database,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<Page<TimerRow>, StoreError> {
    let mut page = Page { rows: Vec::new(), unreadable: Vec::new() };
    let (mut due, mut token) = (Time::FIRST, Uuid::nil());
    while page.rows.len() < limit {
        let wanted = limit - page.rows.len();
        let query = sqlx::query(DUE).bind(time(now)).bind(due).bind(token).bind(count(wanted));
        let rows = database.ask("the timers can not be read", query).await?;
        for row in &rows {
            let columns = Columns(row, "saga_timers");
            (token, due) = (columns.get(0)?, columns.get(3)?);
            add(&mut page, token.to_string(), read_timer(row));
        }
        if rows.len() < wanted {
            break;
        }
    }
    Ok(page)
}

pub(super) async fn next_due_after(
    database: &Database,
    after: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let query = sqlx::query("SELECT min(due) FROM saga_timers WHERE due > $1").bind(time(after));
    let rows = database.ask("the timers can not be read", query).await?;
    rows.first().map_or(Ok(None), |row| Columns(row, "saga_timers").optional_time(0))
}

pub(super) async fn dead_letters(database: &Database, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
    let query = match page.before {
        None => sqlx::query(
            "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at FROM saga_dead_letters
             WHERE redriven_at IS NULL ORDER BY at DESC, id DESC LIMIT $1",
        )
        .bind(count(page.limit)),
        Some((at, id)) => sqlx::query(
            "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at FROM saga_dead_letters
             WHERE redriven_at IS NULL AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $1",
        )
        .bind(count(page.limit))
        .bind(time(at))
        .bind(id),
    };
    let rows = database.look("the dead letters can not be read", query).await?;
    rows.iter().map(read_dead_letter).collect()
}

pub(super) async fn dead_letter(database: &Database, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
    let query = sqlx::query(
        "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at FROM saga_dead_letters
         WHERE id = $1",
    );
    let rows = database.look("the dead letter can not be read", query.bind(id)).await?;
    rows.first().map(read_dead_letter).transpose()
}

pub(super) async fn backlog(database: &Database) -> Result<Backlog, StoreError> {
    let query = sqlx::query(
        "SELECT (SELECT count(*) FROM saga_outbox),
           (SELECT created_at FROM saga_outbox ORDER BY id LIMIT 1),
           (SELECT count(*) FROM saga_timers),
           (SELECT min(due) FROM saga_timers),
           (SELECT count(*) FROM saga_dead_letters WHERE redriven_at IS NULL)",
    );
    let rows = database.look("the backlog can not be read", query).await?;
    let Some(row) = rows.first() else { return Ok(Backlog::default()) };
    let columns = Columns(row, "the backlog");
    Ok(Backlog {
        outbox: columns.number(0)?,
        oldest_outbox: columns.optional_time(1)?,
        timers: columns.number(2)?,
        next_due: columns.optional_time(3)?,
        dead_letters: columns.number(4)?,
    })
}

pub(super) fn read_outbox(row: &PgRow) -> Result<(OutboxId, OutboxRow), StoreError> {
    let columns = Columns(row, "saga_outbox");
    let destination = columns.get::<Option<String>>(1)?.map(name);
    Ok((columns.get(0)?, OutboxRow { destination, envelope: columns.envelope(2)? }))
}

fn read_timer(row: &PgRow) -> Result<TimerRow, StoreError> {
    let columns = Columns(row, "saga_timers");
    Ok(TimerRow {
        token: columns.get(0)?,
        kind: columns.named(1, TimerKind::from_name)?,
        endpoint: name(columns.get(2)?),
        due: columns.time(3)?,
        envelope: columns.envelope(4)?,
    })
}

pub(super) fn read_instance(row: &PgRow) -> Result<StoredInstance, StoreError> {
    let columns = Columns(row, "saga_instances");
    Ok(StoredInstance {
        id: columns.get(0)?,
        version: columns.number(1)?,
        state: columns.text(2)?,
        data: columns.body(3)?,
        timers: columns.body(4)?,
        retry_count: columns.number(5)?,
        fault: columns.optional_text(6)?,
        created_at: columns.time(7)?,
        updated_at: columns.time(8)?,
    })
}

pub(super) fn read_journal(row: &PgRow) -> Result<JournalRow, StoreError> {
    let columns = Columns(row, "saga_journal");
    Ok(JournalRow {
        id: columns.get(0)?,
        saga: name(columns.get(1)?),
        version: columns.get::<Option<i64>>(2)?.map(|it| columns.in_range(it)).transpose()?,
        endpoint: name(columns.get(3)?),
        message_id: columns.get(4)?,
        message_type: name(columns.get(5)?),
        message: columns.body(6)?,
        conversation_id: columns.get(7)?,
        initiator_id: columns.get(8)?,
        user: columns.optional_text(9)?,
        attempt: columns.number(10)?,
        outcome: columns.named(11, JournalOutcome::from_name)?,
        from: columns.get::<Option<String>>(12)?.map(name),
        to: columns.get::<Option<String>>(13)?.map(name),
        effects: columns.json(14)?,
        error: columns.optional_text(15)?,
        at: columns.time(16)?,
    })
}

pub(super) fn read_dead_letter(row: &PgRow) -> Result<DeadLetterRow, StoreError> {
    let columns = Columns(row, "saga_dead_letters");
    Ok(DeadLetterRow {
        id: columns.get(0)?,
        endpoint: name(columns.get(1)?),
        saga: columns.get::<Option<String>>(2)?.map(name),
        reason: name(columns.get(3)?),
        error: columns.text(4)?,
        attempts: columns.number(5)?,
        envelope: columns.envelope(6)?,
        at: columns.time(7)?,
        redriven_at: columns.optional_time(8)?,
    })
}

/// The columns of one row, and the table that they come from.
pub(super) struct Columns<'a>(pub(super) &'a PgRow, pub(super) &'static str);

impl<'a> Columns<'a> {
    pub(super) fn get<T: sqlx::Decode<'a, Postgres> + sqlx::Type<Postgres>>(
        &self,
        index: usize,
    ) -> Result<T, StoreError> {
        self.0.try_get(index).map_err(|error| of_statement(self.1, &error))
    }

    pub(super) fn text(&self, index: usize) -> Result<String, StoreError> {
        self.get(index).map(restored)
    }

    fn optional_text(&self, index: usize) -> Result<Option<String>, StoreError> {
        Ok(self.get::<Option<String>>(index)?.map(restored))
    }

    fn time(&self, index: usize) -> Result<DateTime<Utc>, StoreError> {
        self.moment(self.get(index)?)
    }

    fn optional_time(&self, index: usize) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.get::<Option<Time>>(index)?.map(|it| self.moment(it)).transpose()
    }

    fn moment(&self, time: Time) -> Result<DateTime<Utc>, StoreError> {
        time.read().ok_or_else(|| StoreError::Corrupt(format!("{} holds a time that is out of range", self.1)))
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, index: usize) -> Result<T, StoreError> {
        self.in_range(self.get(index)?)
    }

    fn in_range<T: TryFrom<i64>>(&self, number: i64) -> Result<T, StoreError> {
        T::try_from(number)
            .map_err(|_| StoreError::Corrupt(format!("{} holds {number}, which is out of range", self.1)))
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
