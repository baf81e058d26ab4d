//! A store that tells what is committed to it.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use saga_core::{
    Backlog, Change, Commit, DeadLetterPage, DeadLetterRow, JournalRow, Lane, LoadQuery, Loaded, Old, OutboxId,
    OutboxRow, Page, Store, StoreError, StoredInstance, TimerRow,
};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// Which units of work end with a commit: a unit is an order, a message, a timer.
pub(crate) type Finished = fn(&Commit) -> Vec<Uuid>;

/// What was committed so far.
pub(crate) struct Seen {
    finishes: Finished,
    finished: AtomicUsize,
    /// For units to come: one is given back with each that ends.
    pub(crate) places: Semaphore,
    /// The messages of one type that were sent.
    sent: AtomicUsize,
    sent_type: &'static str,
    calls: AtomicU64,
    /// Commits that handled a message, and the messages that they handled.
    batches: AtomicU64,
    messages: AtomicU64,
    times: Mutex<Times>,
    changed: Notify,
}

/// When units began and ended.
#[derive(Default)]
struct Times {
    /// Whether times are taken at all.
    are_taken: bool,
    begun: HashMap<Uuid, Instant>,
    /// Units that ended before whoever submitted them knew their ids.
    ended: HashMap<Uuid, Instant>,
    took_ms: Vec<f64>,
    last: Option<Instant>,
    longest_pause: Duration,
}

impl Seen {
    /// Counts what `finishes` says, and the messages sent of one type.
    pub(crate) fn new(finishes: Finished, sent_type: &'static str) -> Arc<Self> {
        Arc::new(Self {
            finishes,
            finished: AtomicUsize::new(0),
            places: Semaphore::new(0),
            sent: AtomicUsize::new(0),
            sent_type,
            calls: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            times: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// How many units have ended.
    pub(crate) fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    /// How many messages of the one type were sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// How often the store was asked for anything.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Commits that handled messages, and how many messages these were.
    pub(crate) fn batches(&self) -> (u64, u64) {
        (self.batches.load(Ordering::Relaxed), self.messages.load(Ordering::Relaxed))
    }

    /// Returns when the condition holds.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
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

    /// Returns when so many units have ended.
    pub(crate) async fn until_finished(&self, units: usize) {
        self.until(|seen| seen.finished() >= units).await;
    }

    /// Begins to take times.
    pub(crate) fn take_times(&self) {
        *self.times() = Times { are_taken: true, ..Times::default() };
    }

    /// A unit has begun then.
    pub(crate) fn begun(&self, id: Uuid, at: Instant) {
        let mut times = self.times();
        match times.ended.remove(&id) {
            Some(end) => times.took_ms.push(millis(end - at)),
            None => drop(times.begun.insert(id, at)),
        }
    }

    /// Milliseconds that units took which have ended since times are taken, and the longest pause between two commits
    /// that ended any.
    pub(crate) fn took(&self) -> (Vec<f64>, Duration) {
        let times = std::mem::take(&mut *self.times());
        (times.took_ms, times.longest_pause)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, ids: Vec<Uuid>) {
        let (mut times, now) = (self.times(), Instant::now());
        if !times.are_taken {
            return;
        }
        if let Some(last) = times.last.replace(now) {
            times.longest_pause = times.longest_pause.max(now - last);
        }
        for id in ids {
            match times.begun.remove(&id) {
                // One whose time is still to come has ended early, by less than a timer's rounding.
                Some(begun) => times.took_ms.push(millis(now.saturating_duration_since(begun))),
                None => drop(times.ended.insert(id, now)),
            }
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A store that tells what was committed to it, and is slow if it is told to be.
pub(crate) struct Watched {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) seen: Arc<Seen>,
    /// How long each answer to the flow is held back.
    pub(crate) delay: Duration,
}

impl Watched {
    async fn called(&self) {
        self.seen.calls.fetch_add(1, Ordering::Relaxed);
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

#[async_trait]
impl Store for Watched {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        self.called().await;
        self.inner.load(query).await
    }
    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        self.called().await;
        let seen = &self.seen;
        let finished = (seen.finishes)(&commit);
        let sent = commit.outbox.iter().filter(|row| row.envelope.name() == seen.sent_type).count();
        let messages = commit.inbox.len();
        let ids = self.inner.commit(commit).await?;
        if messages > 0 {
            seen.batches.fetch_add(1, Ordering::Relaxed);
            seen.messages.fetch_add(messages as u64, Ordering::Relaxed);
        }
        if finished.len() + sent > 0 {
            seen.finished.fetch_add(finished.len(), Ordering::SeqCst);
            seen.places.add_permits(finished.len());
            seen.sent.fetch_add(sent, Ordering::SeqCst);
            if !finished.is_empty() {
                seen.ended(finished);
            }
            seen.changed.notify_waiters();
        }
        Ok(ids)
    }
    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.called().await;
        self.inner.outbox(after, limit).await
    }
    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.called().await;
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
        self.called().await;
        self.inner.due_timers(now, limit).await
    }
    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.called().await;
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
