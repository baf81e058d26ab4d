//! What an auditor reads of the orders' own tables, at the same moment as the store's.

use std::collections::HashMap;

use async_trait::async_trait;
use saga_core::{Audit, Body, PostgresAudit, SqliteAudit};
use sqlx::Row as _;
use uuid::Uuid;

use crate::orders::OrdersError;

/// A notification, as far as an auditor needs it. The kind is what is stored, whether it is known or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The order.
    pub order_id: Uuid,
    /// What it tells.
    pub kind: String,
    /// The message that it answers.
    pub message_id: Uuid,
}

/// A look at a store and at the orders' tables beside it; both are of one moment.
#[async_trait]
pub trait OrderAudit: Audit {
    /// The largest id of an order, or of a notification's.
    async fn last_order_id(&mut self) -> Result<Option<Uuid>, OrdersError>;

    /// The ids, from `from` on and in their order, of orders and of notifications that may have none: `limit` of them, or
    /// all there are.
    async fn order_ids(&mut self, from: Uuid, limit: usize) -> Result<Vec<Uuid>, OrdersError>;

    /// The status of those of the orders that exist, as it is stored.
    async fn statuses(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, String>, OrdersError>;

    /// The notifications of these orders.
    async fn told(&mut self, ids: &[Uuid]) -> Result<Vec<Told>, OrdersError>;
}

/// Each half is found at the end of an index.
const LAST: &str = "SELECT id FROM (SELECT id FROM orders ORDER BY id DESC LIMIT 1) AS o
    UNION SELECT order_id FROM (SELECT order_id FROM notifications ORDER BY order_id DESC LIMIT 1) AS n
    ORDER BY 1 DESC LIMIT 1";

#[async_trait]
impl OrderAudit for SqliteAudit {
    async fn last_order_id(&mut self) -> Result<Option<Uuid>, OrdersError> {
        let rows = sqlx::query(LAST).fetch_all(self.connection()).await?;
        rows.first().map(|row| parsed(row.try_get(0)?)).transpose()
    }

    async fn order_ids(&mut self, from: Uuid, limit: usize) -> Result<Vec<Uuid>, OrdersError> {
        let rows = sqlx::query(
            "SELECT id FROM (SELECT id FROM orders WHERE id >= ?1 ORDER BY id LIMIT ?2)
             UNION SELECT order_id FROM
               (SELECT DISTINCT order_id FROM notifications WHERE order_id >= ?1 ORDER BY order_id LIMIT ?2)
             ORDER BY 1 LIMIT ?2",
        );
        let rows = rows.bind(from.to_string()).bind(limited(limit)).fetch_all(self.connection()).await?;
        rows.iter().map(|row| parsed(row.try_get(0)?)).collect()
    }

    async fn statuses(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, String>, OrdersError> {
        let rows = sqlx::query("SELECT id, status FROM orders WHERE id IN (SELECT value FROM json_each(?))");
        let rows = rows.bind(Body::of(&ids).into_string()).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((parsed(row.try_get(0)?)?, row.try_get(1)?))).collect()
    }

    async fn told(&mut self, ids: &[Uuid]) -> Result<Vec<Told>, OrdersError> {
        let rows = sqlx::query(
            "SELECT order_id, kind, message_id FROM notifications
             WHERE order_id IN (SELECT value FROM json_each(?)) ORDER BY order_id, kind",
        );
        let rows = rows.bind(Body::of(&ids).into_string()).fetch_all(self.connection()).await?;
        let told = rows.iter().map(|row| {
            let (order_id, message_id) = (parsed(row.try_get(0)?)?, parsed(row.try_get(2)?)?);
            Ok(Told { order_id, kind: row.try_get(1)?, message_id })
        });
        told.collect()
    }
}

#[async_trait]
impl OrderAudit for PostgresAudit {
    async fn last_order_id(&mut self) -> Result<Option<Uuid>, OrdersError> {
        let rows = sqlx::query(LAST).fetch_all(self.connection()).await?;
        rows.first().map(|row| Ok(row.try_get(0)?)).transpose()
    }

    async fn order_ids(&mut self, from: Uuid, limit: usize) -> Result<Vec<Uuid>, OrdersError> {
        let rows = sqlx::query(
            "SELECT id FROM (SELECT id FROM orders WHERE id >= $1 ORDER BY id LIMIT $2) AS o
             UNION SELECT order_id FROM
               (SELECT DISTINCT order_id FROM notifications WHERE order_id >= $1 ORDER BY order_id LIMIT $2) AS n
             ORDER BY 1 LIMIT $2",
        );
        let rows = rows.bind(from).bind(limited(limit)).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn statuses(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, String>, OrdersError> {
        let rows = sqlx::query("SELECT id, status FROM orders WHERE id = ANY($1)");
        let rows = rows.bind(ids).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    async fn told(&mut self, ids: &[Uuid]) -> Result<Vec<Told>, OrdersError> {
        let rows = sqlx::query(
            "SELECT order_id, kind, message_id FROM notifications WHERE order_id = ANY($1) ORDER BY order_id, kind",
        );
        let rows = rows.bind(ids).fetch_all(self.connection()).await?;
        let told = rows.iter().map(|row| {
            let (order_id, message_id) = (row.try_get(0)?, row.try_get(2)?);
            Ok(Told { order_id, kind: row.try_get(1)?, message_id })
        });
        told.collect()
    }
}

fn parsed(text: &str) -> Result<Uuid, OrdersError> {
    text.parse().map_err(|error| OrdersError(format!("`{text}` is no id: {error}")))
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
