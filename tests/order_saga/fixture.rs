//! What several modules need.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeZone, Utc};
use order_saga::{OrderItem, OrderStatus, StoredOrder};
use rust_decimal::Decimal;
use saga_core::{Clock, Envelope, HandlerContext, Message};
use uuid::Uuid;

/// Noon of a day, and so many seconds.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 1, 12, 0, 0).unwrap() + chrono::Duration::seconds(seconds)
}

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub(crate) fn money(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub(crate) fn item(product: &str, quantity: u32, price: &str) -> OrderItem {
    OrderItem { product_id: product.to_owned(), quantity, price: money(price) }
}

/// A pending order; its submission is derived from its number.
pub(crate) fn stored(n: u128, user: &str, seconds: i64) -> StoredOrder {
    StoredOrder {
        id: id(n),
        user_id: user.to_owned(),
        status: OrderStatus::Pending,
        total: money("109.70"),
        items: vec![item("tea", 2, "49.90"), item("cup", 1, "9.90")],
        submission_id: id(n + 1_000_000),
        fingerprint: format!("fingerprint-{n}"),
        created_at: at(seconds),
        updated_at: at(seconds),
    }
}

/// The context in which `message` is handled, under a clock of its own.
pub(crate) fn context(message_id: Uuid, message: &impl Message, clock: Arc<dyn Clock>) -> HandlerContext {
    HandlerContext::new(Arc::new(Envelope::new(message_id, message)), clock)
}

/// Whether the clock at hand was asked to sleep, and for how long; it wakes at once.
#[derive(Default)]
pub(crate) struct CountingClock(pub(crate) std::sync::Mutex<Vec<Duration>>);

#[async_trait]
impl Clock for CountingClock {
    fn now(&self) -> DateTime<Utc> {
        at(0)
    }

    async fn sleep(&self, duration: Duration) {
        self.0.lock().unwrap().push(duration);
    }
}
