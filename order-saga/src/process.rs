//! The order process as a whole, registered with a runtime.

use std::sync::Arc;
use std::time::Duration;

use saga_core::{HandlerOptions, RuntimeBuilder};

use crate::activities::{PaymentHandler, RefundHandler};
use crate::gateway::PaymentGateway;
use crate::messages::{OrderCompleted, OrderExpired, ProcessPayment, RefundPayment};
use crate::notifier::{Mailer, Notifier, ORDER_NOTIFIER};
use crate::order::Order;

/// How long a gateway or a mailer may take to answer, beside the payment's delay, before the attempt has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many notifications are made at the same time: as many as one batch of the runtime holds.
const NOTIFIER_CONCURRENCY: usize = 512;

/// The order process: its saga, its activities, its notifier, and what they stand on.
///
/// The store must have been given writers for [`OrderRow`](crate::OrderRow) and [`Notification`](crate::Notification).
#[derive(Clone)]
pub struct OrderProcess {
    /// Who decides about payments.
    pub gateway: Arc<dyn PaymentGateway>,
    /// Who sends mails.
    pub mailer: Arc<dyn Mailer>,
    /// How long a payment waits before it asks the gateway.
    pub payment_delay: Duration,
    /// How many payments are under way at the same time, those that wait included.
    pub payment_concurrency: usize,
}

impl OrderProcess {
    /// How long a payment waits, if nothing else is said.
    pub const PAYMENT_DELAY: Duration = Duration::from_secs(5);
    /// How many payments are under way at the same time, if nothing else is said.
    pub const PAYMENT_CONCURRENCY: usize = 10_000;

    /// The process with the usual delay and concurrency.
    pub fn new(gateway: Arc<dyn PaymentGateway>, mailer: Arc<dyn Mailer>) -> Self {
        Self { gateway, mailer, payment_delay: Self::PAYMENT_DELAY, payment_concurrency: Self::PAYMENT_CONCURRENCY }
    }

    /// Registers saga, activities and consumers.
    #[must_use]
    pub fn register(self, builder: RuntimeBuilder) -> RuntimeBuilder {
        let payment = HandlerOptions {
            concurrency: self.payment_concurrency,
            timeout: self.payment_delay.saturating_add(ANSWER_TIMEOUT),
        };
        let notifier = HandlerOptions { concurrency: NOTIFIER_CONCURRENCY, timeout: ANSWER_TIMEOUT };
        let pay = PaymentHandler::new(self.gateway.clone(), self.payment_delay);
        builder
            .saga::<Order>()
            .activity::<ProcessPayment>(pay, payment)
            .activity::<RefundPayment>(RefundHandler::new(self.gateway), payment)
            .consumer::<OrderCompleted>(ORDER_NOTIFIER, Notifier::new(self.mailer.clone()), notifier)
            .consumer::<OrderExpired>(ORDER_NOTIFIER, Notifier::new(self.mailer), notifier)
    }
}
