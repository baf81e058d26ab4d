//! The payment: what performs `ProcessPayment` and `RefundPayment`, on the endpoint `order-payment`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use saga_core::{Activity, ActivityHandler, Failure, HandlerContext, outcomes};

use crate::gateway::{Decision, PaymentGateway};
use crate::messages::{
    PaymentApproved, PaymentDeclined, PaymentFailed, PaymentRefunded, ProcessPayment, RefundFailed, RefundPayment,
};

/// The endpoint that performs payments and refunds.
pub const ORDER_PAYMENT: &str = "order-payment";

outcomes! {
    /// What a payment may come to.
    pub enum PaymentOutcome { PaymentApproved, PaymentDeclined }
}

impl Activity for ProcessPayment {
    const ENDPOINT: &'static str = ORDER_PAYMENT;
    type Outcome = PaymentOutcome;
    type Failed = PaymentFailed;

    fn failed(&self, failure: &Failure) -> PaymentFailed {
        PaymentFailed { order_id: self.order_id, error: failure.message().to_owned() }
    }
}

impl Activity for RefundPayment {
    const ENDPOINT: &'static str = ORDER_PAYMENT;
    type Outcome = PaymentRefunded;
    type Failed = RefundFailed;

    fn failed(&self, failure: &Failure) -> RefundFailed {
        RefundFailed { order_id: self.order_id, error: failure.message().to_owned() }
    }
}

/// Performs payments: waits, by the runtime's clock, then asks the gateway.
///
/// After a crash it waits and asks again, under the same idempotency key; that a card is charged once is then the
/// gateway's promise.
pub struct PaymentHandler {
    gateway: Arc<dyn PaymentGateway>,
    delay: Duration,
}

impl PaymentHandler {
    /// A handler that waits `delay` before it asks.
    pub fn new(gateway: Arc<dyn PaymentGateway>, delay: Duration) -> Self {
        Self { gateway, delay }
    }
}

#[async_trait]
impl ActivityHandler<ProcessPayment> for PaymentHandler {
    async fn execute(&self, command: &ProcessPayment, context: &HandlerContext) -> Result<PaymentOutcome, Failure> {
        context.sleep(self.delay).await;
        let order_id = command.order_id;
        Ok(match self.gateway.charge(command, context.idempotency_key()).await? {
            Decision::Approved { reference } => PaymentApproved { order_id, amount: command.amount, reference }.into(),
            Decision::Declined { reason } => PaymentDeclined { order_id, reason }.into(),
        })
    }
}

/// Gives money back, at once.
pub struct RefundHandler {
    gateway: Arc<dyn PaymentGateway>,
}

impl RefundHandler {
    /// A handler that asks `gateway`.
    pub fn new(gateway: Arc<dyn PaymentGateway>) -> Self {
        Self { gateway }
    }
}

#[async_trait]
impl ActivityHandler<RefundPayment> for RefundHandler {
    async fn execute(&self, command: &RefundPayment, context: &HandlerContext) -> Result<PaymentRefunded, Failure> {
        self.gateway.refund(command, context.idempotency_key()).await?;
        Ok(PaymentRefunded { order_id: command.order_id, amount: command.amount })
    }
}
