//! The embedded bus: endpoints of this process, durable through the outbox.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::bus::{Bus, BusError, Confirm, Delivery, Endpoint, Receipt, SendError, Shard};
use crate::commit::{OutboxId, OutboxRow};
use crate::message::Envelope;

/// Carries messages between the endpoints of one process.
///
/// It keeps nothing itself: a message is confirmed only when every endpoint that it went to has acknowledged it, so
/// until then its outbox row stands, and after a crash it is sent again. The relay's window bounds what is in memory;
/// an endpoint's own [`prefetch`](Endpoint::prefetch) is not looked at.
#[derive(Default)]
pub struct EmbeddedBus(Mutex<State>);

#[derive(Default)]
struct State {
    endpoints: Vec<Inbox>,
    /// Name → the endpoint, or the first of its shards, which stand behind it.
    by_name: HashMap<String, usize>,
    by_type: HashMap<&'static str, Vec<usize>>,
    confirms: Option<mpsc::UnboundedSender<Confirm>>,
    last_tag: u64,
    /// Tag → the message that it delivers.
    delivered: HashMap<u64, OutboxId>,
    /// Message → how many endpoints have not acknowledged it yet.
    pending: HashMap<OutboxId, usize>,
}

/// An endpoint, or a shard of one.
struct Inbox {
    name: String,
    deliveries: mpsc::UnboundedSender<Delivery>,
    shard: Option<Shard>,
}

/// The bus lives as long as its process, so there is only one connection to tell apart.
const EPOCH: u64 = 1;

impl EmbeddedBus {
    /// A bus without endpoints; the runtime declares them.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, id: OutboxId, row: OutboxRow) {
        let targets = match &row.destination {
            Some(name) => match self.by_name.get(&**name) {
                Some(endpoint) => vec![self.place(*endpoint, &row.envelope)],
                None => return self.confirm(id, Err(self.no_endpoint(name))),
            },
            None => self.subscribers(&row),
        };
        if targets.is_empty() {
            return self.confirm(id, Ok(()));
        }
        self.pending.insert(id, targets.len());
        for endpoint in targets {
            self.last_tag += 1;
            self.delivered.insert(self.last_tag, id);
            let receipt = Receipt { epoch: EPOCH, tag: self.last_tag };
            // An endpoint that takes no more is shutting down: the row stays in the outbox for the next start.
            let _ = self.endpoints[endpoint].deliveries.send(Delivery {
                envelope: row.envelope.clone(),
                receipt,
                redelivered: 0,
            });
        }
    }

    fn subscribers(&self, row: &OutboxRow) -> Vec<usize> {
        let mut targets = Vec::new();
        for name in &row.envelope.message_type {
            for endpoint in self.by_type.get(&**name).into_iter().flatten() {
                let endpoint = self.place(*endpoint, &row.envelope);
                if !targets.contains(&endpoint) {
                    targets.push(endpoint);
                }
            }
        }
        targets
    }

    /// The endpoint, or which of its shards a message belongs to.
    fn place(&self, endpoint: usize, envelope: &Envelope) -> usize {
        endpoint + self.endpoints[endpoint].shard.as_ref().map_or(0, |it| it.place(envelope))
    }

    fn no_endpoint(&self, name: &str) -> SendError {
        let mut known: Vec<_> = self.endpoints.iter().map(|it| it.name.as_str()).collect();
        known.dedup();
        SendError::Unroutable(format!("there is no endpoint {name}; this process has {}", known.join(", ")))
    }

    fn confirm(&self, id: OutboxId, result: Result<(), SendError>) {
        if let Some(confirms) = &self.confirms {
            // Nobody listens any more when the runtime has stopped; the row stays in the outbox.
            let _ = confirms.send(Confirm { id, result });
        }
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
        let mut state = self.state();
        if state.confirms.is_some() {
            return Err(BusError::Topology("this embedded bus was started before; each runtime needs its own".into()));
        }
        let mut receivers = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (name, shard) = (endpoint.name.to_string(), endpoint.shard.clone());
            if shard.as_ref().is_none_or(|it| it.index == 0) {
                state.by_name.insert(name.clone(), index);
                for name in &endpoint.subscriptions {
                    state.by_type.entry(name).or_default().push(index);
                }
            }
            state.endpoints.push(Inbox { name, deliveries: sender, shard });
            receivers.push(receiver);
        }
        state.confirms = Some(confirms);
        Ok(receivers)
    }

    async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) {
        let mut state = self.state();
        for (id, row) in rows {
            state.send(id, row);
        }
    }

    fn acknowledge(&self, receipts: &[Receipt]) {
        let mut state = self.state();
        for receipt in receipts {
            let known = if receipt.epoch == EPOCH { state.delivered.remove(&receipt.tag) } else { None };
            let Some(id) = known else { continue };
            let left = state.pending.get(&id).map_or(0, |left| left - 1);
            if left == 0 {
                state.pending.remove(&id);
                state.confirm(id, Ok(()));
            } else {
                state.pending.insert(id, left);
            }
        }
    }

    fn health(&self) -> Result<(), String> {
        match &self.state().confirms {
            Some(confirms) if confirms.is_closed() => Err("the runtime of this bus has stopped".to_owned()),
            Some(_) => Ok(()),
            None => Err("the bus is not started".to_owned()),
        }
    }
}
