//! What runs beside the flow: other processes are listened to, and old rows are removed.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::runtime::core::Core;
use crate::store::{Change, Old};

/// How many old rows are removed at once: few, so that nobody waits long behind them.
const BITE: usize = 1_000;
/// The pause between two bites, so that a large purge leaves the store to the flow most of the time.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a database may take to carry out what it was sent over a connection that is lost. Nobody is told of the rows
/// of such a commit, and its repetition may have ended before in a conflict of another kind.
const LATE: Duration = Duration::from_secs(30);

/// How long what nobody needs any more is kept.
///
/// The outbox needs no limit: a row is removed as soon as the bus has confirmed it, and never before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long it is known that a message was handled: longer than any message can still be delivered, because one that
    /// comes later is handled once more. `None`: for ever.
    pub inbox: Option<Duration>,
    /// How long the history is kept. `None`: for ever.
    pub journal: Option<Duration>,
    /// How long a dead letter is kept after it was redriven. `None`: for ever.
    pub redriven: Option<Duration>,
    /// How often old rows are looked for; not zero.
    pub interval: Duration,
}

impl Default for Retention {
    /// The inbox for thirty days, everything else for ever; looked for every ten minutes.
    fn default() -> Self {
        let inbox = Some(Duration::from_secs(30 * 24 * 60 * 60));
        Self { inbox, journal: None, redriven: None, interval: Duration::from_secs(600) }
    }
}

/// Passes on what other processes leave, until the runtime stops.
pub(crate) async fn watch(core: Arc<Core>) {
    loop {
        let change = tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            change = core.store.changed() => change,
        };
        match change {
            Change::Outbox => core.orphans.notify_one(),
            Change::Timers => core.timers.refresh(),
        }
    }
}

/// Looks for what commits have left that were carried out after nobody waited for them any more, until the runtime stops.
pub(crate) async fn look_again(core: Arc<Core>) {
    loop {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = core.unsure.notified() => {}
        }
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = core.clock.sleep(LATE) => {}
        }
        core.sweep.notify_one();
        core.timers.refresh();
    }
}

/// Removes old rows in small bites, until the runtime stops.
pub(crate) async fn purge(core: Arc<Core>, retention: Retention) {
    loop {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = core.clock.sleep(retention.interval) => {}
        }
        let now = core.clock.now();
        let before = |kept: Option<Duration>| -> Option<DateTime<Utc>> {
            now.checked_sub_signed(TimeDelta::from_std(kept?).ok()?)
        };
        let old = [
            before(retention.inbox).map(Old::Inbox),
            before(retention.journal).map(Old::Journal),
            before(retention.redriven).map(Old::Redriven),
        ];
        for old in old.into_iter().flatten() {
            while bite(&core, old).await {
                tokio::select! {
                    biased;
                    () = core.stopping.cancelled() => return,
                    () = core.clock.sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Removes a few rows; says whether there may be more.
async fn bite(core: &Core, old: Old) -> bool {
    match core.store.purge(old, BITE).await {
        Ok(more) => more,
        Err(error) => {
            tracing::warn!(?old, %error, "old rows can not be removed; trying again at the next interval");
            false
        }
    }
}
