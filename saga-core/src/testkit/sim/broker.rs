//! The shared broker: what is published, confirmed, delivered, acknowledged, and forgotten in a crash.

mod queues;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::bus::{Delivery, Endpoint, Receipt};
use crate::commit::{OutboxId, OutboxRow};
use crate::testkit::sim::bus::Link;
use crate::testkit::sim::database::Database;
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::options::Protection;
use crate::testkit::sim::world::World;
use queues::{Pushed, Queues};

/// What all hosts share.
pub(super) struct Broker {
    pub(super) world: Arc<World>,
    database: Arc<Database>,
    queues: Mutex<Queues>,
}

/// What became of a message that was published.
pub(super) enum Published {
    /// It is in the queues. It will outlive a crash when it is made durable.
    Stored(Stored),
    /// It has no place.
    Unroutable(String),
    /// It was not taken.
    Nacked,
    /// It never arrived.
    Lost,
}

/// A message that is in the queues.
pub(super) struct Stored {
    row: OutboxId,
    copies: Vec<u64>,
    /// How often the broker had crashed before.
    crashes: u64,
}

/// An endpoint of a host, and where its messages come out.
pub(super) type Registered = (Endpoint, mpsc::UnboundedSender<Delivery>);

impl Broker {
    pub(super) fn new(world: &Arc<World>, database: &Arc<Database>) -> Arc<Self> {
        let queues = Mutex::new(Queues::new(world));
        Arc::new(Self { world: world.clone(), database: database.clone(), queues })
    }

    /// Declares the endpoints and begins to deliver; `None`: the broker is down.
    pub(super) fn connect(self: &Arc<Self>, link: &Arc<Link>, epoch: u64, endpoints: &[Registered]) -> Option<u64> {
        let connection = self.queues().connect(link, epoch, endpoints)?;
        self.deliver();
        Some(connection)
    }

    /// Takes a message that was published over a connection.
    pub(super) fn publish(self: &Arc<Self>, connection: u64, id: OutboxId, row: &OutboxRow) -> Published {
        self.database.arrived(id, row);
        let mut queues = self.queues();
        // What was under way when the connection was cut may still have come through.
        let open = queues.is_open(connection);
        if queues.down || (!open && !queues.random.happens(500)) {
            self.world.count(Fault::PublishLost);
            return Published::Lost;
        }
        let targets = match queues.targets(row) {
            Ok(targets) => targets,
            Err(reason) => {
                drop(queues);
                self.database.unroutable(id, row);
                return Published::Unroutable(reason);
            }
        };
        let rates = self.world.options.rates;
        if open && queues.random.happens(self.world.rate(rates.nack)) {
            self.world.count(Fault::Nack);
            return Published::Nacked;
        }
        let mut copies = Vec::new();
        for target in targets {
            copies.push(queues.put(&target, row));
            if queues.random.happens(self.world.rate(rates.duplicate)) {
                self.world.count(Fault::Duplicate);
                copies.push(queues.put(&target, row));
            }
        }
        let crashes = queues.crashes;
        drop(queues);
        self.world.note("broker", "stored", Some(&row.envelope), || format!("row {id}, {} copies", copies.len()));
        self.deliver();
        Published::Stored(Stored { row: id, copies, crashes })
    }

    /// The message outlives a crash from now on; `false`: the broker has crashed before.
    pub(super) fn make_durable(&self, stored: &Stored) -> bool {
        let mut queues = self.queues();
        let in_time = queues.crashes == stored.crashes;
        if in_time {
            queues.make_durable(&stored.copies);
            drop(queues);
            self.database.stored(stored.row);
        }
        in_time
    }

    /// What the tags say is handled.
    pub(super) fn acknowledge(self: &Arc<Self>, connection: u64, tags: &[u64]) {
        let mut queues = self.queues();
        if !queues.is_open(connection) {
            self.world.count(Fault::VoidReceipt);
            return;
        }
        tags.iter().for_each(|tag| queues.acknowledge(connection, *tag));
        drop(queues);
        self.deliver();
    }

    /// From now on nothing passes over the connection; neither side knows it yet.
    pub(super) fn cut(&self, connection: u64) {
        self.queues().cut(connection);
    }

    pub(super) fn is_open(&self, connection: u64) -> bool {
        self.queues().is_open(connection)
    }

    /// The broker knows that a connection is gone: what was not acknowledged is delivered again, to whomever.
    pub(super) fn close(self: &Arc<Self>, connection: u64) {
        self.queues().close(connection);
        self.deliver();
    }

    /// The broker is killed: it forgets about half of what it has not confirmed, and whom it was connected with.
    pub(super) fn crash(&self) {
        let (links, forgotten) = self.queues().crash();
        (0..forgotten).for_each(|_| self.world.count(Fault::Forgotten));
        for (connection, link) in links {
            link.lose_soon(connection);
        }
    }

    /// The broker is started again.
    pub(super) fn start(&self) {
        self.queues().down = false;
    }

    pub(super) fn block(&self, blocked: bool) {
        self.queues().blocked = blocked;
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.queues().blocked
    }

    /// How many messages there are, delivered or not, at each endpoint that has some.
    pub(super) fn left(&self) -> Vec<(String, usize)> {
        self.queues().left()
    }

    /// Forgets everybody, so that a simulation that has ended is freed.
    pub(super) fn leave(&self) {
        self.queues().leave();
    }

    /// Delivers whatever can be delivered; each delivery takes its time.
    fn deliver(self: &Arc<Self>) {
        let pushed = self.queues().push(&self.world);
        for Pushed { connection, tag, after } in pushed {
            let broker = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                broker.hand_over(connection, tag);
            });
        }
    }

    fn hand_over(self: &Arc<Self>, connection: u64, tag: u64) {
        let mut queues = self.queues();
        let Some((link, delivery, sender)) = queues.delivery(connection, tag) else { return };
        let Delivery { envelope, receipt: Receipt { .. }, redelivered } = &delivery;
        self.world.note(link.place(), "delivered", Some(envelope), || match redelivered {
            0 => String::new(),
            times => format!("again, {times} times before"),
        });
        if self.world.lacks(Protection::AcknowledgeAfterCommit) {
            queues.acknowledge(connection, tag);
        }
        // A host that has ended takes nothing; its connection is closed soon.
        let _ = sender.send(delivery);
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
