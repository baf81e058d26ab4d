use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use order_saga::*;
use saga_core::testkit::ManualClock;
use saga_core::{Envelope, JournalOutcome, MemoryWriter, SubmitError, Submitted};
use uuid::Uuid;

use crate::fixture::{at, id, stored};

const EXPIRATION: Expiration = Expiration { interval: Duration::from_secs(60), after: Duration::from_secs(600) };

/// Takes messages as a runtime does: a message id once; some orders it refuses, and after some messages it stops.
#[derive(Default)]
struct Sink {
    taken: Mutex<Vec<Envelope>>,
    refused: Vec<Uuid>,
    stops_after: Option<usize>,
    calls: AtomicUsize,
}

#[async_trait]
impl OverdueSink for Sink {
    async fn submit(&self, overdue: Envelope) -> Result<Submitted, SubmitError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.stops_after.is_some_and(|limit| call >= limit) {
            return Err(SubmitError::Stopped);
        }
        if overdue.correlation_id.is_some_and(|id| self.refused.contains(&id)) {
            return Err(SubmitError::Refused("no such order".to_owned()));
        }
        let mut taken = self.taken.lock().unwrap();
        if taken.iter().any(|it| it.message_id == overdue.message_id) {
            return Ok(Submitted::Duplicate);
        }
        taken.push(overdue);
        Ok(Submitted::Handled { outcome: JournalOutcome::Moved, at: DateTime::UNIX_EPOCH })
    }
}

/// Orders whose overdue ones can not be read the first so many times.
struct Flaky(MemoryOrders, AtomicUsize);

#[async_trait]
impl Orders for Flaky {
    async fn order(&self, id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        self.0.order(id).await
    }
    async fn submitted(&self, id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        self.0.submitted(id).await
    }
    async fn page(&self, page: &OrderPage<'_>) -> Result<Vec<StoredOrder>, OrdersError> {
        self.0.page(page).await
    }
    async fn notifications(&self, id: Uuid) -> Result<Vec<Notification>, OrdersError> {
        self.0.notifications(id).await
    }
    async fn overdue(
        &self,
        before: DateTime<Utc>,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, OrdersError> {
        let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(OrdersError("database away".to_owned()));
        }
        self.0.overdue(before, after, limit).await
    }
    async fn count(&self) -> Result<Vec<(OrderStatus, u64)>, OrdersError> {
        self.0.count().await
    }
    async fn count_notifications(&self) -> Result<Vec<(NotificationKind, u64)>, OrdersError> {
        self.0.count_notifications().await
    }
}

/// `n` orders that are overdue an hour after noon, and one that is not.
fn orders(n: u128) -> MemoryOrders {
    let orders = MemoryOrders::default();
    let mut rows: Vec<_> = (1..=n).map(|n| OrderRow::Submitted(stored(n, "ann", 0))).collect();
    rows.push(OrderRow::Submitted(stored(n + 1, "ann", 3_500)));
    orders.write(&rows.iter().collect::<Vec<_>>());
    orders
}

fn job(orders: impl Orders, sink: &Arc<Sink>) -> (ExpiryJob, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(at(3_600)));
    (ExpiryJob::new(Arc::new(orders), sink.clone(), clock.clone(), EXPIRATION), clock)
}

#[tokio::test]
async fn given_overdue_orders_when_ticked_then_each_is_submitted_with_what_the_job_saw() {
    let sink = Arc::new(Sink::default());
    let (job, _) = job(orders(2), &sink);
    assert_eq!(job.tick().await, Tick { handled: 2, duplicates: 0, refused: 0 });
    let taken = sink.taken.lock().unwrap();
    let read: Vec<OrderOverdue> = taken.iter().map(|it| it.message.read().unwrap()).collect();
    assert_eq!(read, [1, 2].map(|n| OrderOverdue { order_id: id(n), since: at(0) }));
    assert_eq!(taken[0].message_id, overdue_id(&Overdue { order_id: id(1), since: at(0) }));
    assert_eq!((taken[0].name(), taken[0].correlation_id), ("Orders:OrderOverdue", Some(id(1))));
}

#[tokio::test]
async fn given_two_hosts_when_both_tick_then_the_second_s_messages_are_duplicates() {
    let sink = Arc::new(Sink::default());
    let all = orders(3);
    let ((one, _), (two, _)) = (job(all.clone(), &sink), job(all, &sink));
    assert_eq!(one.tick().await.handled, 3);
    assert_eq!(two.tick().await, Tick { handled: 0, duplicates: 3, refused: 0 });
}

#[tokio::test]
async fn given_more_than_a_page_when_some_are_refused_then_all_others_are_submitted_once_and_the_tick_ends() {
    // A whole page that is refused must not hide those behind it.
    let sink = Arc::new(Sink { refused: (1..=300).map(id).collect(), ..Sink::default() });
    let (job, _) = job(orders(1_000), &sink);
    assert_eq!(job.tick().await, Tick { handled: 700, duplicates: 0, refused: 300 });
    assert_eq!(sink.calls.load(Ordering::Relaxed), 1_000);
}

#[tokio::test]
async fn given_a_runtime_that_stops_when_ticked_then_the_tick_ends_with_its_page() {
    let sink = Arc::new(Sink { stops_after: Some(10), ..Sink::default() });
    let (job, _) = job(orders(1_000), &sink);
    assert_eq!(job.tick().await.handled, 10);
    assert!(sink.calls.load(Ordering::Relaxed) < 1_000, "it went on with the next page");
}

#[tokio::test]
async fn given_orders_that_can_not_be_read_when_ticked_then_the_next_tick_goes_on() {
    let sink = Arc::new(Sink::default());
    let (job, _) = job(Flaky(orders(2), AtomicUsize::new(1)), &sink);
    assert_eq!(job.tick().await, Tick::default());
    assert_eq!(job.tick().await.handled, 2);
}

#[tokio::test]
async fn given_an_age_beyond_the_calendar_when_ticked_then_nothing_is_overdue() {
    let sink = Arc::new(Sink::default());
    let clock = Arc::new(ManualClock::at(at(3_600)));
    let never = Expiration { after: Duration::MAX, ..EXPIRATION };
    let job = ExpiryJob::new(Arc::new(orders(2)), sink, clock, never);
    assert_eq!(job.tick().await, Tick::default());
}

/// Lets every other task do what it can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn given_a_running_job_when_time_passes_then_it_ticks_after_each_interval_until_it_is_told_to_stop() {
    let sink = Arc::new(Sink::default());
    let (job, clock) = job(orders(1), &sink);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        job.run(async {
            let _ = stopped.await;
        })
        .await;
    });
    settle().await;
    assert_eq!(sink.calls.load(Ordering::Relaxed), 0, "what waited for the start comes first");
    for ticks in 1..=3 {
        clock.advance(EXPIRATION.interval);
        settle().await;
        assert_eq!(sink.calls.load(Ordering::Relaxed), ticks);
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[test]
fn the_id_of_an_overdue_message_is_that_of_the_status_change() {
    let overdue = |order, since| overdue_id(&Overdue { order_id: id(order), since });
    assert_eq!(overdue(1, at(0)), overdue(1, at(0)));
    let different: HashMap<_, _> =
        [(1, at(0)), (1, at(1)), (2, at(0))].map(|(n, since)| (overdue(n, since), ())).into();
    assert_eq!(different.len(), 3);
}
