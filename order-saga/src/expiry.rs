//! The expiry job: finds orders that have not moved for too long and tells the order saga so.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, join_all, select};
use saga_core::{Client, Clock, Envelope, SubmitError, Submitted, derive_id};
use uuid::Uuid;

use crate::messages::OrderOverdue;
use crate::order::Order;
use crate::orders::{Orders, Overdue};

/// How many orders are read and submitted at a time: one batch of the runtime, so that a page is one or two commits
/// and leaves room for other submissions.
const PAGE: usize = 256;

/// How many pages one tick works through, about a hundred thousand orders; more wait for the next tick, so that a tick
/// always ends.
const PAGES_PER_TICK: usize = 400;

/// Takes `OrderOverdue` in for the order saga. [`Client`] is one; tests bring their own.
#[async_trait]
pub trait OverdueSink: Send + Sync + 'static {
    /// Brings one message to the order saga and waits until it is handled.
    ///
    /// # Errors
    /// As [`Client::submit`].
    async fn submit(&self, overdue: Envelope) -> Result<Submitted, SubmitError>;
}

#[async_trait]
impl OverdueSink for Client {
    async fn submit(&self, overdue: Envelope) -> Result<Submitted, SubmitError> {
        Client::submit::<Order>(self, overdue).await
    }
}

/// When orders expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiration {
    /// How often the job looks.
    pub interval: Duration,
    /// How long an order may be pending or processing without moving.
    pub after: Duration,
}

impl Default for Expiration {
    /// Looks every minute for orders that have not moved for ten.
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), after: Duration::from_secs(600) }
    }
}

/// The expiry job.
///
/// It keeps nothing: after a crash the next tick finds what the last one left. Any number of hosts may run it at once,
/// because the message's id is derived from the order and its status change, so a second one is a duplicate.
pub struct ExpiryJob {
    orders: Arc<dyn Orders>,
    sink: Arc<dyn OverdueSink>,
    clock: Arc<dyn Clock>,
    expiration: Expiration,
}

/// What one tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tick {
    /// Messages that the saga handled; it stays where it is if the order had moved meanwhile.
    pub handled: usize,
    /// Messages that were handled before, for example for another host's job.
    pub duplicates: usize,
    /// Messages that the saga does not take.
    pub refused: usize,
}

impl ExpiryJob {
    /// A job that reads from `orders` and submits to `sink`.
    pub fn new(
        orders: Arc<dyn Orders>,
        sink: Arc<dyn OverdueSink>,
        clock: Arc<dyn Clock>,
        expiration: Expiration,
    ) -> Self {
        Self { orders, sink, clock, expiration }
    }

    /// Ticks until `shutdown` completes; a tick that has begun is finished.
    ///
    /// The first tick comes after one interval, so that at a start the messages that waited for it are handled before
    /// their orders are judged.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        while let Either::Right(_) = select(&mut shutdown, self.clock.sleep(self.expiration.interval)).await {
            self.tick().await;
        }
    }

    /// Looks once, and submits what is overdue, page by page.
    ///
    /// An order that the saga refuses is logged and passed over. When orders can not be read, or the runtime takes no
    /// more, that is logged and the rest is left to the next tick.
    pub async fn tick(&self) -> Tick {
        let mut tick = Tick::default();
        let before = match chrono::Duration::from_std(self.expiration.after) {
            Ok(after) => self.clock.now().checked_sub_signed(after),
            Err(_) => None,
        };
        let Some(before) = before else { return tick };
        let mut last: Option<Overdue> = None;
        for _ in 0..PAGES_PER_TICK {
            let page = match self.orders.overdue(before, last.as_ref(), PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "overdue orders can not be read; the next tick looks again");
                    break;
                }
            };
            let submitted = join_all(page.iter().map(|overdue| self.sink.submit(self.envelope(overdue)))).await;
            let mut stopped = None;
            for (overdue, result) in page.iter().zip(submitted) {
                stopped = tick.count(overdue, result).or(stopped);
            }
            if let Some(error) = stopped {
                tracing::warn!(%error, "the runtime takes no more overdue orders; the next tick looks again");
                break;
            }
            if page.len() < PAGE {
                break;
            }
            last = page.into_iter().last();
        }
        if tick != Tick::default() {
            let Tick { handled, duplicates, refused } = tick;
            tracing::info!(handled, duplicates, refused, "overdue orders were submitted");
        }
        tick
    }

    fn envelope(&self, overdue: &Overdue) -> Envelope {
        let message = OrderOverdue { order_id: overdue.order_id, since: overdue.since };
        let mut envelope = Envelope::new(overdue_id(overdue), &message).correlated(overdue.order_id);
        envelope.sent_time = Some(self.clock.now());
        envelope
    }
}

/// The id of the message that says that an order is overdue: derived from the order and its last status change.
pub fn overdue_id(overdue: &Overdue) -> Uuid {
    derive_id(overdue.order_id, &format!("overdue/{}", overdue.since.timestamp_micros()))
}

impl Tick {
    /// Counts one result; what says that the tick can not go on is given back.
    fn count(&mut self, overdue: &Overdue, result: Result<Submitted, SubmitError>) -> Option<SubmitError> {
        match result {
            Ok(Submitted::Handled { .. }) => self.handled += 1,
            Ok(Submitted::Duplicate) => self.duplicates += 1,
            Err(SubmitError::Refused(error)) => {
                self.refused += 1;
                let order_id = overdue.order_id;
                tracing::warn!(%order_id, %error, "the order saga does not take that the order is overdue");
            }
            Err(error) => return Some(error),
        }
        None
    }
}
