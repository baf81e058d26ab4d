//! A look at a live SQLite database: readers of a log in WAL mode disturb nobody, so no lock of ours is taken.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::error::of_query;
use super::read::{Columns, read_dead_letter, read_instance, read_journal, read_outbox};
use super::text;
use crate::commit::{DeadLetterRow, JournalRow, OutboxId, OutboxRow, StoredInstance};
use crate::store::sql::add;
use crate::store::{Audit, DeadLetterPage, Extent, Page, StoreError};

/// How long a lock is waited for, which a writer in WAL mode never holds against a reader, but a recovery does.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A look at a SQLite database, whether a process works on it or not. It opens the file for reading only.
#[derive(Debug)]
pub struct SqliteAudit {
    connection: SqliteConnection,
    /// A moment is being looked at.
    begun: bool,
}

impl SqliteAudit {
    /// Opens the database at `url`, as `sqlite://data/orders.db`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none, or it can not be opened.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let unusable = |why: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{url:?} is no SQLite database: {why}; expected sqlite://folder/file.db"))
        };
        let options = SqliteConnectOptions::from_str(url).map_err(|error| unusable(&error))?;
        let path = options.get_filename().to_path_buf();
        if !path.is_file() {
            return Err(unusable(&format_args!("there is no file {}", path.display())));
        }
        let options = options.create_if_missing(false).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let connection = options.disable_statement_logging().connect().await;
        let failed = |error: sqlx::Error| of_query(format_args!("{} can not be opened", path.display()), &error);
        Ok(Self { connection: connection.map_err(failed)?, begun: false })
    }

    /// The connection, for an application's own queries: they see the same moment.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Lets go of the database.
    pub async fn close(self) {
        // Nothing was written that could be lost.
        let _ = self.connection.close().await;
    }

    async fn rows(
        &mut self,
        what: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        query.fetch_all(&mut self.connection).await.map_err(|error| of_query(what, &error))
    }

    async fn ids_of(&mut self, sql: &'static str, saga: &str, from: Uuid, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        let query = sqlx::query(sql).bind(saga.to_owned()).bind(text::id(from).as_str().to_owned()).bind(limit);
        let rows = self.rows("the ids can not be read", query).await?;
        rows.iter().map(|row| Columns(row, "saga_instances").id(0)).collect()
    }

    async fn pairs(&mut self, table: &'static str, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError> {
        // The names of tables stand in this file.
        let sql = AssertSqlSafe(format!(
            "SELECT message_id, endpoint FROM {table} WHERE message_id IN (SELECT value FROM json_each(?))"
        ));
        let rows = self.rows(table, sqlx::query(sql).bind(text::ids(messages))).await?;
        let pair = |row| {
            let columns = Columns(row, table);
            Ok((columns.id(0)?, columns.get(1)?))
        };
        rows.iter().map(pair).collect()
    }
}

#[async_trait]
impl Audit for SqliteAudit {
    async fn refresh(&mut self) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| of_query("the database can not be looked at", &error);
        if std::mem::take(&mut self.begun) {
            self.connection.execute("COMMIT").await.map_err(failed)?;
        }
        self.connection.execute("BEGIN").await.map_err(failed)?;
        self.begun = true;
        Ok(())
    }

    async fn extent(&mut self, saga: &str) -> Result<Extent, StoreError> {
        let query = sqlx::query(
            "SELECT (SELECT max(id) FROM saga_instances WHERE saga = ?1),
               (SELECT instance_id FROM saga_journal WHERE saga = ?1 ORDER BY instance_id DESC LIMIT 1),
               (SELECT coalesce(max(id), 0) FROM saga_outbox),
               (SELECT count(*) FROM saga_dead_letters WHERE redriven_at IS NULL)",
        );
        let rows = self.rows("the extent can not be read", query.bind(saga.to_owned())).await?;
        let Some(row) = rows.first() else { return Ok(Extent::default()) };
        let columns = Columns(row, "the extent");
        let id = |index| columns.get::<Option<&str>>(index)?.map(|it| text::read_id(it, "saga_instances")).transpose();
        let last_id = id(0)?.max(id(1)?);
        let dead_letters = text::read_number(columns.get(3)?, "saga_dead_letters")?;
        Ok(Extent { last_id, last_outbox: columns.get(2)?, dead_letters })
    }

    async fn ids(&mut self, saga: &str, from: Uuid, limit: usize) -> Result<Vec<Uuid>, StoreError> {
        const INSTANCES: &str = "SELECT id FROM saga_instances WHERE saga = ? AND id >= ? ORDER BY id LIMIT ?";
        const HISTORIES: &str =
            "SELECT DISTINCT instance_id FROM saga_journal WHERE saga = ? AND instance_id >= ? ORDER BY 1 LIMIT ?";
        let wanted = text::number(limit as u64);
        let mut ids = self.ids_of(INSTANCES, saga, from, wanted).await?;
        ids.extend(self.ids_of(HISTORIES, saga, from, wanted).await?);
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids)
    }

    async fn instances(&mut self, saga: &str, ids: &[Uuid]) -> Result<Page<StoredInstance>, StoreError> {
        let query = sqlx::query(
            "SELECT id, version, state, data, timers, retry_count, fault, created_at, updated_at FROM saga_instances
             WHERE saga = ? AND id IN (SELECT value FROM json_each(?)) ORDER BY id",
        );
        let query = query.bind(saga.to_owned()).bind(text::ids(ids));
        let rows = self.rows("the instances can not be read", query).await?;
        page(&rows, "saga_instances", 0, read_instance)
    }

    async fn journals(&mut self, saga: &str, ids: &[Uuid]) -> Result<Page<JournalRow>, StoreError> {
        let query = sqlx::query(
            "SELECT instance_id, saga, version, endpoint, message_id, message_type, message, conversation_id,
               initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at, CAST(seq AS TEXT)
             FROM saga_journal WHERE saga = ? AND instance_id IN (SELECT value FROM json_each(?)) ORDER BY seq",
        );
        let query = query.bind(saga.to_owned()).bind(text::ids(ids));
        let rows = self.rows("the journal can not be read", query).await?;
        page(&rows, "saga_journal", 17, read_journal)
    }

    async fn handled(&mut self, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError> {
        self.pairs("saga_inbox", messages).await
    }

    async fn waiting(&mut self, messages: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let query = sqlx::query(
            "WITH asked (id) AS MATERIALIZED (SELECT value FROM json_each(?))
             SELECT message_id FROM saga_outbox WHERE message_id IN (SELECT id FROM asked)
             UNION SELECT message_id FROM saga_timers WHERE message_id IN (SELECT id FROM asked)",
        );
        let rows = self.rows("the outbox and the timers can not be read", query.bind(text::ids(messages))).await?;
        rows.iter().map(|row| Columns(row, "saga_outbox").id(0)).collect()
    }

    async fn given_up(&mut self, messages: &[Uuid]) -> Result<HashSet<(Uuid, String)>, StoreError> {
        self.pairs("saga_dead_letters", messages).await
    }

    async fn outbox(&mut self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        let query = sqlx::query(
            "SELECT id, destination, envelope, CAST(id AS TEXT) FROM saga_outbox WHERE id > ? ORDER BY id LIMIT ?",
        );
        let query = query.bind(after).bind(text::number(limit as u64));
        let rows = self.rows("the outbox can not be read", query).await?;
        page(&rows, "saga_outbox", 3, read_outbox)
    }

    async fn dead_letters(&mut self, page_of: &DeadLetterPage) -> Result<Page<DeadLetterRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, endpoint, saga, reason, error, attempts, envelope, at, redriven_at FROM saga_dead_letters
             WHERE redriven_at IS NULL AND (?1 IS NULL OR (at, id) < (?1, ?2)) ORDER BY at DESC, id DESC LIMIT ?3",
        );
        let before = page_of.before.map(|(at, id)| (text::time(at), text::id(id).as_str().to_owned()));
        let (at, id) = before.unzip();
        let query = query.bind(at).bind(id).bind(text::number(page_of.limit as u64));
        let rows = self.rows("the dead letters can not be read", query).await?;
        page(&rows, "saga_dead_letters", 0, read_dead_letter)
    }
}

/// The rows on a page; one that can not be read is told of by what stands in the column `key`.
fn page<T>(
    rows: &[SqliteRow],
    table: &'static str,
    key: usize,
    read: fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let mut page = Page { rows: Vec::with_capacity(rows.len()), unreadable: Vec::new() };
    for row in rows {
        add(&mut page, format!("{table} {}", Columns(row, table).get::<&str>(key)?), read(row));
    }
    Ok(page)
}
