//! The relay: outbox → bus → confirm → settle. Rows are handed over in memory after their commit; a sweep finds the
//! ones that nobody handed over.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::{Confirm, SendError};
use crate::commit::{Lane, OutboxId, OutboxRow};
use crate::mutation::{Mutation, is_out};
use crate::probe::Point;
use crate::runtime::core::Core;
use crate::runtime::patience::Pause;
use crate::runtime::settle::{self, SETTLE, Settle, Settled};
use crate::store::Page;

/// How many messages of one lane may be sent and not confirmed. It bounds what the relay and an embedded bus keep in
/// memory; ten thousand waiting activities must fit. What has no room stays in the outbox, and keeps no other lane. What a
/// bus takes past its broker is not counted: its endpoint bounds it, and waits for as long as an activity takes.
const WINDOW: usize = 16_384;
/// How many rows a sweep reads at once.
const PAGE: usize = 1_000;
/// The pause before messages that the bus could not take are sent again.
const RESEND_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a sweep that has failed; what is handed over in memory is sent meanwhile.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Relay {
    pub(crate) core: Arc<Core>,
    pub(crate) handed_over: mpsc::UnboundedReceiver<Vec<(OutboxId, OutboxRow)>>,
    pub(crate) confirms: mpsc::UnboundedReceiver<Confirm>,
    /// Cancelled when everything that commits has ended.
    pub(crate) closing: CancellationToken,
}

struct Sending {
    core: Arc<Core>,
    /// Sent or handed over, and not settled.
    in_flight: HashMap<OutboxId, InFlight>,
    lanes: BTreeMap<Lane, InLane>,
    /// The sweep over all lanes goes on after this row; `None`: it is done.
    sweep_after: Option<OutboxId>,
    /// Rows of a process that is gone are to be taken over.
    orphans: bool,
    /// No sweep before it is over: the last one has failed.
    sweep_pause: Pause,
    /// What the bus could not take, to be sent again when the pause is over.
    again: Vec<OutboxId>,
    again_pause: Pause,
}

struct InFlight {
    row: OutboxRow,
    /// Whether its lane counts it.
    is_sent: bool,
}

/// One lane of the outbox.
#[derive(Default)]
struct InLane {
    /// How many of its rows are sent and not settled.
    in_flight: usize,
    /// Its rows after this one were left behind when it was full; `None`: none were.
    behind: Option<OutboxId>,
}

impl Relay {
    /// Sends until the runtime stops; then settles what is confirmed and leaves the rest in the outbox.
    pub(crate) async fn run(mut self) {
        let core = self.core.clone();
        let mut sending = Sending {
            core: core.clone(),
            in_flight: HashMap::new(),
            lanes: BTreeMap::new(),
            sweep_after: Some(0),
            orphans: false,
            sweep_pause: Pause::default(),
            again: Vec::new(),
            again_pause: Pause::default(),
        };
        let (settle, to_settle) = mpsc::unbounded_channel();
        let (settled, mut were_settled) = mpsc::unbounded_channel();
        let mut settler = JoinSet::new();
        settler.spawn(settle::run(core.clone(), to_settle, settled));
        let (mut rows, mut confirmed, mut done) = (Vec::new(), Vec::new(), Vec::new());
        let mut swept = false;
        loop {
            let next = sending.next_sweep();
            // A sweep and what is handed over take turns; there may be much of both.
            let sweeps = next.is_some() && (!swept || self.handed_over.is_empty());
            tokio::select! {
                // What is rare goes first, because what is always ready must not keep it from its turn. Confirms and what
                // was settled come to an end when nothing more is sent.
                biased;
                () = self.closing.cancelled() => break,
                () = core.sweep.notified() => sending.sweep_after = Some(0),
                () = core.orphans.notified() => sending.orphans = true,
                () = sending.again_pause.over(), if !sending.again.is_empty() => sending.resend().await,
                n = self.confirms.recv_many(&mut confirmed, SETTLE) => {
                    if n == 0 { break }
                    sending.confirmed(confirmed.drain(..), &settle);
                }
                _ = were_settled.recv_many(&mut done, SETTLE) => {
                    sending.settled(done.drain(..));
                }
                () = sending.sweep_pause.over(), if sweeps => {
                    swept = true;
                    sending.sweep(next).await;
                }
                n = self.handed_over.recv_many(&mut rows, SETTLE) => {
                    if n == 0 { break }
                    swept = false;
                    sending.send(rows.drain(..).flatten(), Age::Fresh).await;
                }
            }
        }
        while let Ok(confirm) = self.confirms.try_recv() {
            sending.confirmed(std::iter::once(confirm), &settle);
        }
        drop(settle);
        if let Some(Err(error)) = settler.join_next().await {
            tracing::error!(%error, "the settler ended early; its rows are sent again at the next start");
        }
    }
}

impl Sending {
    /// Sends what has room in its lane; the rest is left behind, to be swept when half of the lane is free. A lane that
    /// is behind takes no more than that half: fresh rows must not keep the older ones from their turn.
    async fn send(&mut self, rows: impl Iterator<Item = (OutboxId, OutboxRow)>, age: Age) {
        let (mut ids, mut batch) = (Vec::new(), Vec::new());
        for (id, row) in rows {
            let std::collections::hash_map::Entry::Vacant(entry) = self.in_flight.entry(id) else { continue };
            let is_stopping = self.core.stopping.is_cancelled();
            if age == Age::Fresh && !is_stopping && self.core.bus.hand_over(id, &row) {
                ids.push(id);
                entry.insert(InFlight { row, is_sent: false });
                continue;
            }
            let lane = self.lanes.entry(Lane::of(&row)).or_default();
            let window = if lane.behind.is_some() { WINDOW / 2 } else { WINDOW };
            if is_stopping || lane.in_flight >= window {
                lane.behind = Some(lane.behind.unwrap_or(OutboxId::MAX).min(id - 1));
            } else {
                lane.in_flight += 1;
                ids.push(id);
                entry.insert(InFlight { row: row.clone(), is_sent: true });
                batch.push((id, row));
            }
        }
        if !ids.is_empty() {
            if is_out(Mutation::ConfirmBeforeSettle) {
                settle::take_out(&self.core, &ids).await;
            }
            if !batch.is_empty() {
                self.core.bus.send(batch).await;
            }
            self.core.probes.reached(Point::Sent).await;
        }
    }

    fn settled(&mut self, settled: impl Iterator<Item = Settled>) {
        for Settled { gone, kept } in settled {
            for id in gone {
                let Some(InFlight { row, is_sent: true }) = self.in_flight.remove(&id) else { continue };
                if let Entry::Occupied(mut lane) = self.lanes.entry(Lane::of(&row)) {
                    lane.get_mut().in_flight -= 1;
                    // There may be as many lanes as there were requesters.
                    if lane.get().in_flight == 0 && lane.get().behind.is_none() {
                        lane.remove();
                    }
                }
            }
            kept.into_iter().for_each(|id| self.later(id));
        }
    }

    /// Sends a row again, after a pause.
    fn later(&mut self, id: OutboxId) {
        if self.again.is_empty() {
            self.again_pause.begin(&self.core.clock, RESEND_PAUSE);
        }
        self.again.push(id);
    }

    /// What is to be swept now, if anything: all lanes, or one that is behind and half empty.
    fn next_sweep(&self) -> Option<Sweep> {
        if self.core.stopping.is_cancelled() {
            return None;
        }
        if let Some(after) = self.sweep_after {
            return Some(Sweep::All { after });
        }
        if self.orphans {
            return Some(Sweep::Orphans);
        }
        let mut behind = self.lanes.iter().filter(|(_, it)| it.in_flight < WINDOW / 2);
        behind.find_map(|(lane, it)| Some(Sweep::Lane { lane: lane.clone(), after: it.behind? }))
    }

    /// Reads the next page of what was left behind, and sends it.
    async fn sweep(&mut self, sweep: Option<Sweep>) {
        let Some(sweep) = sweep else { return };
        let store = self.core.store.clone();
        let page = match &sweep {
            Sweep::All { after } => store.outbox(*after, PAGE).await,
            Sweep::Orphans => store.take_over(PAGE).await,
            Sweep::Lane { lane, after } => store.outbox_lane(lane, *after, PAGE).await,
        };
        let Page { rows, unreadable } = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "the outbox can not be swept; trying again");
                self.sweep_pause.begin(&self.core.clock, SWEEP_PAUSE);
                return;
            }
        };
        for row in &unreadable {
            // An envelope is needed to make a dead letter of it, so the row stays where an operator finds it.
            tracing::error!(outbox_id = row.key, reason = row.reason, "an outbox row can not be sent");
        }
        let rest = rows.last().filter(|_| rows.len() == PAGE).map(|(id, _)| *id);
        match sweep {
            Sweep::All { .. } => self.sweep_after = rest,
            Sweep::Orphans => self.orphans = rest.is_some(),
            Sweep::Lane { lane, .. } => self.lanes.entry(lane).or_default().behind = rest,
        }
        self.send(rows.into_iter(), Age::Found).await;
    }

    async fn resend(&mut self) {
        let ids = std::mem::take(&mut self.again);
        let rows: Vec<_> = ids.into_iter().filter_map(|id| Some((id, self.in_flight.get(&id)?.row.clone()))).collect();
        self.core.bus.send(rows).await;
    }

    fn confirmed(&mut self, confirms: impl Iterator<Item = Confirm>, settle: &mpsc::UnboundedSender<Settle>) {
        let mut arrived = Vec::new();
        let (mut not_taken, mut why) = (0_usize, None);
        for Confirm { id, result } in confirms {
            match result {
                Ok(()) => arrived.push(id),
                Err(SendError::Unavailable(error)) => {
                    (not_taken, why) = (not_taken + 1, why.or(Some(error)));
                    self.later(id);
                }
                Err(SendError::Unroutable(error)) => {
                    if let Some(InFlight { row, .. }) = self.in_flight.get(&id) {
                        // The settler ends after the relay.
                        let _ = settle.send(Settle::SetAside(id, row.clone(), error));
                    }
                }
            }
        }
        if let Some(error) = why {
            tracing::warn!(messages = not_taken, error, "the bus did not take messages; sending them again");
        }
        if !arrived.is_empty() {
            let _ = settle.send(Settle::Arrived(arrived));
        }
    }
}

/// Where rows come from.
#[derive(Clone, Copy, PartialEq)]
enum Age {
    /// They were committed just now. A sweep may have been quicker, and have sent them.
    Fresh,
    /// A sweep has found them: they may have been sent before.
    Found,
}

/// A look into the outbox.
#[derive(Debug, PartialEq)]
enum Sweep {
    /// At all rows after this one.
    All { after: OutboxId },
    /// At those that nobody sends.
    Orphans,
    /// At one lane, after this row.
    Lane { lane: Lane, after: OutboxId },
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::Notify;
    use uuid::Uuid;

    use super::*;
    use crate::bus::{Bus, BusError, Delivery, EmbeddedBus, Endpoint, Receipt};
    use crate::clock::SystemClock;
    use crate::message::{Body, Envelope};
    use crate::probe::Probes;
    use crate::retry::RetryPolicy;
    use crate::runtime::core::TimerWake;
    use crate::runtime::requests::Replies;
    use crate::store::MemoryStore;

    fn rows(name: &'static str, ids: std::ops::Range<OutboxId>) -> impl Iterator<Item = (OutboxId, OutboxRow)> {
        let envelope = Arc::new(Envelope::raw(Uuid::nil(), name, Body::of(&())));
        ids.map(move |id| (id, OutboxRow { destination: None, envelope: envelope.clone() }))
    }

    /// Takes everything itself.
    struct Short;

    #[async_trait]
    impl Bus for Short {
        async fn start(
            &self,
            _: &[Endpoint],
            _: mpsc::UnboundedSender<Confirm>,
        ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
            Ok(Vec::new())
        }

        async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) {
            assert!(rows.iter().all(|(_, row)| *row.envelope.name() == *"Test:Found"), "it has taken them");
        }

        fn hand_over(&self, _: OutboxId, _: &OutboxRow) -> bool {
            true
        }

        fn acknowledge(&self, _: &[Receipt]) {}

        fn health(&self) -> Result<(), String> {
            Ok(())
        }
    }

    fn sending(bus: impl Bus) -> Sending {
        let core = Arc::new(Core {
            store: Arc::new(MemoryStore::builder().build()),
            bus: Arc::new(bus),
            clock: Arc::new(SystemClock),
            retry: RetryPolicy::default(),
            probes: Probes::default(),
            relay: mpsc::unbounded_channel().0,
            relays: true,
            delivery_limit: 20,
            replies: Replies::of(Uuid::nil()),
            sweep: Notify::new(),
            orphans: Notify::new(),
            timers: TimerWake::default(),
            unsure: Notify::new(),
            stopping: CancellationToken::new(),
        });
        let (sweep_pause, again_pause) = (Pause::default(), Pause::default());
        let (in_flight, lanes, again) = (HashMap::new(), BTreeMap::new(), Vec::new());
        Sending { core, in_flight, lanes, sweep_after: None, orphans: false, sweep_pause, again, again_pause }
    }

    #[tokio::test]
    async fn given_a_lane_that_is_full_when_others_have_messages_then_they_are_sent_and_its_own_wait_for_their_turn() {
        let window = WINDOW as OutboxId;
        let mut sending = sending(EmbeddedBus::new());
        sending.send(rows("Test:Slow", 1..window + 11), Age::Fresh).await;
        assert_eq!(sending.in_flight.len(), WINDOW, "ten have no room");
        sending.send(rows("Test:Quick", window + 11..window + 21), Age::Fresh).await;
        assert_eq!(sending.in_flight.len(), WINDOW + 10, "another lane is not kept by it");
        assert!(sending.next_sweep().is_none(), "nothing is swept before half of the lane is free");

        sending.settled([Settled { gone: (1..window / 2 + 2).collect(), kept: Vec::new() }].into_iter());
        let next = sending.next_sweep().expect("half of the lane is free");
        assert_eq!(next, Sweep::Lane { lane: Lane::Event("Test:Slow".into()), after: window });
        let before = sending.in_flight.len();
        sending.send(rows("Test:Slow", window + 21..window + 31), Age::Fresh).await;
        assert_eq!(sending.in_flight.len(), before + 1, "fresh ones leave the other half to those left behind");
    }

    #[tokio::test]
    async fn given_a_bus_that_takes_fresh_messages_itself_when_there_are_many_then_they_keep_nothing_from_being_sent() {
        let window = WINDOW as OutboxId;
        let mut sending = sending(Short);
        sending.send(rows("Test:Fresh", 1..window + 11), Age::Fresh).await;
        assert_eq!(sending.in_flight.len(), WINDOW + 10, "its endpoints bound what it takes");
        sending.send(rows("Test:Found", window + 11..2 * window + 11), Age::Found).await;
        assert_eq!(sending.in_flight.len(), 2 * WINDOW + 10);
        sending.settled([Settled { gone: (1..2 * window + 11).collect(), kept: Vec::new() }].into_iter());
        assert!(sending.in_flight.is_empty() && sending.lanes.is_empty(), "both are counted out");
    }
}
