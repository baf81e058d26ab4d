//! The short way: a message to an endpoint of this process, past the broker.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge};
use tokio::sync::mpsc;

use crate::bus::{Confirm, Delivery, Endpoint, Receipt, SendError};
use crate::commit::{OutboxId, OutboxRow};

/// No connection has this number: what comes the short way is told by it from what a broker delivers.
const EPOCH: u64 = u64::MAX;

/// Hands what was committed just now to the endpoints of this process, and confirms each message when it is acknowledged:
/// until then its outbox row is the queue, and after a crash it is sent over the broker, by whoever sweeps it.
///
/// An endpoint takes as many as it takes from the broker. What has no room goes to the broker, where other hosts find it; so
/// does what is published, what is for an endpoint in shards, and what its endpoint does not handle.
#[derive(Default)]
pub(crate) struct Local(Mutex<State>);

#[derive(Default)]
struct State {
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    confirms: Option<mpsc::UnboundedSender<Confirm>>,
    /// Delivered and not acknowledged, each with its place. A row's id is its delivery's tag.
    in_hand: HashMap<OutboxId, usize>,
}

/// An endpoint that may be reached.
struct Place {
    handles: Vec<&'static str>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    room: usize,
    handed_over: Counter,
    in_hand: Gauge,
}

impl Local {
    /// Opens the way to those endpoints whose messages this process takes: each with how many it takes, and where.
    pub(crate) fn open<'a>(
        &self,
        endpoints: impl Iterator<Item = (&'a Endpoint, usize, &'a mpsc::UnboundedSender<Delivery>)>,
        confirms: &mpsc::UnboundedSender<Confirm>,
    ) {
        let mut state = self.state();
        state.confirms = Some(confirms.clone());
        // The instance of a message in a shard may be in hand at another host.
        let is_whole = |it: &Endpoint| it.shard.as_ref().is_none_or(|shard| shard.of == 1);
        for (endpoint, room, deliveries) in endpoints.filter(|(it, ..)| it.consumed && !it.temporary && is_whole(it)) {
            let (index, name) = (state.places.len(), endpoint.name.to_string());
            state.by_name.insert(name.clone(), index);
            state.places.push(Place {
                handles: endpoint.handles.clone(),
                deliveries: deliveries.clone(),
                room,
                handed_over: metrics::counter!("saga_bus_local_total", "endpoint" => name.clone()),
                in_hand: metrics::gauge!("saga_bus_local_in_hand", "endpoint" => name),
            });
        }
    }

    /// Delivers a message, if it can go the short way.
    pub(crate) fn deliver(&self, id: OutboxId, row: &OutboxRow) -> bool {
        let Some(name) = row.destination.as_deref() else { return false };
        let mut state = self.state();
        let Some(index) = state.by_name.get(name).copied() else { return false };
        let is_in_hand = state.in_hand.contains_key(&id);
        let place = &mut state.places[index];
        if is_in_hand || place.room == 0 || !place.handles.contains(&row.envelope.name()) {
            return false;
        }
        let receipt = Receipt { epoch: EPOCH, tag: id.cast_unsigned() };
        if place.deliveries.send(Delivery { envelope: row.envelope.clone(), receipt, redelivered: 0 }).is_err() {
            // It takes no more, and others may.
            return false;
        }
        place.room -= 1;
        place.handed_over.increment(1);
        place.in_hand.increment(1);
        state.in_hand.insert(id, index);
        true
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
            let id = receipt.tag.cast_signed();
            if let Some(place) = state.in_hand.remove(&id) {
                let place = &mut state.places[place];
                place.room += 1;
                place.in_hand.decrement(1);
                state.confirm(id, Ok(()));
            }
        }
    }

    /// No more goes this way. What is in hand is not confirmed: its rows stay in the outbox, if nobody acknowledges them.
    #[cfg(feature = "rabbitmq")]
    pub(crate) fn close(&self) {
        // The endpoints' channels end with the last who may deliver.
        let state = std::mem::take(&mut *self.state());
        for (id, place) in &state.in_hand {
            state.places[*place].in_hand.decrement(1);
            state.confirm(*id, Err(SendError::Unavailable("the bus is closed".to_owned())));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn confirm(&self, id: OutboxId, result: Result<(), SendError>) {
        if let Some(confirms) = &self.confirms {
            // Nobody listens any more when the runtime has stopped; the row stays in the outbox.
            let _ = confirms.send(Confirm { id, result });
        }
    }
}
