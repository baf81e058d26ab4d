//! Hosts that share a saga's shards over one broker and one database.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use saga_core::{
    Backlog, Bus, Change, Client, Commit, DeadLetterPage, DeadLetterRow, JournalRow, Lane, LoadQuery, Loaded, Old,
    OutboxId, OutboxRow, Page, PostgresStore, RabbitMqBus, Roles, Runtime, RuntimeError, Saga, Store, StoreError,
    StoredInstance, TimerRow,
};
use test_servers::Rabbit;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, timeout};
use uuid::Uuid;

use super::house::{PATIENCE, eventually, quick};
use crate::postgres::Database;
use crate::tally::{Tally, Told};

const TALLIES: u128 = 24;
const SHARDS: usize = 4;

/// A host's store, which counts the steps that it wrote, and the conflicts.
struct Counting {
    inner: PostgresStore,
    steps: AtomicUsize,
    conflicts: AtomicUsize,
}

#[async_trait]
impl Store for Counting {
    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        let steps = commit.journal.len();
        let outcome = self.inner.commit(commit).await;
        match &outcome {
            Ok(_) => self.steps.fetch_add(steps, Ordering::SeqCst),
            Err(StoreError::Conflict(_)) => self.conflicts.fetch_add(1, Ordering::SeqCst),
            Err(_) => 0,
        };
        outcome
    }
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        self.inner.load(query).await
    }
    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
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
        self.inner.due_timers(now, limit).await
    }
    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
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

struct Host {
    store: Arc<Counting>,
    client: Client,
    running: JoinHandle<Result<(), RuntimeError>>,
    // Dropped with the host: its connections end as those of a process that dies.
    _bus: Arc<RabbitMqBus>,
}

impl Host {
    async fn start(database: &Database, broker: &str, roles: Roles) -> Self {
        let inner = database.host().await;
        let store = Arc::new(Counting { inner, steps: AtomicUsize::new(0), conflicts: AtomicUsize::new(0) });
        let bus = Arc::new(quick(broker).build().unwrap());
        let builder = Runtime::builder(store.clone(), bus.clone()).roles(roles);
        let runtime = builder.saga::<Tally>().shards(Tally::ENDPOINT, SHARDS).build().unwrap();
        let client = runtime.client();
        let running = tokio::spawn(runtime.run(std::future::pending()));
        // What comes before the buckets are bound is moved to its shard, and may be overtaken on the way.
        eventually("the bus to be well", || bus.health().map_err(|why| why.to_string())).await;
        Self { store, client, running, _bus: bus }
    }

    /// Ends it as a crash would.
    async fn die(self) {
        self.running.abort();
        // The abort is an error by its nature.
        let _ = self.running.await;
    }

    fn steps(&self) -> usize {
        self.store.steps.load(Ordering::SeqCst)
    }

    fn conflicts(&self) -> usize {
        self.store.conflicts.load(Ordering::SeqCst)
    }

    /// Tells every tally so many numbers more.
    async fn tell(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            for tally in 0..TALLIES {
                self.client.publish(Told::envelope(id(tally), number)).await.unwrap();
            }
        }
    }

    /// Waits until every tally has heard so many numbers; what each has heard.
    async fn until_heard(&self, count: usize) -> BTreeMap<u128, Vec<u32>> {
        let heard = async {
            let mut all = BTreeMap::new();
            for tally in 0..TALLIES {
                loop {
                    let stored = self.store.instance(Tally::NAME, id(tally)).await.unwrap();
                    let heard = stored.map_or_else(Vec::new, |it| it.data.read::<Tally>().unwrap().heard);
                    if heard.len() >= count {
                        all.insert(tally, heard);
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            all
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("not every tally has heard {count} numbers"))
    }
}

fn id(tally: u128) -> Uuid {
    Uuid::from_u128(0x7a11 << 64 | tally)
}

const SENDER: Roles = Roles { sagas: false, handlers: false, relay: true };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_two_hosts_when_they_share_the_shards_then_each_instance_hears_in_order_and_no_step_meets_another() {
    let (database, broker) = (Database::new(), Rabbit::shared().vhost());
    let sender = Host::start(&database, &broker, SENDER).await;
    let first = Host::start(&database, &broker, Roles::ALL).await;
    sender.tell(0..5).await;
    first.until_heard(5).await;
    // It has all shards. The other one gets its share of them while messages flow.
    let second = Host::start(&database, &broker, Roles::ALL).await;
    let until = Instant::now() + PATIENCE;
    let mut told = 5;
    while second.steps() < 200 {
        assert!(Instant::now() < until, "the second host has done {} steps", second.steps());
        sender.tell(told..told + 1).await;
        told += 1;
    }
    let before = first.steps();
    sender.tell(told..told + 10).await;
    told += 10;
    let heard = sender.until_heard(told as usize).await;
    for (tally, heard) in heard {
        assert!(heard.iter().copied().eq(0..told), "tally {tally} has heard {heard:?}");
    }
    assert!(first.steps() > before, "the first one has a share still");
    assert_eq!((first.conflicts(), second.conflicts()), (0, 0), "no two hosts meet on an instance");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_two_hosts_when_one_dies_then_the_other_goes_on_and_every_instance_has_heard_all_in_order() {
    let (database, broker) = (Database::new(), Rabbit::shared().vhost());
    let sender = Host::start(&database, &broker, SENDER).await;
    let first = Host::start(&database, &broker, Roles::ALL).await;
    let second = Host::start(&database, &broker, Roles::ALL).await;
    let telling = tokio::spawn(async move {
        sender.tell(0..40).await;
        sender
    });
    let some = async {
        while first.steps() < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, some).await.expect("the first host has some of the work");
    first.die().await;
    let sender = telling.await.unwrap();
    let heard = sender.until_heard(40).await;
    for (tally, heard) in heard {
        assert!(heard.iter().copied().eq(0..40), "tally {tally} has heard {heard:?}");
    }
    assert!(second.steps() > 0);
}
