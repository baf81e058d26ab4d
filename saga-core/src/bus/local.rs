//! The short way: a command from an endpoint of this process to another one, past the broker.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::bus::{Confirm, Delivery, Endpoint, Receipt, SendError};
use crate::commit::{OutboxId, OutboxRow};

/// No connection has this number: what comes the short way is told by it from what a broker delivers.
const EPOCH: u64 = u64::MAX;

/// Hands fresh commands to the endpoints of this process, and confirms each when it is acknowledged: until then its outbox
/// row is the queue, and after a crash it is sent over the broker, by whoever sweeps it.
///
/// An endpoint takes as many as its [`prefetch`](Endpoint::prefetch) says. What has no room goes to the broker, where other
/// hosts find it; so does what is published, what is for an endpoint in shards, and what its endpoint does not handle.
#[derive(Default)]
pub(crate) struct Local(Mutex<State>);

#[derive(Default)]
struct State {
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    confirms: Option<mpsc::UnboundedSender<Confirm>>,
    last_tag: u64,
    /// Delivered and not acknowledged: the row, and its place.
    in_hand: HashMap<u64, (OutboxId, usize)>,
}

/// An endpoint that may be reached.
struct Place {
    handles: Vec<&'static str>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    room: usize,
}

impl Local {
    /// Opens the way to those endpoints whose messages this process takes, each with where it takes them.
    pub(crate) fn open<'a>(
        &self,
        endpoints: impl Iterator<Item = (&'a Endpoint, &'a mpsc::UnboundedSender<Delivery>)>,
        confirms: &mpsc::UnboundedSender<Confirm>,
    ) {
        let mut state = self.state();
        state.confirms = Some(confirms.clone());
        // The instance of a message in a shard may be in hand at another host, and one endpoint's channel is no queue.
        let is_whole = |it: &Endpoint| it.shard.as_ref().is_none_or(|shard| shard.of == 1);
        for (endpoint, deliveries) in endpoints.filter(|(it, _)| it.consumed && !it.temporary && is_whole(it)) {
            let index = state.places.len();
            state.by_name.insert(endpoint.name.to_string(), index);
            let (handles, room) = (endpoint.handles.clone(), endpoint.prefetch);
            state.places.push(Place { handles, deliveries: deliveries.clone(), room });
        }
    }

    /// Delivers what can go the short way, and gives back the rest.
    pub(crate) fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) -> Vec<(OutboxId, OutboxRow)> {
        let mut state = self.state();
        if state.places.is_empty() {
            return rows;
        }
        let all = rows.len();
        let rest: Vec<_> = rows.into_iter().filter_map(|(id, row)| state.deliver(id, row)).collect();
        metrics::counter!("saga_bus_local_total").increment((all - rest.len()) as u64);
        rest
    }

    /// Whether a delivery came this way.
    pub(crate) fn has_given(receipt: &Receipt) -> bool {
        receipt.epoch == EPOCH
    }

    /// These deliveries are handled; those of a broker are passed over.
    pub(crate) fn acknowledge(&self, receipts: &[Receipt]) {
        let mut state = None;
        for receipt in receipts.iter().filter(|it| Self::has_given(it)) {
            let state = state.get_or_insert_with(|| self.state());
            if let Some((id, place)) = state.in_hand.remove(&receipt.tag) {
                state.places[place].room += 1;
                state.confirm(id, Ok(()));
            }
        }
    }

    /// No more goes this way. What is in hand is not confirmed: its rows stay in the outbox, if nobody acknowledges them.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        for (_, (id, _)) in std::mem::take(&mut state.in_hand) {
            state.confirm(id, Err(SendError::Unavailable("the bus is closed".to_owned())));
        }
        // The endpoints' channels end with the last who may deliver.
        *state = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// `Some`: it does not go this way.
    fn deliver(&mut self, id: OutboxId, row: OutboxRow) -> Option<(OutboxId, OutboxRow)> {
        let name = row.destination.as_deref();
        let Some(index) = name.and_then(|name| self.by_name.get(name).copied()) else { return Some((id, row)) };
        let place = &mut self.places[index];
        if place.room == 0 || !place.handles.contains(&row.envelope.name()) {
            return Some((id, row));
        }
        let receipt = Receipt { epoch: EPOCH, tag: self.last_tag + 1 };
        if place.deliveries.send(Delivery { envelope: row.envelope.clone(), receipt, redelivered: 0 }).is_err() {
            // It takes no more, and others may.
            return Some((id, row));
        }
        place.room -= 1;
        self.last_tag = receipt.tag;
        self.in_hand.insert(receipt.tag, (id, index));
        None
    }

    fn confirm(&self, id: OutboxId, result: Result<(), SendError>) {
        if let Some(confirms) = &self.confirms {
            // Nobody listens any more when the runtime has stopped; the row stays in the outbox.
            let _ = confirms.send(Confirm { id, result });
        }
    }
}
