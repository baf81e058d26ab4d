//! The broker's queues and connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::bus::{Delivery, Receipt};
use crate::commit::OutboxRow;
use crate::message::Envelope;
use crate::testkit::sim::broker::Registered;
use crate::testkit::sim::bus::Link;
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::random::Random;
use crate::testkit::sim::world::World;

pub(super) struct Queues {
    pub(super) random: Random,
    pub(super) down: bool,
    pub(super) blocked: bool,
    /// How often it has crashed.
    pub(super) crashes: u64,
    queues: BTreeMap<String, Queue>,
    /// Message name → the queues that hear it.
    bindings: BTreeMap<&'static str, BTreeSet<String>>,
    connections: BTreeMap<u64, Connection>,
    last_connection: u64,
    last_copy: u64,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Copy>,
    /// The connection that it lives as long as.
    temporary: Option<u64>,
}

/// A message in a queue.
struct Copy {
    number: u64,
    envelope: Arc<Envelope>,
    redelivered: u32,
    /// It outlives a crash of the broker.
    durable: bool,
}

struct Connection {
    link: Arc<Link>,
    epoch: u64,
    /// Nothing passes any more, and the broker does not know it yet.
    cut: bool,
    consumers: BTreeMap<String, Consumer>,
    unacknowledged: BTreeMap<u64, (String, Copy)>,
    last_tag: u64,
}

struct Consumer {
    sender: mpsc::UnboundedSender<Delivery>,
    prefetch: usize,
    taken: usize,
}

/// A message that is on its way to a consumer.
pub(super) struct Pushed {
    pub(super) connection: u64,
    pub(super) tag: u64,
    pub(super) after: Duration,
}

impl Queues {
    pub(super) fn new(world: &World) -> Self {
        Self {
            random: Random::new(world.options.seed, "broker"),
            down: false,
            blocked: false,
            crashes: 0,
            queues: BTreeMap::new(),
            bindings: BTreeMap::new(),
            connections: BTreeMap::new(),
            last_connection: 0,
            last_copy: 0,
        }
    }

    pub(super) fn connect(&mut self, link: &Arc<Link>, epoch: u64, endpoints: &[Registered]) -> Option<u64> {
        if self.down {
            return None;
        }
        self.last_connection += 1;
        let number = self.last_connection;
        let mut consumers = BTreeMap::new();
        for (endpoint, sender) in endpoints {
            let name = endpoint.name.to_string();
            self.queues.entry(name.clone()).or_default().temporary = endpoint.temporary.then_some(number);
            for message in &endpoint.subscriptions {
                self.bindings.entry(message).or_default().insert(name.clone());
            }
            if endpoint.consumed {
                let consumer = Consumer { sender: sender.clone(), prefetch: endpoint.prefetch, taken: 0 };
                consumers.insert(name, consumer);
            }
        }
        let (link, unacknowledged) = (link.clone(), BTreeMap::new());
        self.connections.insert(number, Connection { link, epoch, cut: false, consumers, unacknowledged, last_tag: 0 });
        Some(number)
    }

    pub(super) fn is_open(&self, connection: u64) -> bool {
        self.connections.get(&connection).is_some_and(|it| !it.cut)
    }

    pub(super) fn cut(&mut self, connection: u64) {
        if let Some(it) = self.connections.get_mut(&connection) {
            it.cut = true;
        }
    }

    /// Where a message goes.
    pub(super) fn targets(&self, row: &OutboxRow) -> Result<Vec<String>, String> {
        match &row.destination {
            Some(name) if self.queues.contains_key(&**name) => Ok(vec![name.to_string()]),
            Some(name) => Err(format!("there is no queue {name}")),
            None => {
                let bound = row.envelope.message_type.iter().filter_map(|name| self.bindings.get(&**name));
                Ok(bound.flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect())
            }
        }
    }

    /// Puts a message into a queue; returns the copy's number.
    pub(super) fn put(&mut self, queue: &str, row: &OutboxRow) -> u64 {
        self.last_copy += 1;
        let number = self.last_copy;
        let copy = Copy { number, envelope: row.envelope.clone(), redelivered: 0, durable: false };
        self.queues.entry(queue.to_owned()).or_default().ready.push_back(copy);
        number
    }

    pub(super) fn make_durable(&mut self, copies: &[u64]) {
        let ready = self.queues.values_mut().flat_map(|queue| &mut queue.ready);
        let taken = self.connections.values_mut().flat_map(|it| it.unacknowledged.values_mut().map(|(_, copy)| copy));
        ready.chain(taken).filter(|copy| copies.contains(&copy.number)).for_each(|copy| copy.durable = true);
    }

    pub(super) fn acknowledge(&mut self, connection: u64, tag: u64) {
        let Some(it) = self.connections.get_mut(&connection) else { return };
        if let Some((queue, _)) = it.unacknowledged.remove(&tag)
            && let Some(consumer) = it.consumers.get_mut(&queue)
        {
            consumer.taken -= 1;
        }
    }

    pub(super) fn close(&mut self, connection: u64) {
        if let Some(it) = self.connections.remove(&connection) {
            for (queue, copy) in it.unacknowledged.into_values().rev() {
                self.put_back(&queue, copy);
            }
            self.queues.retain(|_, queue| queue.temporary != Some(connection));
        }
    }

    /// Returns whom it was connected with, and how many messages it has forgotten.
    pub(super) fn crash(&mut self) -> (Vec<(u64, Arc<Link>)>, usize) {
        self.down = true;
        self.crashes += 1;
        let links: Vec<_> = self.connections.iter().map(|(number, it)| (*number, it.link.clone())).collect();
        links.iter().for_each(|(number, _)| self.close(*number));
        let mut forgotten = 0;
        for queue in self.queues.values_mut() {
            let before = queue.ready.len();
            queue.ready.retain(|copy| copy.durable || self.random.happens(500));
            forgotten += before - queue.ready.len();
        }
        (links, forgotten)
    }

    /// Gives ready messages to consumers that have room.
    pub(super) fn push(&mut self, world: &World) -> Vec<Pushed> {
        let mut pushed = Vec::new();
        let (random, rates) = (&mut self.random, world.options.rates);
        for (name, queue) in &mut self.queues {
            while !queue.ready.is_empty() {
                let free = |it: &Connection| it.consumers.get(name).is_some_and(|it| it.taken < it.prefetch);
                let takers: Vec<_> = self.connections.iter().filter(|(_, it)| free(it)).map(|(n, _)| *n).collect();
                if takers.is_empty() {
                    break;
                }
                let connection = *random.pick(&takers);
                let out_of_turn = queue.ready.len() > 1 && random.happens(world.rate(rates.reorder));
                let at = if out_of_turn { random.below(queue.ready.len() - 1) + 1 } else { 0 };
                let (Some(copy), Some(it)) = (queue.ready.remove(at), self.connections.get_mut(&connection)) else {
                    break;
                };
                let is_late = random.happens(world.rate(rates.late_delivery));
                let faults = [
                    (at > 0, Fault::Reorder),
                    (copy.redelivered > 0, Fault::Redelivery),
                    (is_late, Fault::LateDelivery),
                ];
                faults.iter().filter(|(happened, _)| *happened).for_each(|(_, fault)| world.count(*fault));
                let after = if is_late { random.millis(200..=5_000) } else { random.millis(0..=4) };
                it.last_tag += 1;
                it.unacknowledged.insert(it.last_tag, (name.clone(), copy));
                if let Some(consumer) = it.consumers.get_mut(name) {
                    consumer.taken += 1;
                }
                pushed.push(Pushed { connection, tag: it.last_tag, after });
            }
        }
        pushed
    }

    /// A delivery that arrives; `None`: its connection is gone, or nothing passes over it.
    pub(super) fn delivery(
        &self,
        connection: u64,
        tag: u64,
    ) -> Option<(Arc<Link>, Delivery, mpsc::UnboundedSender<Delivery>)> {
        let it = self.connections.get(&connection).filter(|it| !it.cut)?;
        let (queue, copy) = it.unacknowledged.get(&tag)?;
        let receipt = Receipt { epoch: it.epoch, tag };
        let delivery = Delivery { envelope: copy.envelope.clone(), receipt, redelivered: copy.redelivered };
        Some((it.link.clone(), delivery, it.consumers.get(queue)?.sender.clone()))
    }

    pub(super) fn left(&self) -> Vec<(String, usize)> {
        let taken = |name: &str| {
            let of_queue = self.connections.values().flat_map(|it| it.unacknowledged.values());
            of_queue.filter(|(queue, _)| queue == name).count()
        };
        let counted = self.queues.iter().map(|(name, queue)| (name.clone(), queue.ready.len() + taken(name)));
        counted.filter(|(_, n)| *n > 0).collect()
    }

    pub(super) fn leave(&mut self) {
        self.connections.clear();
    }

    fn put_back(&mut self, queue: &str, copy: Copy) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.ready.push_front(Copy { redelivered: copy.redelivered + 1, ..copy });
        }
    }
}
