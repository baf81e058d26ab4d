//! A look at a live PostgreSQL database: a connection of its own, without a host's lease.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Postgres};
use uuid::Uuid;

use super::open::{in_time, millis, read_url};
use super::read::{Columns, read_dead_letter, read_instance, read_journal, read_outbox};
use super::text::{count, stored, time};
use crate::commit::{DeadLetterRow, JournalRow, OutboxId, OutboxRow, StoredInstance};
use crate::store::sql::add;
use crate::store::{Audit, DeadLetterPage, Extent, Page, StoreError};

/// The longest that one statement may take: one that must read a whole outbox may be long at it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(25);
/// The longest that the server keeps a moment for a client that does not ask any more: it can not tidy up as long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Nothing is written; what can be found by an index is, whatever the statistics say.
const SETTINGS: &str = "SELECT set_config('statement_timeout', $1, false),
    set_config('idle_in_transaction_session_timeout', $2, false), set_config('jit', 'off', false),
    set_config('default_transaction_read_only', 'on', false), set_config('enable_seqscan', 'off', false)";

/// A look at a PostgreSQL database, or a replica of it.
#[derive(Debug)]
pub struct PostgresAudit {
    connection: PgConnection,
    /// A moment is being looked at.
    begun: bool,
}

impl PostgresAudit {
    /// Connects to the database at `url`, as `postgres://saga@localhost:5432/orders`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the URL is no PostgreSQL database's, which is not repeated, or the server takes no
    /// connection.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = read_url(url)?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("saga-audit"),
        };
        let options = options.disable_statement_logging();
        let mut connection = in_time("the database takes no connection", options.connect()).await?;
        let settings = sqlx::query(SETTINGS).bind(millis(STATEMENT_TIMEOUT)).bind(millis(IDLE_TIMEOUT));
        in_time("the session can not be prepared", settings.execute(&mut connection)).await?;
        Ok(Self { connection, begun: false })
    }

    /// The connection, for an application's own queries: they see the same moment.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Lets go of the database.
    pub async fn close(self) {
        // Nothing was written that could be lost.
        let _ = self.connection.close().await;
    }

    async fn rows(&mut self, what: &str, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, StoreError> {
        in_time(what, query.fetch_all(&mut self.connection)).await
    }

    async fn ids_of(&mut self, sql: &'static str, saga: &str, from: Uuid, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        let query = sqlx::query(sql).bind(stored(saga)).bind(from).bind(limit);
        let rows = self.rows("the ids can not be read", query).await?;
        rows.iter().map(|row| Columns(row, "saga_instances").get(0)).collect()
    }

    async fn pairs(&mut self, table: &'static str, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError> {
        // The names of tables stand in this file.
        let sql = AssertSqlSafe(format!("SELECT message_id, endpoint FROM {table} WHERE message_id = ANY($1)"));
        let rows = self.rows(table, sqlx::query(sql).bind(messages)).await?;
        let pair = |row| {
            let columns = Columns(row, table);
            Ok((columns.get(0)?, columns.text(1)?))
        };
        rows.iter().map(pair).collect()
    }
}

#[async_trait]
impl Audit for PostgresAudit {
    async fn refresh(&mut self) -> Result<(), StoreError> {
        const WHAT: &str = "the database can not be looked at";
        if std::mem::take(&mut self.begun) {
            in_time(WHAT, self.connection.execute("COMMIT")).await?;
        }
        in_time(WHAT, self.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?;
        self.begun = true;
        Ok(())
    }

    async fn extent(&mut self, saga: &str) -> Result<Extent, StoreError> {
        let query = sqlx::query(
            "SELECT (SELECT id FROM saga_instances WHERE saga = $1 ORDER BY id DESC LIMIT 1),
               (SELECT instance_id FROM saga_journal WHERE saga = $1 ORDER BY instance_id DESC LIMIT 1),
               (SELECT coalesce(max(id), 0) FROM saga_outbox),
               (SELECT count(*) FROM saga_dead_letters WHERE redriven_at IS NULL)",
        );
        let rows = self.rows("the extent can not be read", query.bind(stored(saga))).await?;
        let Some(row) = rows.first() else { return Ok(Extent::default()) };
        let columns = Columns(row, "the extent");
        let last_id = columns.get::<Option<Uuid>>(0)?.max(columns.get(1)?);
        Ok(Extent { last_id, last_outbox: columns.get(2)?, dead_letters: columns.number(3)? })
    }

    async fn ids(&mut self, saga: &str, from: Uuid, limit: usize) -> Result<Vec<Uuid>, StoreError> {
        const INSTANCES: &str = "SELECT id FROM saga_instances WHERE saga = $1 AND id >= $2 ORDER BY id LIMIT $3";
        const HISTORIES: &str =
            "SELECT DISTINCT instance_id FROM saga_journal WHERE saga = $1 AND instance_id >= $2 ORDER BY 1 LIMIT $3";
        let mut ids = self.ids_of(INSTANCES, saga, from, count(limit)).await?;
        ids.extend(self.ids_of(HISTORIES, saga, from, count(limit)).await?);
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids)
    }

    async fn instances(&mut self, saga: &str, ids: &[Uuid]) -> Result<Page<StoredInstance>, StoreError> {
        let query = sqlx::query(
            "SELECT id, version, state, data, timers, retry_count, fault, created_at, updated_at, id::text AS key
             FROM saga_instances WHERE saga = $1 AND id = ANY($2) ORDER BY id",
        );
        let rows = self.rows("the instances can not be read", query.bind(stored(saga)).bind(ids)).await?;
        page(&rows, "saga_instances", 9, read_instance)
    }

    async fn journals(&mut self, saga: &str, ids: &[Uuid]) -> Result<Page<JournalRow>, StoreError> {
        let query = sqlx::query(
            "SELECT instance_id, saga, version, endpoint, message_id, message_type, message, conversation_id,
               initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at, seq::text AS key
             FROM saga_journal WHERE saga = $1 AND instance_id = ANY($2) ORDER BY seq",
        );
        let rows = self.rows("the journal can not be read", query.bind(stored(saga)).bind(ids)).await?;
        page(&rows, "saga_journal", 17, read_journal)
    }

    async fn handled(&mut self, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError> {
        self.pairs("saga_inbox", messages).await
    }

    async fn waiting(&mut self, messages: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let query = sqlx::query(
            "SELECT message_id FROM saga_outbox WHERE message_id = ANY($1)
             UNION SELECT message_id FROM saga_timers WHERE message_id = ANY($1)",
        );
        let rows = self.rows("the outbox and the timers can not be read", query.bind(messages)).await?;
        rows.iter().map(|row| Columns(row, "saga_outbox").get(0)).collect()
    }

    async fn given_up(&mut self, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError> {
        self.pairs("saga_dead_letters", messages).await
    }

    async fn outbox(&mut self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        let query = sqlx::query(
            "SELECT id, destination, envelope, id::text AS key FROM saga_outbox WHERE id > $1 ORDER BY id LIMIT $2",
        );
        let rows = self.rows("the outbox can not be read", query.bind(after).bind(count(limit))).await?;
        page(&rows, "saga_outbox", 3, read_outbox)
    }

    async fn dead_letters(&mut self, page_of: &DeadLetterPage) -> Result<Page<DeadLetterRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at, id::text AS key
             FROM saga_dead_letters WHERE redriven_at IS NULL AND ($1::timestamptz IS NULL OR (at, id) < ($1, $2))
             ORDER BY at DESC, id DESC LIMIT $3",
        );
        let (at, id) = page_of.before.map(|(at, id)| (time(at), id)).unzip();
        let query = query.bind(at).bind(id).bind(count(page_of.limit));
        let rows = self.rows("the dead letters can not be read", query).await?;
        page(&rows, "saga_dead_letters", 9, read_dead_letter)
    }
}

/// The rows on a page; one that can not be read is told of by what stands in the column `key`.
fn page<T>(
    rows: &[PgRow],
    table: &'static str,
    key: usize,
    read: fn(&PgRow) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let mut page = Page { rows: Vec::with_capacity(rows.len()), unreadable: Vec::new() };
    for row in rows {
        add(&mut page, format!("{table} {}", Columns(row, table).get::<&str>(key)?), read(row));
    }
    Ok(page)
}
