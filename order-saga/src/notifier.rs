//! The notifier: tells users what became of their orders, and leaves an audit trail, on the endpoint `order-notifier`.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::SubsecRound;
use rust_decimal::Decimal;
use saga_core::{Consumer, Failure, HandlerContext, Output, derive_id};
use uuid::Uuid;

use crate::messages::{OrderCompleted, OrderExpired};
use crate::orders::{Notification, NotificationKind};

/// The endpoint that notifies.
pub const ORDER_NOTIFIER: &str = "order-notifier";

/// Sends e-mails.
///
/// A mail may be handed over twice, after a failure or a crash between the mail and its row, with the same idempotency
/// key: only a provider that honours the key sends it once.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// Sends one mail.
    ///
    /// # Errors
    /// [`Failure::retry`] when trying again may help, [`Failure::permanent`] when not.
    async fn send(&self, mail: &Mail, idempotency_key: Uuid) -> Result<(), Failure>;
}

/// An e-mail: an order was completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// To whom.
    pub user_id: String,
    /// About which order.
    pub order_id: Uuid,
    /// What it cost.
    pub total: Decimal,
    /// What it says.
    pub subject: String,
}

/// Sends nothing: writes one structured line to the log for each mail.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogMailer;

#[async_trait]
impl Mailer for LogMailer {
    async fn send(&self, mail: &Mail, idempotency_key: Uuid) -> Result<(), Failure> {
        tracing::info!(
            target: "order_saga::mail",
            user_id = %mail.user_id,
            order_id = %mail.order_id,
            total = %mail.total,
            subject = %mail.subject,
            %idempotency_key,
            "mail sent"
        );
        Ok(())
    }
}

/// Notifies: an e-mail and a row for a completed order, a row for an expired one.
pub struct Notifier {
    mailer: Arc<dyn Mailer>,
}

impl Notifier {
    /// A notifier that mails through `mailer`.
    pub fn new(mailer: Arc<dyn Mailer>) -> Self {
        Self { mailer }
    }
}

#[async_trait]
impl Consumer<OrderCompleted> for Notifier {
    type Row = Notification;

    async fn consume(&self, event: &OrderCompleted, context: &HandlerContext) -> Result<Output<Notification>, Failure> {
        let mail = Mail {
            user_id: event.user_id.clone(),
            order_id: event.order_id,
            total: event.total,
            subject: format!("Your order {} is complete", event.order_id),
        };
        self.mailer.send(&mail, context.idempotency_key()).await?;
        let result = format!("paid {}; mail sent", event.total);
        let (order_id, user_id) = (event.order_id, event.user_id.clone());
        Ok(Output::none().write(notification(order_id, user_id, NotificationKind::Completed, result, context)))
    }
}

#[async_trait]
impl Consumer<OrderExpired> for Notifier {
    type Row = Notification;

    async fn consume(&self, event: &OrderExpired, context: &HandlerContext) -> Result<Output<Notification>, Failure> {
        let result = format!("not paid; had not moved since {}", event.since.to_rfc3339());
        let (order_id, user_id) = (event.order_id, event.user_id.clone());
        Ok(Output::none().write(notification(order_id, user_id, NotificationKind::Expired, result, context)))
    }
}

/// The id of the notification that answers a message: the same however often the message is delivered.
pub fn notification_id(message_id: Uuid) -> Uuid {
    derive_id(message_id, "notification")
}

fn notification(
    order_id: Uuid,
    user_id: String,
    kind: NotificationKind,
    result: String,
    context: &HandlerContext,
) -> Notification {
    Notification {
        id: notification_id(context.message_id()),
        order_id,
        user_id,
        kind,
        result,
        message_id: context.message_id(),
        conversation_id: context.conversation_id(),
        attempts: context.attempt(),
        created_at: context.now().trunc_subsecs(6),
    }
}
