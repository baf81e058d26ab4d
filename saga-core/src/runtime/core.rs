//! What every loop shares: the ports, and the one way to commit.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Delivery};
use crate::clock::Clock;
use crate::commit::{Commit, OutboxId, OutboxRow};
use crate::failure::{Failure, FailureKind};
use crate::mutation::{Mutation, is_out};
use crate::probe::{Point, Probes};
use crate::retry::RetryPolicy;
use crate::runtime::requests::Replies;
use crate::store::{LoadQuery, Loaded, Store, StoreError};

/// How many messages of one source share one load and one commit at the most; a saga's batch has two sources, its bus
/// and its callers, and is up to twice as large. Beyond a few hundred a batch gains nothing and makes a lone message
/// wait.
pub(crate) const BATCH: usize = 512;

/// Takes along what comes while all others have their turn: the first of many must not be a batch alone. Ends with the
/// first turn that brings nothing, and with [`BATCH`] at the latest.
pub(crate) async fn gather<T>(coming: &mut mpsc::UnboundedReceiver<T>, batch: &mut Vec<T>) {
    let mut taken = 0;
    while batch.len() > taken && batch.len() < BATCH {
        taken = batch.len();
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(next) = coming.try_recv()
        {
            batch.push(next);
        }
    }
}

/// The first pause after the store did not answer; it doubles up to [`STORE_PAUSE_MAX`].
const STORE_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two tries of a store that is away: short, because everything waits for it.
const STORE_PAUSE_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retry: RetryPolicy,
    pub(crate) probes: Probes,
    /// Committed outbox rows, handed over to the relay in memory.
    pub(crate) relay: mpsc::UnboundedSender<Vec<(OutboxId, OutboxRow)>>,
    /// Whether this process sends its outbox rows and fires its timers.
    pub(crate) relays: bool,
    /// How often a message may be delivered without being handled.
    pub(crate) delivery_limit: u32,
    /// The requests that wait for answers.
    pub(crate) replies: Replies,
    /// Rows may be in the outbox that nobody handed over: look.
    pub(crate) sweep: Notify,
    /// Rows of a process that is gone may be in the outbox: take them over.
    pub(crate) orphans: Notify,
    pub(crate) timers: TimerWake,
    /// Nobody knows what became of a commit, and it may still be carried out: look again later.
    pub(crate) unsure: Notify,
    /// Cancelled when nothing more is to be taken in.
    pub(crate) stopping: CancellationToken,
}

impl Core {
    /// Commits, hands the outbox rows over, and wakes the timers. Waits for a store that is away, for ever; what
    /// comes back as an error needs an answer from the caller, and nothing was written.
    pub(crate) async fn commit(&self, mut commit: Commit) -> Result<(), StoreError> {
        commit.handed_over = self.relays;
        let due = commit.timers.iter().map(|row| row.due).min();
        let commit = Arc::new(commit);
        // Sent rows wait for a transaction to go with: that is no time that somebody has waited.
        let is_waited_for = !commit.settles_only();
        let started = Instant::now();
        let mut pause = STORE_PAUSE;
        let mut unsure = false;
        let outcome = loop {
            match self.store.commit(commit.clone()).await {
                Err(StoreError::Unavailable(error)) => {
                    unsure = true;
                    self.wait_for_store("commit", &error, &mut pause).await;
                }
                outcome => break outcome,
            }
        };
        if unsure {
            // A commit whose answer was lost may stand: its rows are in the outbox, and nobody was told.
            self.sweep.notify_one();
            self.timers.refresh();
            self.unsure.notify_one();
        }
        let ids = outcome?;
        if is_waited_for {
            metrics::histogram!("saga_commit_seconds").record(started.elapsed().as_secs_f64());
        }
        self.probes.reached(Point::Committed).await;
        let rows = Arc::try_unwrap(commit).map_or_else(|shared| shared.outbox.clone(), |owned| owned.outbox);
        if self.relays && !ids.is_empty() {
            // The relay ends after everything that commits; what is left then stays in the outbox.
            let _ = self.relay.send(ids.into_iter().zip(rows).collect());
        }
        if let Some(due) = due {
            self.timers.scheduled(due);
        }
        Ok(())
    }

    /// Loads what a batch must know. Waits for a store that is away, for ever.
    pub(crate) async fn load(&self, query: LoadQuery<'_>) -> Result<Loaded, StoreError> {
        let mut pause = STORE_PAUSE;
        loop {
            match self.store.load(&query).await {
                Err(StoreError::Unavailable(error)) => self.wait_for_store("load", &error, &mut pause).await,
                Ok(loaded) if is_out(Mutation::InboxCheck) => return Ok(Loaded { handled: HashSet::new(), ..loaded }),
                outcome => return outcome,
            }
        }
    }

    pub(crate) async fn wait_for_store(&self, what: &str, error: &str, pause: &mut Duration) {
        tracing::warn!(what, error, pause = ?*pause, "the store does not answer; waiting");
        self.clock.sleep(*pause).await;
        *pause = (*pause * 2).min(STORE_PAUSE_MAX);
    }
}

/// Messages that were delivered again and again and never handled: one of them may end the process that handles it, and
/// takes along whatever is in hand beside it.
///
/// From half of the limit on each is handled alone, before what is new, so that the innocent are done and the culprit comes
/// to the front. At the limit the one at the front is given up; those behind it are tried alone once more, because they may
/// only have stood behind it.
#[derive(Default)]
pub(crate) struct Suspects {
    gave_up: bool,
}

impl Suspects {
    /// Takes the suspects out of what was delivered.
    pub(crate) fn among(core: &Core, delivered: &mut Vec<Delivery>) -> Vec<Delivery> {
        let from = core.delivery_limit.div_ceil(2).max(1);
        delivered.extract_if(.., |it| it.redelivered >= from).collect()
    }

    /// Why a message must not be tried once more, if so.
    pub(crate) fn refusal(&mut self, core: &Core, delivery: &Delivery) -> Option<Failure> {
        let times = delivery.redelivered;
        if times < core.delivery_limit || std::mem::replace(&mut self.gave_up, true) {
            return None;
        }
        let text = format_args!("it was delivered {times} times and never handled; it may end whoever handles it");
        Some(Failure::new(FailureKind::Crashing, text))
    }
}

/// When the timer loop must wake: the earliest time that anybody has told it of.
#[derive(Default)]
pub(crate) struct TimerWake {
    next: Mutex<Wake>,
    changed: Notify,
}

/// What the timer loop is to do next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Ask the store.
    #[default]
    Ask,
    /// Sleep until then.
    At(DateTime<Utc>),
    /// Sleep until told.
    Never,
}

impl TimerWake {
    /// A timer was committed.
    pub(crate) fn scheduled(&self, due: DateTime<Utc>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = match *next {
            Wake::Ask => false,
            Wake::At(at) => due < at,
            Wake::Never => true,
        };
        if earlier {
            *next = Wake::At(due);
            self.changed.notify_one();
        }
    }

    /// The store may know more than anybody told: ask it.
    pub(crate) fn refresh(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Wake::Ask;
        self.changed.notify_one();
    }

    pub(crate) fn next(&self) -> Wake {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects to be told from now on; what was known is forgotten. Called before the store is asked, so that what
    /// is scheduled meanwhile is not lost.
    pub(crate) fn expect(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Wake::Never;
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
