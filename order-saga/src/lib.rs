//! The order process, written with saga-core: an order is submitted, paid for and completed, or it expires.
//!
//! Layout
//! - the saga: [`Order`] with its table, the [messages](OrderSubmitted), what it remembers of the [`Payment`]
//! - the way in: [`NewOrder::check`], [`submission_id`]
//! - the impure side: [`PaymentHandler`] and [`RefundHandler`] behind a [`PaymentGateway`], [`Notifier`] behind a
//!   [`Mailer`], [`ExpiryJob`]; [`OrderProcess`] registers them with a runtime
//! - the domain's own tables: [`OrderRow`], [`Notification`], the read port [`Orders`], and the adapters
//!   [`MemoryOrders`], [`SqliteOrders`] and [`PostgresOrders`]; an auditor reads through [`OrderAudit`]

mod activities;
mod audit;
mod expiry;
mod gateway;
mod messages;
mod notifier;
mod order;
mod orders;
mod payment;
mod process;
mod store;
mod submission;

pub use activities::{ORDER_PAYMENT, PaymentHandler, PaymentOutcome, RefundHandler};
pub use audit::{OrderAudit, Told};
pub use expiry::{Expiration, ExpiryJob, OverdueSink, Tick, overdue_id};
pub use gateway::{Decision, PaymentGateway, RandomGateway, ScriptedGateway, SuccessRate, SuccessRateError};
pub use messages::{
    OrderCompleted, OrderCreated, OrderExpired, OrderOverdue, OrderSubmitted, PaymentApproved, PaymentDeclined,
    PaymentFailed, PaymentRefunded, ProcessPayment, RefundFailed, RefundPayment,
};
pub use notifier::{LogMailer, Mail, Mailer, Notifier, ORDER_NOTIFIER, notification_id};
pub use order::{ORDER_SAGA, Order, OrderEvent, OrderState};
pub use orders::{
    Notification, NotificationKind, OrderItem, OrderPage, OrderRow, OrderStatus, Orders, OrdersError, Overdue,
    StoredOrder,
};
pub use payment::Payment;
pub use process::OrderProcess;
pub use store::memory::MemoryOrders;
pub use store::postgres::{PostgresOrderRows, PostgresOrders};
pub use store::sqlite::{SqliteOrderRows, SqliteOrders};
pub use submission::{
    CheckedOrder, FieldError, MAX_ITEMS, MAX_PRICE, MAX_PRODUCT_ID, MAX_QUANTITY, MAX_TOTAL, MAX_USER_ID, NewItem,
    NewOrder, PRICE_SCALE, submission_id,
};
