//! The messages of the order process. Their names and their JSON are what is stored and sent: a durable contract,
//! pinned by a golden file. A field that is added needs `#[serde(default)]`.
//!
//! Money is a decimal written as a string, never a float. A number is read too, because others write one: exactly, as
//! long as it has no more than fifteen digits, and an order's total has eleven at the most.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use saga_core::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::orders::OrderItem;
use crate::submission::SubmittedOrder;

/// Somebody ordered. Sent by the host to the order saga, or published by another service; its message id is the id of the
/// submission.
///
/// One that is read has passed the same check as an order over REST, and its total is the sum of its items: what another
/// service gets wrong is a dead letter that says so, and no order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "SubmittedOrder")]
pub struct OrderSubmitted {
    /// The order, an id that nobody has used before: of one that is known, nothing changes.
    pub order_id: Uuid,
    /// Who ordered.
    pub user_id: String,
    /// What is ordered.
    pub items: Vec<OrderItem>,
    /// The sum of the items.
    pub total: Decimal,
    /// The fingerprint of what was submitted; see [`CheckedOrder::fingerprint`](crate::CheckedOrder::fingerprint). Who
    /// can not know it leaves it out: it is then that of the items.
    pub fingerprint: String,
}

/// An order was accepted and stored. Published by the order saga, which hears it itself and begins the payment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCreated {
    /// The order.
    pub order_id: Uuid,
    /// Whose it is.
    pub user_id: String,
    /// What it costs.
    pub total: Decimal,
}

/// "Charge this order." The command of an activity: sent by the order saga to `order-payment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessPayment {
    /// The order.
    pub order_id: Uuid,
    /// How much to charge.
    pub amount: Decimal,
}

/// The payment was approved. The answer of `order-payment` to the order saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentApproved {
    /// The order.
    pub order_id: Uuid,
    /// How much was charged.
    pub amount: Decimal,
    /// The gateway's own name for the charge; a refund names it.
    pub reference: String,
}

/// The payment was declined. The answer of `order-payment` to the order saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentDeclined {
    /// The order.
    pub order_id: Uuid,
    /// Why, in the gateway's words.
    pub reason: String,
}

/// The payment could not be asked for, and no retry is left. The answer of `order-payment` to the order saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    /// The order.
    pub order_id: Uuid,
    /// What was wrong at the last attempt.
    pub error: String,
}

/// An order has not moved for too long. Submitted by the expiry job to the order saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderOverdue {
    /// The order.
    pub order_id: Uuid,
    /// When its status had changed last, as the job saw it. An order that moved since is not expired.
    pub since: DateTime<Utc>,
}

/// An order was paid. Published by the order saga; the notifier listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCompleted {
    /// The order.
    pub order_id: Uuid,
    /// Whose it is.
    pub user_id: String,
    /// What was paid.
    pub total: Decimal,
}

/// An order was not paid in time. Published by the order saga; the notifier listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderExpired {
    /// The order.
    pub order_id: Uuid,
    /// Whose it is.
    pub user_id: String,
    /// What it would have cost.
    pub total: Decimal,
    /// Since when it had not moved.
    pub since: DateTime<Utc>,
}

/// "Give the money back." The command of an activity: sent by the order saga to `order-payment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefundPayment {
    /// The order.
    pub order_id: Uuid,
    /// How much to give back.
    pub amount: Decimal,
    /// The charge, as the gateway named it.
    pub reference: String,
}

/// The money was given back. The answer of `order-payment` to the order saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRefunded {
    /// The order.
    pub order_id: Uuid,
    /// How much was given back.
    pub amount: Decimal,
}

/// The money could not be given back, and no retry is left. The answer of `order-payment` to the order saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefundFailed {
    /// The order.
    pub order_id: Uuid,
    /// What was wrong at the last attempt.
    pub error: String,
}

macro_rules! named {
    ($($message:ident)+) => {
        $(impl Message for $message {
            const NAME: &'static str = concat!("Orders:", stringify!($message));
        })+
    };
}
named! {
    OrderSubmitted OrderCreated ProcessPayment PaymentApproved PaymentDeclined PaymentFailed
    OrderOverdue OrderCompleted OrderExpired RefundPayment PaymentRefunded RefundFailed
}
