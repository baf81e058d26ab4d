//! The order service in this process, with a store that tells when a notification is committed.

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use host::config::Config;
use host::rest::Rest;
use host::serve::{Parts, Service};
use order_saga::{NewItem, NewOrder, Notification, Order, ProcessPayment};
use saga_core::{
    Backlog, Change, Client, Commit, DeadLetterPage, DeadLetterRow, Envelope, JournalRow, Lane, LoadQuery, Loaded,
    Message, Old, OutboxId, OutboxRow, Page, Store, StoreError, StoredInstance, TimerRow,
};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::machine::percentile;
use crate::place::Place;

/// How orders come in.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Entry {
    /// Straight into the runtime.
    Runtime,
    /// Over REST, on connections that are kept.
    Rest,
}

/// How many requests are under way at the same time over REST; into the runtime, as many as the backlog allows.
const REQUESTS: usize = 512;

/// Services that run, on one store and one bus.
pub(crate) struct Flow {
    place: Place,
    services: Vec<Service>,
    next: AtomicUsize,
    seen: Arc<Seen>,
}

impl Flow {
    /// Starts so many hosts; each answers when this returns.
    pub(crate) async fn start(place: Place, hosts: usize, payment: Duration) -> Self {
        let mut config = Config { store: place.store.clone(), bus: place.bus.clone(), ..Config::default() };
        config.http.listen.set_port(0);
        config.payment.delay = payment;
        config.payment.success_rate = 1.0;
        config.payment.concurrency = 1_000_000;
        config.expiration.after = Duration::from_secs(24 * 3_600);
        let seen = Arc::new(Seen::default());
        let watching = seen.clone();
        let decorate: host::serve::Decorate =
            Arc::new(move |inner| Arc::new(Watched { inner, seen: watching.clone() }));
        let mut services = Vec::new();
        for _ in 0..hosts {
            let parts = Parts { decorate: Some(decorate.clone()), ..Parts::default() };
            services.push(Service::start(&config, parts).await.expect("a service"));
        }
        Self { place, services, next: AtomicUsize::new(0), seen }
    }

    /// Each host in turn.
    fn service(&self) -> &Service {
        &self.services[self.next.fetch_add(1, Ordering::Relaxed) % self.services.len()]
    }

    /// Stops as it should be stopped.
    pub(crate) async fn stop(self) {
        for service in self.services {
            service.stop();
            service.ended().await.expect("a clean end");
        }
    }

    /// Stops as a crash would; what is stored stays in its place.
    pub(crate) async fn abort(self) -> Place {
        for service in self.services {
            service.crash().await;
        }
        self.place
    }

    /// How often the store was asked for anything.
    pub(crate) fn store_calls(&self) -> u64 {
        self.seen.calls.load(Ordering::Relaxed)
    }

    /// One order after the other; milliseconds from its submission to its committed notification: p50, p99.
    pub(crate) async fn alone(&self, orders: usize) -> (f64, f64) {
        let mut took = Vec::new();
        for _ in 0..orders {
            let before = self.seen.notified.load(Ordering::SeqCst);
            let started = Instant::now();
            submit(&self.service().client).await;
            self.seen.until(|seen| seen.notified.load(Ordering::SeqCst) > before).await;
            took.push(started.elapsed().as_secs_f64() * 1e3);
            // What follows the notification, settling, is not to be measured with the next order.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (percentile(&took, 0.5), percentile(&took, 0.99))
    }

    /// Orders per second, from the first submission to the last committed notification, never more than `window` of
    /// them under way.
    pub(crate) async fn backlog(&self, entry: Entry, orders: usize, window: usize) -> f64 {
        let rests: Vec<_> = self.services.iter().map(|it| Rest::new(it.address)).collect();
        let requests = Arc::new(Semaphore::new(if entry == Entry::Rest { REQUESTS } else { window }));
        let before = self.seen.notified.load(Ordering::SeqCst);
        self.seen.places.forget_permits(Semaphore::MAX_PERMITS);
        self.seen.places.add_permits(window);
        let started = Instant::now();
        let mut submitting = JoinSet::new();
        for number in 0..orders {
            self.seen.places.acquire().await.expect("it is never closed").forget();
            let request = requests.clone().acquire_owned().await.expect("it is never closed");
            let (client, rest) = (self.service().client.clone(), rests[number % rests.len()].clone());
            // A task each: what one thread does for all of them would be measured instead of the service.
            submitting.spawn(async move {
                match entry {
                    Entry::Runtime => submit(&client).await,
                    Entry::Rest => post(&rest).await,
                }
                drop(request);
            });
        }
        self.seen.until(|seen| seen.notified.load(Ordering::SeqCst) - before >= orders).await;
        let took = started.elapsed();
        while let Some(submitted) = submitting.join_next().await {
            submitted.expect("a submission");
        }
        orders as f64 / took.as_secs_f64()
    }

    pub(crate) async fn submit_all(&self, orders: usize) {
        stream::iter(0..orders).for_each_concurrent(REQUESTS, |_| async { submit(&self.service().client).await }).await;
    }

    /// Returns when so many payments were called for.
    pub(crate) async fn until_waiting(&self, orders: usize) {
        self.seen.until(|seen| seen.called.load(Ordering::SeqCst) >= orders).await;
    }

    pub(crate) async fn until_notified(&self, orders: usize) {
        self.seen.until(|seen| seen.notified.load(Ordering::SeqCst) >= orders).await;
    }
}

async fn submit(client: &Client) {
    let id = Uuid::now_v7();
    let item =
        |product: &str, quantity| NewItem { product_id: product.to_owned(), quantity, price: "43.32".to_owned() };
    let order = NewOrder { items: vec![item("A1", 2), item("B2", 1)] }.check().expect("a good order");
    let envelope = Envelope::new(Uuid::now_v7(), &order.submission(id, "local")).for_user("local").correlated(id);
    client.submit::<Order>(envelope).await.expect("a place");
}

async fn post(rest: &Rest) {
    let items = json!([
        { "productId": "A1", "quantity": 2, "price": "43.32" }, { "productId": "B2", "quantity": 1, "price": "43.32" }
    ]);
    let answer = rest.post("/api/orders", &json!({ "items": items }).to_string(), &[]).await.expect("an answer");
    assert_eq!(answer.status, 201, "{:?}", answer.body);
}

/// What was committed so far.
struct Seen {
    notified: AtomicUsize,
    /// For orders to come: one is given back with each notification.
    places: Semaphore,
    called: AtomicUsize,
    calls: AtomicU64,
    changed: Notify,
}

impl Default for Seen {
    fn default() -> Self {
        let (notified, called, calls) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        Self { notified, places: Semaphore::new(0), called, calls, changed: Notify::new() }
    }
}

impl Seen {
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }
}

/// A store that tells what was committed to it.
struct Watched {
    inner: Arc<dyn Store>,
    seen: Arc<Seen>,
}

#[async_trait]
impl Store for Watched {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        self.seen.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.load(query).await
    }
    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        self.seen.calls.fetch_add(1, Ordering::Relaxed);
        let is_notification = |row: &&Arc<dyn saga_core::Row>| (&***row as &dyn Any).is::<Notification>();
        let notified = commit.rows.iter().filter(is_notification).count();
        let called = commit.outbox.iter().filter(|row| row.envelope.name() == ProcessPayment::NAME).count();
        let ids = self.inner.commit(commit).await?;
        if notified + called > 0 {
            self.seen.notified.fetch_add(notified, Ordering::SeqCst);
            self.seen.places.add_permits(notified);
            self.seen.called.fetch_add(called, Ordering::SeqCst);
            self.seen.changed.notify_waiters();
        }
        Ok(ids)
    }
    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.seen.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.outbox(after, limit).await
    }
    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner.outbox_lane(lane, after, limit).await
    }
    async fn take_over(&self, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner.take_over(limit).await
    }
    async fn changed(&self) -> Change {
        self.inner.changed().await
    }
    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError> {
        self.inner.purge(old, limit).await
    }
    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError> {
        self.seen.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.due_timers(now, limit).await
    }
    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.seen.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.next_due_after(after).await
    }
    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
        self.inner.instance(saga, id).await
    }
    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
        self.inner.journal(saga, id).await
    }
    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.inner.dead_letters(page).await
    }
    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        self.inner.dead_letter(id).await
    }
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.inner.backlog().await
    }
    fn writes(&self, row: TypeId) -> bool {
        self.inner.writes(row)
    }
}
