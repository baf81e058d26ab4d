//! Orders as they are stored and shown: the domain's own rows, and the port by which they are read.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::messages::OrderSubmitted;

/// Where an order stands, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Submitted, not yet in work.
    Pending,
    /// Its payment is under way, or was declined or failed.
    Processing,
    /// Paid.
    Completed,
    /// Not paid in time.
    Expired,
}

impl OrderStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Processing, Self::Completed, Self::Expired];

    /// The stored name: part of the durable contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Expired => "expired",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// One item of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderItem {
    /// What is ordered.
    pub product_id: String,
    /// How many, at least 1.
    pub quantity: u32,
    /// The price of one.
    pub price: Decimal,
}

/// An order as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredOrder {
    /// Its id, which is the saga's correlation id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: String,
    /// Where it stands.
    pub status: OrderStatus,
    /// The sum of its items.
    pub total: Decimal,
    /// What is ordered, in the order of the submission.
    pub items: Vec<OrderItem>,
    /// The message id of its submission.
    pub submission_id: Uuid,
    /// A fingerprint of the submission's body: the same key with another body is refused.
    pub fingerprint: String,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its status changed last.
    pub updated_at: DateTime<Utc>,
}

impl StoredOrder {
    /// A new order, as the saga writes it when its submission is committed at `at`.
    pub fn submitted(event: &OrderSubmitted, submission_id: Uuid, at: DateTime<Utc>) -> Self {
        Self {
            id: event.order_id,
            user_id: event.user_id.clone(),
            status: OrderStatus::Pending,
            total: event.total,
            items: event.items.clone(),
            submission_id,
            fingerprint: event.fingerprint.clone(),
            created_at: at,
            updated_at: at,
        }
    }
}

/// What a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotificationKind {
    /// The order was completed.
    Completed,
    /// The order expired.
    Expired,
}

impl NotificationKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Completed, Self::Expired];

    /// The stored name: part of the durable contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Expired => "expired",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// A row of the orders' tables, written in the transaction that moves the order saga.
#[derive(Debug, Clone, PartialEq)]
pub enum OrderRow {
    /// A new order.
    Submitted(StoredOrder),
    /// An order's status changed.
    Status {
        /// The order.
        id: Uuid,
        /// Where it stands now.
        status: OrderStatus,
        /// Since when.
        at: DateTime<Utc>,
    },
}

/// A notification as it is stored: the audit trail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Its id, derived from the message it answers.
    pub id: Uuid,
    /// The order.
    pub order_id: Uuid,
    /// The order's user.
    pub user_id: String,
    /// What happened.
    pub kind: NotificationKind,
    /// With which result, for people.
    pub result: String,
    /// The message it answers.
    pub message_id: Uuid,
    /// The conversation of that message.
    pub conversation_id: Uuid,
    /// At which attempt it was made; the first is 1.
    pub attempts: u32,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// A page of one user's orders, newest first.
#[derive(Debug, Clone)]
pub struct OrderPage<'a> {
    /// Whose.
    pub user_id: &'a str,
    /// Only those with this status.
    pub status: Option<OrderStatus>,
    /// Only those with an id smaller than this (UUIDv7: made earlier).
    pub before: Option<Uuid>,
    /// How many at most.
    pub limit: usize,
}

/// An order that has not moved for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// The order.
    pub order_id: Uuid,
    /// When its status changed last.
    pub since: DateTime<Utc>,
}

/// Reads orders and notifications. Adapters: memory, SQLite and PostgreSQL.
#[async_trait]
pub trait Orders: Send + Sync + 'static {
    /// One order with its items.
    async fn order(&self, id: Uuid) -> Result<Option<StoredOrder>, OrdersError>;

    /// The order that was submitted under this message id.
    async fn submitted(&self, submission_id: Uuid) -> Result<Option<StoredOrder>, OrdersError>;

    /// A page of one user's orders, newest first.
    async fn page(&self, page: &OrderPage<'_>) -> Result<Vec<StoredOrder>, OrdersError>;

    /// The notifications of one order, oldest first.
    async fn notifications(&self, order_id: Uuid) -> Result<Vec<Notification>, OrdersError>;

    /// A page of the orders that are pending or processing and have not moved since `before`, oldest first, then by
    /// id; it begins behind `after`, the last one of the page before.
    async fn overdue(
        &self,
        before: DateTime<Utc>,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, OrdersError>;

    /// How many orders there are of each status.
    async fn count(&self) -> Result<Vec<(OrderStatus, u64)>, OrdersError>;

    /// How many notifications there are of each kind.
    async fn count_notifications(&self) -> Result<Vec<(NotificationKind, u64)>, OrdersError>;
}

/// Orders can not be read now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("orders can not be read: {0}")]
pub struct OrdersError(pub String);
