//! Orders and notifications in SQLite; the tables are those of `migrations/sqlite`, from 0002 on.
//!
//! `OR FAIL` saves SQLite the journal it would keep of each statement: a failure rolls the whole transaction back anyway.

use std::collections::HashMap;
use std::fmt::Display;
use std::rc::Rc;
use std::str::FromStr;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{Connection, Statement, params};
use saga_core::{Body, SqliteWriter};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::orders::{
    Notification, NotificationKind, OrderItem, OrderPage, OrderRow, OrderStatus, Orders, OrdersError, Overdue,
    StoredOrder,
};

/// Writes the rows of orders and notifications inside the store's transaction: the writer of [`OrderRow`] and of
/// [`Notification`] that the SQLite store is built with.
#[derive(Debug, Clone, Copy, Default)]
pub struct SqliteOrderRows;

impl SqliteWriter<OrderRow> for SqliteOrderRows {
    fn write(&self, connection: &Connection, rows: &[&OrderRow]) -> rusqlite::Result<()> {
        let mut order = connection.prepare_cached(ORDER)?;
        let mut item = connection.prepare_cached(ITEM)?;
        let mut status = connection.prepare_cached(STATUS)?;
        let mut times = Times::default();
        for row in rows {
            match row {
                OrderRow::Submitted(it) => insert_order(it, &mut order, &mut item, &mut times)?,
                OrderRow::Status { id: order, status: name, at } => {
                    let mut buffer = [0; Hyphenated::LENGTH];
                    let updated = status.execute(params![id(*order, &mut buffer), name.name(), times.text(*at)])?;
                    if updated != 1 {
                        // A status of an order that is not there would part the saga from its order: refuse it.
                        return Err(rusqlite::Error::StatementChangedRows(updated));
                    }
                }
            }
        }
        Ok(())
    }
}

const ORDER: &str = "INSERT OR FAIL INTO orders
       (id, user_id, status, total, submission_id, fingerprint, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";

const ITEM: &str =
    "INSERT OR FAIL INTO order_items (order_id, position, product_id, quantity, price) VALUES (?, ?, ?, ?, ?)";

const STATUS: &str = "UPDATE OR FAIL orders SET status = ?2, updated_at = ?3 WHERE id = ?1";

const NOTIFICATION: &str = "INSERT INTO notifications
       (id, order_id, user_id, kind, result, message_id, conversation_id, attempts, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (order_id, kind) DO NOTHING";

impl SqliteWriter<Notification> for SqliteOrderRows {
    /// The first notification of a kind stays: a second one says nothing new.
    fn write(&self, connection: &Connection, rows: &[&Notification]) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached(NOTIFICATION)?;
        let mut times = Times::default();
        for it in rows {
            insert.execute(params![
                id(it.id, &mut [0; Hyphenated::LENGTH]),
                id(it.order_id, &mut [0; Hyphenated::LENGTH]),
                it.user_id,
                it.kind.name(),
                it.result,
                id(it.message_id, &mut [0; Hyphenated::LENGTH]),
                id(it.conversation_id, &mut [0; Hyphenated::LENGTH]),
                it.attempts,
                times.text(it.created_at),
            ])?;
        }
        Ok(())
    }
}

fn insert_order(
    it: &StoredOrder,
    order: &mut Statement<'_>,
    item: &mut Statement<'_>,
    times: &mut Times,
) -> rusqlite::Result<()> {
    let [of_order, of_submission] = &mut [[0; Hyphenated::LENGTH]; 2];
    let (id, submission_id, total) = (id(it.id, of_order), id(it.submission_id, of_submission), it.total.to_string());
    let (status, created, updated) = (it.status.name(), times.text(it.created_at), times.text(it.updated_at));
    order.execute(params![id, it.user_id, status, total, submission_id, it.fingerprint, created, updated])?;
    for (position, of) in (0_i64..).zip(&it.items) {
        item.execute(params![id, position, of.product_id, of.quantity, of.price.to_string()])?;
    }
    Ok(())
}

/// The condition on `status` is that of the index `orders_undecided`, word for word.
const OVERDUE: &str = "SELECT id, updated_at FROM orders
    WHERE status IN ('pending', 'processing') AND updated_at < ?1 AND (updated_at, id) > (?2, ?3)
    ORDER BY updated_at, id LIMIT ?4";

/// `id < ?2` is always said, so that SQLite walks the index `orders_user` from there.
const PAGE: &str = "SELECT * FROM orders WHERE user_id = ?1 AND id < ?2 AND (?3 IS NULL OR status = ?3)
    ORDER BY id DESC LIMIT ?4";

/// Reads orders and notifications out of SQLite.
#[derive(Debug, Clone)]
pub struct SqliteOrders {
    pool: SqlitePool,
}

impl SqliteOrders {
    /// Reads through this pool; the tables must be there.
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    /// The orders of these rows, each with its items.
    async fn with_items(&self, rows: Vec<SqliteRow>) -> Result<Vec<StoredOrder>, OrdersError> {
        let mut orders = rows.iter().map(order).collect::<Result<Vec<_>, _>>()?;
        if orders.is_empty() {
            return Ok(orders);
        }
        let places: HashMap<_, _> = orders.iter().enumerate().map(|(place, order)| (order.id, place)).collect();
        let items = sqlx::query(
            "SELECT order_id, product_id, quantity, price FROM order_items
             WHERE order_id IN (SELECT value FROM json_each(?1)) ORDER BY order_id, position",
        )
        .bind(json(&orders.iter().map(|order| order.id).collect::<Vec<_>>()))
        .fetch_all(&self.pool)
        .await?;
        for row in &items {
            let item = OrderItem {
                product_id: row.try_get("product_id")?,
                quantity: row.try_get("quantity")?,
                price: parsed(row, "price")?,
            };
            if let Some(&place) = places.get(&parsed::<Uuid>(row, "order_id")?) {
                orders[place].items.push(item);
            }
        }
        Ok(orders)
    }
}

#[async_trait]
impl Orders for SqliteOrders {
    async fn order(&self, id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        let rows = sqlx::query("SELECT * FROM orders WHERE id = ?1").bind(id.to_string()).fetch_all(&self.pool).await?;
        Ok(self.with_items(rows).await?.pop())
    }

    async fn submitted(&self, submission_id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        let query = sqlx::query("SELECT * FROM orders WHERE submission_id = ?1").bind(submission_id.to_string());
        let rows = query.fetch_all(&self.pool).await?;
        Ok(self.with_items(rows).await?.pop())
    }

    async fn page(&self, page: &OrderPage<'_>) -> Result<Vec<StoredOrder>, OrdersError> {
        /// Behind every id, which is made of hexadecimal digits.
        const BEHIND_ALL: &str = "g";
        let rows = sqlx::query(PAGE)
            .bind(page.user_id)
            .bind(page.before.map_or_else(|| BEHIND_ALL.to_owned(), |before| before.to_string()))
            .bind(page.status.map(OrderStatus::name))
            .bind(limited(page.limit))
            .fetch_all(&self.pool)
            .await?;
        self.with_items(rows).await
    }

    async fn notifications(&self, order_id: Uuid) -> Result<Vec<Notification>, OrdersError> {
        let rows = sqlx::query("SELECT * FROM notifications WHERE order_id = ?1 ORDER BY created_at, id")
            .bind(order_id.to_string())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(notification).collect()
    }

    async fn overdue(
        &self,
        before: DateTime<Utc>,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, OrdersError> {
        let (since, id) = after.map_or_else(Default::default, |last| (text(last.since), last.order_id.to_string()));
        let rows = sqlx::query(OVERDUE)
            .bind(text(before))
            .bind(since)
            .bind(id)
            .bind(limited(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok(Overdue { order_id: parsed(row, "id")?, since: parsed(row, "updated_at")? })).collect()
    }

    async fn count(&self) -> Result<Vec<(OrderStatus, u64)>, OrdersError> {
        let rows = sqlx::query("SELECT status AS name, count(*) AS n FROM orders GROUP BY status");
        let counts = counts(&rows.fetch_all(&self.pool).await?)?;
        Ok(OrderStatus::ALL.map(|status| (status, counts.get(status.name()).copied().unwrap_or(0))).to_vec())
    }

    async fn count_notifications(&self) -> Result<Vec<(NotificationKind, u64)>, OrdersError> {
        let rows = sqlx::query("SELECT kind AS name, count(*) AS n FROM notifications GROUP BY kind");
        let counts = counts(&rows.fetch_all(&self.pool).await?)?;
        Ok(NotificationKind::ALL.map(|kind| (kind, counts.get(kind.name()).copied().unwrap_or(0))).to_vec())
    }
}

fn order(row: &SqliteRow) -> Result<StoredOrder, OrdersError> {
    Ok(StoredOrder {
        id: parsed(row, "id")?,
        user_id: row.try_get("user_id")?,
        status: named(row, "status", OrderStatus::from_name)?,
        total: parsed(row, "total")?,
        items: Vec::new(),
        submission_id: parsed(row, "submission_id")?,
        fingerprint: row.try_get("fingerprint")?,
        created_at: parsed(row, "created_at")?,
        updated_at: parsed(row, "updated_at")?,
    })
}

fn notification(row: &SqliteRow) -> Result<Notification, OrdersError> {
    Ok(Notification {
        id: parsed(row, "id")?,
        order_id: parsed(row, "order_id")?,
        user_id: row.try_get("user_id")?,
        kind: named(row, "kind", NotificationKind::from_name)?,
        result: row.try_get("result")?,
        message_id: parsed(row, "message_id")?,
        conversation_id: parsed(row, "conversation_id")?,
        attempts: row.try_get("attempts")?,
        created_at: parsed(row, "created_at")?,
    })
}

fn counts(rows: &[SqliteRow]) -> Result<HashMap<String, u64>, OrdersError> {
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("n")?))).collect()
}

fn parsed<T: FromStr<Err: Display>>(row: &SqliteRow, column: &str) -> Result<T, OrdersError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| OrdersError(format!("`{text}` in column {column}: {error}")))
}

fn named<T>(row: &SqliteRow, column: &str, from_name: fn(&str) -> Option<T>) -> Result<T, OrdersError> {
    let text: &str = row.try_get(column)?;
    from_name(text).ok_or_else(|| OrdersError(format!("`{text}` in column {column} is not known to this version")))
}

/// Writes an id into the buffer: the thread on which rows are written has better to do than to allocate.
fn id(id: Uuid, buffer: &mut [u8; Hyphenated::LENGTH]) -> &str {
    id.hyphenated().encode_lower(buffer)
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Times as text; the last one is remembered, because rows that are written together mostly have one time.
#[derive(Default)]
struct Times(Option<(DateTime<Utc>, Rc<str>)>);

impl Times {
    fn text(&mut self, at: DateTime<Utc>) -> Rc<str> {
        match &self.0 {
            Some((known, text)) if *known == at => text.clone(),
            _ => self.0.insert((at, text(at).into())).1.clone(),
        }
    }
}

fn json<T: serde::Serialize>(values: &T) -> String {
    Body::of(values).as_str().to_owned()
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use sqlx::{AssertSqlSafe, Row as _, SqlitePool};

    use super::{OVERDUE, PAGE};

    /// How SQLite would find the rows.
    async fn plan(pool: &SqlitePool, query: &str) -> String {
        // The queries are constants of this file.
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")));
        explained.fetch_all(pool).await.unwrap().iter().map(|row| row.get::<String, _>("detail") + ";").collect()
    }

    #[tokio::test]
    async fn an_index_leads_to_overdue_orders_and_to_a_page() {
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(SqliteConnectOptions::new().in_memory(true)).await.unwrap();
        let tables = [
            include_str!("../../../migrations/sqlite/0002_orders.sql"),
            include_str!("../../../migrations/sqlite/0003_status.sql"),
        ];
        for sql in tables {
            sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        }
        let search = "SEARCH orders USING INDEX";
        let overdue = format!("{search} orders_undecided ((updated_at,id)>(?,?) AND updated_at<?);");
        assert_eq!(plan(&pool, OVERDUE).await, overdue);
        assert_eq!(plan(&pool, PAGE).await, format!("{search} orders_user (user_id=? AND id<?);"));
    }
}
