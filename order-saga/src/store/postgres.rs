//! Orders and notifications in PostgreSQL; the tables are those of `migrations/postgres/0002_orders.sql`.
//!
//! The rows of a batch go into one statement a table. Money is `numeric` in the tables and text on the way, so that it
//! keeps its digits.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use saga_core::PostgresWriter;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::orders::{
    Notification, NotificationKind, OrderItem, OrderPage, OrderRow, OrderStatus, Orders, OrdersError, Overdue,
    StoredOrder,
};

/// Writes the rows of orders and notifications inside the store's transaction: the writer of [`OrderRow`] and of
/// [`Notification`] that the PostgreSQL store is built with.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresOrderRows;

#[async_trait]
impl PostgresWriter<OrderRow> for PostgresOrderRows {
    /// Writes new orders first, then the last status of each order.
    async fn write(&self, connection: &mut PgConnection, rows: &[&OrderRow]) -> Result<(), sqlx::Error> {
        let mut submitted = Vec::new();
        // In the order of the keys, so that transactions that meet wait for each other and do not lock each other out.
        let mut statuses = BTreeMap::new();
        for row in rows {
            match row {
                OrderRow::Submitted(order) => submitted.push(order),
                OrderRow::Status { id, status, at } => {
                    statuses.insert(*id, (*status, *at));
                }
            }
        }
        if !submitted.is_empty() {
            insert_orders(connection, &submitted).await?;
        }
        if !statuses.is_empty() {
            update_statuses(connection, &statuses).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl PostgresWriter<Notification> for PostgresOrderRows {
    /// The first notification of a kind stays: a second one says nothing new.
    async fn write(&self, connection: &mut PgConnection, rows: &[&Notification]) -> Result<(), sqlx::Error> {
        let insert = sqlx::query(
            "INSERT INTO notifications
               (id, order_id, user_id, kind, result, message_id, conversation_id, attempts, created_at)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[],
               $8::bigint[], $9::timestamptz[])
             ON CONFLICT (order_id, kind) DO NOTHING",
        );
        insert
            .bind(column(rows, |it| it.id))
            .bind(column(rows, |it| it.order_id))
            .bind(column(rows, |it| &*it.user_id))
            .bind(column(rows, |it| it.kind.name()))
            .bind(column(rows, |it| &*it.result))
            .bind(column(rows, |it| it.message_id))
            .bind(column(rows, |it| it.conversation_id))
            .bind(column(rows, |it| i64::from(it.attempts)))
            .bind(column(rows, |it| it.created_at))
            .execute(connection)
            .await
            .map(drop)
    }
}

async fn insert_orders(connection: &mut PgConnection, orders: &[&StoredOrder]) -> Result<(), sqlx::Error> {
    let insert = sqlx::query(
        "INSERT INTO orders (id, user_id, status, total, submission_id, fingerprint, created_at, updated_at)
         SELECT id, user_id, status, total::numeric, submission_id, fingerprint, created_at, updated_at
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[],
           $8::timestamptz[]) AS new (id, user_id, status, total, submission_id, fingerprint, created_at, updated_at)",
    );
    insert
        .bind(column(orders, |it| it.id))
        .bind(column(orders, |it| &*it.user_id))
        .bind(column(orders, |it| it.status.name()))
        .bind(column(orders, |it| it.total.to_string()))
        .bind(column(orders, |it| it.submission_id))
        .bind(column(orders, |it| &*it.fingerprint))
        .bind(column(orders, |it| it.created_at))
        .bind(column(orders, |it| it.updated_at))
        .execute(&mut *connection)
        .await?;
    let items: Vec<_> =
        orders.iter().flat_map(|order| (0_i32..).zip(&order.items).map(|item| (order.id, item))).collect();
    if items.is_empty() {
        return Ok(());
    }
    let insert = sqlx::query(
        "INSERT INTO order_items (order_id, position, product_id, quantity, price)
         SELECT order_id, position, product_id, quantity, price::numeric
         FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::bigint[], $5::text[])
           AS new (order_id, position, product_id, quantity, price)",
    );
    insert
        .bind(column(&items, |(order, _)| *order))
        .bind(column(&items, |(_, (position, _))| *position))
        .bind(column(&items, |(_, (_, item))| &*item.product_id))
        .bind(column(&items, |(_, (_, item))| i64::from(item.quantity)))
        .bind(column(&items, |(_, (_, item))| item.price.to_string()))
        .execute(connection)
        .await
        .map(drop)
}

async fn update_statuses(
    connection: &mut PgConnection,
    statuses: &BTreeMap<Uuid, (OrderStatus, DateTime<Utc>)>,
) -> Result<(), sqlx::Error> {
    let update = sqlx::query(
        "UPDATE orders SET status = new.status, updated_at = new.at
         FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS new (id, status, at) WHERE orders.id = new.id",
    );
    let names: Vec<_> = statuses.values().map(|(status, _)| status.name()).collect();
    let times: Vec<_> = statuses.values().map(|(_, at)| *at).collect();
    let ids: Vec<_> = statuses.keys().copied().collect();
    let updated = update.bind(ids).bind(names).bind(times).execute(connection).await?;
    // A status of an order that is not there would part the saga from its order: refuse it.
    if updated.rows_affected() == statuses.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// One column of many rows.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// The condition on `status` is that of the index `orders_undecided`, word for word.
const OVERDUE: &str = "SELECT id, updated_at FROM orders
    WHERE status IN ('pending', 'processing') AND updated_at < $1 AND (updated_at, id) > ($2, $3)
    ORDER BY updated_at, id LIMIT $4";

/// `id < $2` is always said, so that PostgreSQL walks the index `orders_user` from there.
const PAGE: &str =
    "SELECT id, user_id, status, total::text, submission_id, fingerprint, created_at, updated_at FROM orders
    WHERE user_id = $1 AND id < $2 AND ($3::text IS NULL OR status = $3) ORDER BY id DESC LIMIT $4";

/// Reads orders and notifications out of PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresOrders {
    pool: PgPool,
}

impl PostgresOrders {
    /// Reads through this pool; the tables must be there.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The orders of these rows, each with its items.
    async fn with_items(&self, rows: Vec<PgRow>) -> Result<Vec<StoredOrder>, OrdersError> {
        let mut orders = rows.iter().map(order).collect::<Result<Vec<_>, _>>()?;
        if orders.is_empty() {
            return Ok(orders);
        }
        let places: HashMap<_, _> = orders.iter().enumerate().map(|(place, order)| (order.id, place)).collect();
        let items = sqlx::query(
            "SELECT order_id, product_id, quantity, price::text FROM order_items
             WHERE order_id = ANY($1) ORDER BY order_id, position",
        )
        .bind(column(&orders, |order| order.id))
        .fetch_all(&self.pool)
        .await?;
        for row in &items {
            let item = OrderItem {
                product_id: row.try_get("product_id")?,
                quantity: number(row, "quantity")?,
                price: decimal(row, "price")?,
            };
            if let Some(&place) = places.get(&row.try_get("order_id")?) {
                orders[place].items.push(item);
            }
        }
        Ok(orders)
    }
}

#[async_trait]
impl Orders for PostgresOrders {
    async fn order(&self, id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        let query = sqlx::query(
            "SELECT id, user_id, status, total::text, submission_id, fingerprint, created_at, updated_at FROM orders
             WHERE id = $1",
        );
        Ok(self.with_items(query.bind(id).fetch_all(&self.pool).await?).await?.pop())
    }

    async fn submitted(&self, submission_id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        let query = sqlx::query(
            "SELECT id, user_id, status, total::text, submission_id, fingerprint, created_at, updated_at FROM orders
             WHERE submission_id = $1",
        );
        Ok(self.with_items(query.bind(submission_id).fetch_all(&self.pool).await?).await?.pop())
    }

    async fn page(&self, page: &OrderPage<'_>) -> Result<Vec<StoredOrder>, OrdersError> {
        let rows = sqlx::query(PAGE)
            .bind(page.user_id)
            .bind(page.before.unwrap_or(Uuid::max()))
            .bind(page.status.map(OrderStatus::name))
            .bind(limited(page.limit))
            .fetch_all(&self.pool)
            .await?;
        self.with_items(rows).await
    }

    async fn notifications(&self, order_id: Uuid) -> Result<Vec<Notification>, OrdersError> {
        let query = sqlx::query(
            "SELECT id, order_id, user_id, kind, result, message_id, conversation_id, attempts, created_at
             FROM notifications WHERE order_id = $1 ORDER BY created_at, id",
        );
        query.bind(order_id).fetch_all(&self.pool).await?.iter().map(notification).collect()
    }

    async fn overdue(
        &self,
        before: DateTime<Utc>,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, OrdersError> {
        let (since, id) = after.map_or((DateTime::UNIX_EPOCH, Uuid::nil()), |last| (last.since, last.order_id));
        let query = sqlx::query(OVERDUE).bind(before).bind(since).bind(id).bind(limited(limit));
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(Overdue { order_id: row.try_get("id")?, since: row.try_get("updated_at")? })).collect()
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

fn order(row: &PgRow) -> Result<StoredOrder, OrdersError> {
    Ok(StoredOrder {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        status: named(row, "status", OrderStatus::from_name)?,
        total: decimal(row, "total")?,
        items: Vec::new(),
        submission_id: row.try_get("submission_id")?,
        fingerprint: row.try_get("fingerprint")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn notification(row: &PgRow) -> Result<Notification, OrdersError> {
    Ok(Notification {
        id: row.try_get("id")?,
        order_id: row.try_get("order_id")?,
        user_id: row.try_get("user_id")?,
        kind: named(row, "kind", NotificationKind::from_name)?,
        result: row.try_get("result")?,
        message_id: row.try_get("message_id")?,
        conversation_id: row.try_get("conversation_id")?,
        attempts: number(row, "attempts")?,
        created_at: row.try_get("created_at")?,
    })
}

fn counts(rows: &[PgRow]) -> Result<HashMap<String, u64>, OrdersError> {
    rows.iter().map(|row| Ok((row.try_get("name")?, number(row, "n")?))).collect()
}

fn number<T: TryFrom<i64>>(row: &PgRow, column: &str) -> Result<T, OrdersError> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| OrdersError(format!("{number} in column {column} is out of range")))
}

fn decimal(row: &PgRow, column: &str) -> Result<Decimal, OrdersError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| OrdersError(format!("`{text}` in column {column}: {error}")))
}

fn named<T>(row: &PgRow, column: &str, from_name: fn(&str) -> Option<T>) -> Result<T, OrdersError> {
    let text: &str = row.try_get(column)?;
    from_name(text).ok_or_else(|| OrdersError(format!("`{text}` in column {column} is not known to this version")))
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
