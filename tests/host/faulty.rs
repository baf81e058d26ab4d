//! A store that fails as a test says, and a clock that is wound on while somebody waits.

use std::any::TypeId;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use host::serve::{Decorate, Parts};
use saga_core::testkit::ManualClock;
use saga_core::{
    Backlog, Change, Commit, DeadLetterPage, DeadLetterRow, JournalRow, Lane, LoadQuery, Loaded, Old, OutboxId,
    OutboxRow, Page, Store, StoreError, StoredInstance, TimerRow,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::support::PATIENCE;

/// What becomes of commits, of the backlog's query and of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// They wait until it is another mode.
    Waits,
    /// They never end.
    Hangs,
    /// They fail.
    Fails,
    /// The next one is committed, and its answer is lost; then it works.
    LosesOneAnswer,
}

/// Stands before a store and makes it fail.
pub struct Faulty {
    inner: OnceLock<Arc<dyn Store>>,
    commits: OnceLock<Arc<dyn Store>>,
    mode: watch::Sender<Mode>,
    waiting: watch::Sender<usize>,
}

impl Default for Faulty {
    fn default() -> Self {
        let (mode, waiting) = (watch::Sender::new(Mode::Works), watch::Sender::new(0));
        Self { inner: OnceLock::new(), commits: OnceLock::new(), mode, waiting }
    }
}

impl Faulty {
    /// One that works, and the parts of a service whose store it is.
    pub fn parts() -> (Arc<Self>, Parts) {
        let faulty = Arc::new(Self::default());
        let before = faulty.clone();
        let decorate: Decorate = Arc::new(move |store| {
            assert!(before.inner.set(store).is_ok(), "one store only");
            before.clone()
        });
        (faulty, Parts { decorate: Some(decorate), ..Parts::default() })
    }

    pub fn turns(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Returns when so many wait, of those that [`Mode::Waits`] makes wait.
    pub async fn until_waiting(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        let enough = waiting.wait_for(|waiting| *waiting >= count);
        tokio::time::timeout(PATIENCE, enough).await.expect("enough wait").unwrap();
    }

    /// Lets another store commit.
    pub fn commits_go_to(&self, store: Arc<dyn Store>) {
        assert!(self.commits.set(store).is_ok(), "one store only");
    }

    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    fn inner(&self) -> &Arc<dyn Store> {
        self.inner.get().unwrap()
    }

    async fn fail(&self) -> Result<(), StoreError> {
        match self.mode() {
            Mode::Works | Mode::LosesOneAnswer => Ok(()),
            Mode::Waits => {
                self.waiting.send_modify(|waiting| *waiting += 1);
                let _ = self.mode.subscribe().wait_for(|mode| *mode != Mode::Waits).await;
                self.waiting.send_modify(|waiting| *waiting -= 1);
                Ok(())
            }
            Mode::Hangs => std::future::pending().await,
            Mode::Fails => Err(StoreError::Unavailable("not-to-be-told".to_owned())),
        }
    }
}

/// What the work answers, while the clock goes from one sleeper to the next.
pub async fn wound_on<T>(clock: &ManualClock, work: impl Future<Output = T>) -> T {
    let wind = async {
        loop {
            if let Some(at) = clock.next_wake(DateTime::<Utc>::MAX_UTC) {
                clock.set(at);
            }
            tokio::task::yield_now().await;
        }
    };
    let both = async {
        tokio::select! { done = work => done, () = wind => unreachable!("it never ends") }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("it never ended, whatever the clock says")
}

#[async_trait]
impl Store for Faulty {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        self.inner().load(query).await
    }
    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        self.fail().await?;
        let ids = self.commits.get().unwrap_or_else(|| self.inner()).commit(commit).await?;
        if self.mode() == Mode::LosesOneAnswer {
            self.turns(Mode::Works);
            return Err(StoreError::Unavailable("the answer is lost".to_owned()));
        }
        Ok(ids)
    }
    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner().outbox(after, limit).await
    }
    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner().outbox_lane(lane, after, limit).await
    }
    async fn take_over(&self, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner().take_over(limit).await
    }
    async fn changed(&self) -> Change {
        self.inner().changed().await
    }
    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError> {
        self.inner().purge(old, limit).await
    }
    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError> {
        self.inner().due_timers(now, limit).await
    }
    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.inner().next_due_after(after).await
    }
    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
        self.inner().instance(saga, id).await
    }
    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
        self.inner().journal(saga, id).await
    }
    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.fail().await?;
        self.inner().dead_letters(page).await
    }
    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        self.inner().dead_letter(id).await
    }
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.fail().await?;
        self.inner().backlog().await
    }
    fn writes(&self, row: TypeId) -> bool {
        self.inner().writes(row)
    }
}
