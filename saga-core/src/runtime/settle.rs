//! The settler: takes confirmed rows out of the outbox, and sets aside the ones that have no place to go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::commit::{Commit, JournalOutcome, Name, OutboxId, OutboxRow};
use crate::failure::{Failure, FailureKind};
use crate::probe::Point;
use crate::runtime::core::Core;
use crate::runtime::deliver::handled_before;
use crate::runtime::patience::Conflicts;
use crate::runtime::report::Report;
use crate::store::StoreError;
use crate::unit_of_work::{self, Failed};

/// How many confirms are settled in one transaction at the most.
pub(crate) const SETTLE: usize = 1_024;
/// How long confirmed rows wait for more of their kind before they are settled. Nobody waits for a settled row, and a
/// transaction of its own for each would make those wait who do; after a crash the unsettled are sent again, and known.
const LINGER: Duration = Duration::from_millis(5);
/// The pause before rows are taken out again that the store has refused to take out: a defect of the store, which needs
/// somebody to mend it.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// The endpoint's name in the dead letter of a published message.
pub(crate) const PUBLISHED: &str = "(published)";
/// What the settler is called where endpoints have names.
const OUTBOX: &str = "(outbox)";

/// What became of rows that were sent.
pub(crate) enum Settle {
    Arrived(Vec<OutboxId>),
    SetAside(OutboxId, OutboxRow, String),
}

/// Rows that the settler has done with.
pub(crate) struct Settled {
    /// They are out of the outbox.
    pub(crate) gone: Vec<OutboxId>,
    /// They could not be set aside, and stay in it.
    pub(crate) kept: Vec<OutboxId>,
}

/// Runs until nothing more comes.
pub(crate) async fn run(
    core: Arc<Core>,
    mut to_settle: mpsc::UnboundedReceiver<Settle>,
    settled: mpsc::UnboundedSender<Settled>,
) {
    let mut batch = Vec::new();
    while to_settle.recv_many(&mut batch, SETTLE).await > 0 {
        // Real time, not the clock's: a matter of the machine's pace, and of nothing that happens.
        tokio::time::sleep(LINGER).await;
        while batch.len() < SETTLE
            && let Ok(more) = to_settle.try_recv()
        {
            batch.push(more);
        }
        core.probes.reached(Point::Confirmed).await;
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for it in batch.drain(..) {
            match it {
                Settle::Arrived(ids) => gone.extend(ids),
                Settle::SetAside(id, row, error) => {
                    let done = set_aside(&core, id, &row, error).await;
                    if done { gone.push(id) } else { kept.push(id) }
                }
            }
        }
        take_out(&core, &gone).await;
        core.probes.reached(Point::Settled).await;
        // The relay may have ended; then nobody needs to know.
        let _ = settled.send(Settled { gone, kept });
    }
}

/// Takes rows out of the outbox, however long that takes: for as long as this process lives, no other looks for them.
pub(crate) async fn take_out(core: &Core, ids: &[OutboxId]) {
    if ids.is_empty() {
        return;
    }
    let mut conflicts = Conflicts::of(OUTBOX);
    loop {
        let mut commit = Commit::new(core.clock.now());
        commit.settled.extend_from_slice(ids);
        match core.commit(commit).await {
            Ok(()) => return,
            Err(StoreError::Conflict(reason)) => conflicts.met(&reason, &*core.clock).await,
            Err(error) => {
                tracing::error!(%error, "confirmed rows can not be taken out of the outbox; trying again");
                core.clock.sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

/// A row that can never be delivered becomes a dead letter, and blocks no other. Says whether the row may go: one whose
/// dead letter can not be stored stays in the outbox.
async fn set_aside(core: &Core, id: OutboxId, row: &OutboxRow, error: String) -> bool {
    let envelope = &row.envelope;
    if envelope.is_to_temporary_address() {
        metrics::counter!("saga_answers_dropped_total").increment(1);
        tracing::debug!(message_id = %envelope.message_id, error, "an answer to somebody who has gone is dropped");
        return true;
    }
    let endpoint = row.destination.clone().unwrap_or(PUBLISHED.into());
    let failure = Failure::new(FailureKind::Unroutable, error);
    let mut conflicts = Conflicts::of(OUTBOX);
    loop {
        let mut commit = Commit::new(core.clock.now());
        let journal = envelope.saga().zip(envelope.correlation_id).map(|(saga, instance)| {
            let (saga, outcome) = (Name::Owned(saga.to_owned()), JournalOutcome::Faulted);
            unit_of_work::journal_line(saga, instance, endpoint.clone(), envelope, outcome, commit.at)
        });
        let failed = Failed { envelope, endpoint: endpoint.clone(), journal, failure: failure.clone(), answer: None };
        let verdict = unit_of_work::fail(failed, &core.retry, &mut commit);
        commit.settled.push(id);
        let refused = match core.commit(commit).await {
            Ok(()) => {
                let mut report = Report::of(&endpoint);
                report.verdict(envelope, &verdict);
                report.count();
                return true;
            }
            Err(StoreError::Conflict(reason)) => match handled_before(core, &endpoint, &[envelope.message_id]).await {
                // Another row of the same message was set aside before.
                Ok(handled) if !handled.is_empty() => return true,
                Ok(_) => {
                    conflicts.met(&reason, &*core.clock).await;
                    continue;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::error!(outbox_id = id, error = %refused, "a dead letter can not be stored; its message stays in the outbox");
        return false;
    }
}
