//! The timer loop: what is due moves to the outbox. Nothing polls: the loop sleeps until the earliest timer that it
//! knows of, and is woken when an earlier one is committed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::{Commit, OutboxRow};
use crate::probe::Point;
use crate::runtime::core::{BATCH, Core, Wake};
use crate::runtime::patience::Conflicts;
use crate::store::{StoreError, Unreadable};

/// What the loop is called where endpoints have names.
const TIMERS: &str = "(timers)";
/// The pause before a store that failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the runtime stops.
pub(crate) async fn run(core: Arc<Core>) {
    let mut known = HashSet::new();
    let mut conflicts = Conflicts::of(TIMERS);
    loop {
        let asked = match core.timers.next() {
            Wake::Ask => true,
            Wake::At(due) => tokio::select! {
                biased;
                () = core.stopping.cancelled() => return,
                () = core.timers.changed() => false,
                () = core.clock.sleep_until(due) => true,
            },
            Wake::Never => tokio::select! {
                biased;
                () = core.stopping.cancelled() => return,
                () = core.timers.changed() => false,
            },
        };
        if !asked {
            continue;
        }
        if core.stopping.is_cancelled() {
            return;
        }
        core.timers.expect();
        let fired = fire(&core, &mut known).await;
        if let Err(StoreError::Conflict(reason)) = &fired {
            // Another host was quicker, or a step has cancelled one of them: what is left is still due.
            core.timers.refresh();
            conflicts.met(reason, &*core.clock).await;
            continue;
        }
        conflicts = Conflicts::of(TIMERS);
        if let Err(error) = fired {
            tracing::warn!(%error, "due timers can not be read or moved; trying again");
            core.timers.refresh();
            tokio::select! {
                biased;
                () = core.stopping.cancelled() => return,
                () = core.clock.sleep(PAUSE) => {}
            }
        }
    }
}

/// Moves every due timer to the outbox, batch by batch, and notes when the next is due. A timer that can not be read
/// stays where an operator finds it, and is told of once: `known` are those that were told of before.
async fn fire(core: &Core, known: &mut HashSet<Unreadable>) -> Result<(), StoreError> {
    let now = core.clock.now();
    loop {
        let due = core.store.due_timers(now, BATCH).await?;
        for row in due.unreadable.iter().filter(|row| !known.contains(*row)) {
            tracing::error!(
                token = row.key,
                reason = row.reason,
                "a timer is due and can not be read; it does not fire"
            );
        }
        let is_last = due.rows.len() < BATCH;
        if !due.rows.is_empty() {
            core.probes.reached(Point::TimerRead).await;
            let mut commit = Commit::new(now);
            for row in due.rows {
                commit.fired.push(row.token);
                commit.outbox.push(OutboxRow { destination: Some(row.endpoint), envelope: row.envelope });
            }
            core.commit(commit).await?;
            core.probes.reached(Point::TimerStored).await;
        }
        if core.stopping.is_cancelled() {
            return Ok(());
        }
        if is_last {
            *known = due.unreadable.into_iter().collect();
            // What is due already and still there can not be read: it must not wake the loop for ever.
            if let Some(next) = core.store.next_due_after(now).await? {
                core.timers.scheduled(next);
            }
            return Ok(());
        }
        known.extend(due.unreadable);
    }
}
