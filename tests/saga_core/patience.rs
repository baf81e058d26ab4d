//! A store that says no again and again: the endpoints go on, without hurry, and forget nothing.

use std::any::TypeId;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use saga_core::testkit::ManualClock;
use saga_core::{
    Activity, Backlog, Change, Clock, Commit, DeadLetterPage, DeadLetterRow, EmbeddedBus, Envelope, HandlerOptions,
    InboxRow, JournalOutcome, JournalRow, Lane, LoadQuery, Loaded, MemoryStore, Old, OutboxId, OutboxRow, Page,
    Runtime, Saga, Store, StoreError, StoredInstance, TimerRow, header,
};
use uuid::Uuid;

use crate::lamp::{Electrician, Job, LAMP, Lamp, Pushed, Wire};

type Refuse = Box<dyn FnMut(&MemoryStore, &Commit) -> Option<StoreError> + Send>;

/// A store that refuses what the test says.
struct Stubborn {
    inner: MemoryStore,
    refuse: Mutex<Refuse>,
}

#[async_trait]
impl Store for Stubborn {
    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        let refused = (self.refuse.lock().unwrap())(&self.inner, &commit);
        match refused {
            Some(error) => Err(error),
            None => self.inner.commit(commit).await,
        }
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

/// Runs the lamps on such a store, with `sent` in the outbox, until `done` says so; time goes on as fast as it can.
pub async fn run(
    electrician: &Electrician,
    sent: Vec<OutboxRow>,
    clock: &Arc<ManualClock>,
    refuse: impl FnMut(&MemoryStore, &Commit) -> Option<StoreError> + Send + 'static,
    done: impl AsyncFn(&MemoryStore) -> bool,
) -> MemoryStore {
    let inner = MemoryStore::builder().build();
    inner.commit(Arc::new(Commit { outbox: sent, ..Commit::new(clock.now()) })).await.unwrap();
    let store = Arc::new(Stubborn { inner: inner.clone(), refuse: Mutex::new(Box::new(refuse)) });
    let runtime = Runtime::builder(store, Arc::new(EmbeddedBus::new())).clock(clock.clone()).saga::<Lamp>();
    let runtime = runtime.activity::<Wire>(electrician.clone(), HandlerOptions::default()).build().unwrap();
    let (task, stop) = spawn(runtime);
    for _ in 0..10_000 {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        if done(&inner).await {
            break;
        }
        if let Some(at) = clock.next_wake(DateTime::<Utc>::MAX_UTC) {
            clock.set(at);
        }
    }
    assert!(done(&inner).await, "it was never done");
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    inner
}

type Task = tokio::task::JoinHandle<Result<(), saga_core::RuntimeError>>;

fn spawn(runtime: Runtime) -> (Task, tokio::sync::oneshot::Sender<()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(runtime.run(async move {
        let _ = stopped.await;
    }));
    (task, stop)
}

pub fn pushed(lamp: Uuid) -> OutboxRow {
    OutboxRow { destination: Some(Lamp::ENDPOINT.into()), envelope: Arc::new(Envelope::new(lamp, &Pushed::of(lamp))) }
}

fn rejected() -> Option<StoreError> {
    Some(StoreError::Rejected("the disk is pink".to_owned()))
}

/// The pauses between the times that were noted.
fn pauses(times: &Mutex<Vec<DateTime<Utc>>>) -> Vec<Duration> {
    let times = times.lock().unwrap();
    times.windows(2).map(|pair| (pair[1] - pair[0]).to_std().unwrap()).filter(|pause| !pause.is_zero()).collect()
}

#[tokio::test]
async fn given_a_failure_that_can_not_be_stored_when_the_store_is_mended_then_it_is_stored_and_blocked_no_other() {
    let clock = Arc::new(ManualClock::default());
    let times: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let (noted, other) = (times.clone(), Uuid::from_u128(2));
    let refuse = move |_: &MemoryStore, commit: &Commit| {
        let mut noted = noted.lock().unwrap();
        let concerns = commit.journal.iter().any(|row| row.id == LAMP && row.endpoint == Lamp::ENDPOINT);
        if !concerns || noted.len() == 12 {
            return None;
        }
        noted.push(commit.at);
        rejected()
    };
    let done = async |store: &MemoryStore| store.instance(Lamp::NAME, LAMP).await.unwrap().is_some();
    let store = run(&Electrician::default(), vec![pushed(LAMP), pushed(other)], &clock, refuse, done).await;
    let journal = store.journal(Lamp::NAME, LAMP).await.unwrap();
    let outcomes: Vec<_> = journal.iter().map(|row| (row.outcome, row.attempt)).take(2).collect();
    assert_eq!(outcomes, [(JournalOutcome::Retried, 1), (JournalOutcome::Moved, 2)]);
    let first = store.journal(Lamp::NAME, other).await.unwrap()[0].at;
    assert!(first < journal[0].at, "the other did not wait");
    assert!(pauses(&times).len() > 5 && pauses(&times).is_sorted(), "{:?}", pauses(&times));
}

#[tokio::test]
async fn given_an_activitys_failure_that_can_not_be_stored_when_the_store_is_mended_then_it_is_retried() {
    let clock = Arc::new(ManualClock::default());
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().push(Job::Fail);
    let times: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let noted = times.clone();
    let refuse = move |_: &MemoryStore, commit: &Commit| {
        let mut noted = noted.lock().unwrap();
        if commit.journal.iter().all(|row| row.endpoint != Wire::ENDPOINT) || noted.len() == 5 {
            return None;
        }
        noted.push(commit.at);
        rejected()
    };
    let done = async |store: &MemoryStore| {
        let stored = store.instance(Lamp::NAME, LAMP).await.unwrap();
        stored.is_some_and(|it| it.state == "Shining")
    };
    let store = run(&electrician, vec![pushed(LAMP)], &clock, refuse, done).await;
    let seconds: Vec<_> = pauses(&times).iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [1, 2, 4, 8]);
    assert_eq!(electrician.keys.lock().unwrap().len(), 2, "the failed attempt was not made again to be stored");
    assert_eq!(store.instance(Lamp::NAME, LAMP).await.unwrap().unwrap().retry_count, 1);
}

#[tokio::test]
async fn given_one_conflict_after_another_when_a_batch_is_repeated_then_it_waits_longer_each_time() {
    let clock = Arc::new(ManualClock::default());
    let times: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let noted = times.clone();
    let refuse = move |_: &MemoryStore, commit: &Commit| {
        let mut noted = noted.lock().unwrap();
        if commit.instances.is_empty() || noted.len() == 14 {
            return None;
        }
        noted.push(commit.at);
        Some(StoreError::Conflict("somebody is quicker".to_owned()))
    };
    let done = async |store: &MemoryStore| store.instance(Lamp::NAME, LAMP).await.unwrap().is_some();
    run(&Electrician::default(), vec![pushed(LAMP)], &clock, refuse, done).await;
    let millis: Vec<_> = pauses(&times).iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000]);
}

#[tokio::test]
async fn given_a_batch_with_a_handled_a_failed_and_a_spoiled_message_when_it_is_committed_then_each_counts_once() {
    let clock = Arc::new(ManualClock::default());
    let electrician = Electrician { takes: Duration::from_secs(1), ..Electrician::default() };
    electrician.script.lock().unwrap().extend([Job::Fail, Job::Fail]);
    let lamps = [1, 2, 3].map(Uuid::from_u128);
    let wire = |lamp: Uuid| {
        let mut envelope = Envelope::new(lamp, &Wire::of(lamp)).correlated(lamp);
        envelope.headers.insert(header::SAGA.into(), Lamp::NAME.into());
        OutboxRow { destination: Some(Wire::ENDPOINT.into()), envelope: Arc::new(envelope) }
    };
    let inbox = move |n: usize| InboxRow { endpoint: Wire::ENDPOINT.into(), message_id: lamps[n] };
    let (mut was_quicker, mut was_alone) = (false, false);
    let refuse = move |inner: &MemoryStore, commit: &Commit| {
        let failed = |n: usize| commit.journal.iter().any(|row| row.id == lamps[n]);
        let spoiled = commit.inbox.contains(&inbox(2));
        if !was_quicker && failed(0) {
            assert!(failed(1) && spoiled, "all three meet in one commit");
            was_quicker = true;
            // Another process has handled the first, and is quicker.
            let other = Commit { inbox: vec![inbox(0)], ..Commit::new(commit.at) };
            inner.commit(Arc::new(other)).now_or_never().unwrap().unwrap();
            return Some(StoreError::Conflict("it was handled before".to_owned()));
        }
        // The last one's outcome is refused beside the second, and once alone: then it has failed.
        let refused = spoiled && (failed(1) || !was_alone);
        was_alone |= spoiled && !failed(1);
        if refused { rejected() } else { None }
    };
    let done = async |store: &MemoryStore| {
        let backlog = store.backlog().await.unwrap();
        backlog.outbox == 0 && backlog.timers == 0 && backlog.dead_letters == 2
    };
    let store = run(&electrician, lamps.map(wire).to_vec(), &clock, refuse, done).await;
    for (lamp, retries) in lamps.into_iter().zip([0, 1, 1]) {
        let journal = store.journal(Lamp::NAME, lamp).await.unwrap();
        let outcomes: Vec<_> = journal.iter().map(|row| row.outcome).collect();
        let retried = outcomes.iter().filter(|outcome| **outcome == JournalOutcome::Retried).count();
        assert_eq!(retried, retries, "{outcomes:?}");
    }
}
