//! A database with a past: filled by SQL, with rows as the service writes them.

use host::config::StoreUrl;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{AssertSqlSafe, PgPool, Row as _, SqlitePool};
use uuid::Uuid;

use crate::place::Place;

/// How many rows are written in one transaction: so that the log of a database need not hold them all.
const CHUNK: usize = 1_000_000;
/// Over how many days finished orders are spread.
const DAYS: f64 = 365.0;
/// Over how many days the inbox is spread that nothing is purged from yet, and how old is what is to be purged.
const REMEMBERED: (f64, f64) = (0.0, 29.0);
const OLD: (f64, f64) = (40.0, 29.0);

/// A database of its own, beside the service that it belongs to.
pub(crate) enum Filled {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Filled {
    /// Opens the database of a place whose tables are there.
    pub(crate) async fn open(place: &Place) -> Self {
        match &place.store {
            StoreUrl::Memory => panic!("--store memory: can not be filled; say sqlite: or postgres:"),
            StoreUrl::Postgres(url) => {
                let pool = PgPoolOptions::new().max_connections(1).connect(url.expose()).await;
                Self::Postgres(pool.expect("a database"))
            }
            StoreUrl::Sqlite(_) => {
                let url = place.store.to_string();
                Self::Sqlite(SqlitePoolOptions::new().max_connections(1).connect(&url).await.expect("a database"))
            }
        }
    }

    /// Orders that were completed over the last year: an instance, an order and the last line of its history each.
    pub(crate) async fn finish_orders(&self, orders: usize) {
        for first in (1..=orders).step_by(CHUNK) {
            let last = orders.min(first + CHUNK - 1);
            let row = self.numbers(first, last, DAYS * 86_400.0 / orders as f64, 0.0, orders);
            for sql in [INSTANCES, JOURNAL, ORDERS] {
                self.execute(&self.said(sql, &row)).await;
            }
        }
    }

    /// Messages that were handled within the last weeks.
    pub(crate) async fn remember_messages(&self, messages: usize) {
        self.fill_inbox(messages, REMEMBERED).await;
    }

    /// Messages that were handled so long ago that they are to be forgotten.
    pub(crate) async fn remember_old_messages(&self, messages: usize) {
        self.fill_inbox(messages, OLD).await;
    }

    async fn fill_inbox(&self, messages: usize, (ago, over): (f64, f64)) {
        for first in (1..=messages).step_by(CHUNK) {
            let last = messages.min(first + CHUNK - 1);
            let row = self.numbers(first, last, over * 86_400.0 / messages as f64, ago * 86_400.0, messages);
            self.execute(&self.said(INBOX, &row)).await;
        }
    }

    /// Orders that no instance belongs to: one that is submitted under the id of one of them is refused by the database.
    pub(crate) async fn occupy(&self, ids: &[Uuid]) {
        for id in ids {
            let row =
                format!("'{id}', 'nobody', 'completed', 1, '{}', '', {now}, {now}", Uuid::now_v7(), now = self.now());
            let columns = "(id, user_id, status, total, submission_id, fingerprint, created_at, updated_at)";
            let row = if matches!(self, Self::Sqlite(_)) { row.replace(" 1,", " '1',") } else { row };
            self.execute(&format!("INSERT INTO orders {columns} VALUES ({row})")).await;
        }
    }

    /// What a server does by itself a little later: visibility and statistics; in SQLite, the log goes into the file.
    pub(crate) async fn settle(&self) {
        match self {
            Self::Postgres(_) => self.execute("VACUUM ANALYZE").await,
            Self::Sqlite(_) => self.execute("PRAGMA wal_checkpoint(TRUNCATE)").await,
        }
    }

    /// How many handled messages are remembered that are to be forgotten.
    pub(crate) async fn old_messages(&self) -> i64 {
        let old = "SELECT count(*) FROM saga_inbox WHERE handled_at <";
        match self {
            Self::Postgres(_) => self.number(&format!("{old} now() - interval '30 days'")).await,
            Self::Sqlite(_) => {
                self.number(&format!("{old} strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-30 days')")).await
            }
        }
    }

    /// How large it is, MiB.
    pub(crate) async fn size_mib(&self) -> f64 {
        let bytes = match self {
            Self::Postgres(_) => self.number("SELECT pg_database_size(current_database())").await,
            Self::Sqlite(_) => {
                self.number("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").await
            }
        };
        bytes as f64 / 1024.0 / 1024.0
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        let executed = match self {
            Self::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(drop),
            Self::Sqlite(pool) => sqlx::query(sql).execute(pool).await.map(drop),
        };
        executed.unwrap_or_else(|error| panic!("the database can not be filled: {error}"));
    }

    async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        let number = match self {
            Self::Postgres(pool) => sqlx::query(sql).fetch_one(pool).await.map(|row| row.get(0)),
            Self::Sqlite(pool) => sqlx::query(sql).fetch_one(pool).await.map(|row| row.get(0)),
        };
        number.unwrap_or_else(|error| panic!("the database does not tell: {error}"))
    }

    fn now(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "now()",
            Self::Sqlite(_) => "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')",
        }
    }

    /// Numbered rows, the oldest first, each so many seconds after the one before and the last so long `ago`: its time, a
    /// UUIDv7 of that time, and an id as saga-core derives one.
    fn numbers(&self, first: usize, last: usize, apart: f64, ago: f64, of: usize) -> String {
        match self {
            Self::Postgres(_) => format!(
                "SELECT n, at, (ms || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id,
                   (ms || '8' || substr(md5('m' || n), 1, 3) || '9' || substr(md5('m' || n), 4, 15))::uuid AS message_id
                 FROM (SELECT n, at, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS ms
                   FROM (SELECT n, now() - interval '1 second' * ({ago} + ({of} - n) * {apart}::float8) AS at
                     FROM generate_series({first}, {last}) AS n) AS times) AS parts"
            ),
            Self::Sqlite(_) => format!(
                "SELECT n, at, head || '7' || substr(tail, 1, 3) || '-8' || substr(tail, 4, 3) || '-' || substr(tail, 7) AS id,
                   head || '8' || substr(tail, 14, 3) || '-9' || substr(tail, 1, 3) || '-' || substr(tail, 3, 12) AS message_id
                 FROM (SELECT n, strftime('%Y-%m-%dT%H:%M:%f000Z', ms / 1000.0, 'unixepoch') AS at,
                     substr(printf('%012x', ms), 1, 8) || '-' || substr(printf('%012x', ms), 9) || '-' AS head,
                     printf('%08x%08x%02x', n * 2654435761 % 4294967296, (n + 77) * 2246822519 % 4294967296, n % 256) AS tail
                   FROM (SELECT n, CAST((unixepoch('now') - ({ago} + ({of} - n) * {apart})) * 1000 AS INTEGER) AS ms
                     FROM (WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})
                       SELECT n FROM numbers)))"
            ),
        }
    }

    fn said(&self, sql: &str, rows: &str) -> String {
        let money = if matches!(self, Self::Sqlite(_)) { "'129.96'" } else { "129.96" };
        sql.replace("{rows}", rows).replace("{money}", money)
    }
}

const INSTANCES: &str = r#"INSERT INTO saga_instances
      (id, saga, version, state, data, timers, retry_count, fault, created_at, updated_at)
    SELECT id, 'order', 3, 'Completed', '{"userId":"local","total":"129.96","changedAt":"2026-03-01T09:15:00.123456Z",'
      || '"payment":{"status":"approved","reference":"charge-' || message_id || '"}}', '{}', 0, NULL, at, at
    FROM ({rows}) AS filled"#;

const JOURNAL: &str = r#"INSERT INTO saga_journal
      (instance_id, saga, version, endpoint, message_id, message_type, message, conversation_id, initiator_id, user_id,
       attempt, outcome, from_state, to_state, effects, error, at)
    SELECT id, 'order', 3, 'order-saga', message_id, 'Orders:PaymentApproved',
      '{"orderId":"' || id || '","amount":"129.96","reference":"charge-' || message_id || '"}', message_id, id, 'local', 1,
      'moved', 'Processing', 'Completed', '[{"kind":"write"},{"kind":"publish","name":"Orders:OrderCompleted",'
      || '"messageId":"' || message_id || '"}]', NULL, at
    FROM ({rows}) AS filled"#;

const ORDERS: &str = "INSERT INTO orders
      (id, user_id, status, total, submission_id, fingerprint, created_at, updated_at)
    SELECT id, 'user ' || n % 10000, 'completed', {money}, message_id, '7c1a3d3e-5b0c-5d59-9d0e-2f1f4f3f6a01', at, at
    FROM ({rows}) AS filled";

const INBOX: &str = "INSERT INTO saga_inbox (message_id, endpoint, handled_at)
    SELECT message_id, CASE n % 4 WHEN 0 THEN 'order-payment' WHEN 1 THEN 'order-notifier' ELSE 'order-saga' END, at
    FROM ({rows}) AS filled";
