//! A host's way to the shared broker: a connection that is lost and made again, publishes, confirms and receipts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::bus::{Bus, BusError, Confirm, Delivery, Endpoint, Local, Receipt, SendError};
use crate::commit::{OutboxId, OutboxRow};
use crate::testkit::sim::broker::{Broker, Published, Registered};
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::host::Life;
use crate::testkit::sim::options::Protection;
use crate::testkit::sim::random::Random;

/// A confirm that has not come for so long does not come: the connection is given up.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// A host's bus.
pub(super) struct SimBus(pub(super) Arc<Link>);

/// A host's end of its connection to the broker.
pub(super) struct Link {
    broker: Arc<Broker>,
    life: Arc<Life>,
    /// The short way past the broker, which one host in two has.
    local: Option<Local>,
    state: Mutex<State>,
}

struct State {
    random: Random,
    /// Its number at the broker; `None`: there is none now.
    connection: Option<u64>,
    epoch: u64,
    endpoints: Vec<Registered>,
    confirms: Option<mpsc::UnboundedSender<Confirm>>,
    /// What was published and has no outcome yet, by the number of its publication.
    pending: BTreeMap<u64, OutboxId>,
    published: u64,
}

impl Link {
    pub(super) fn new(broker: &Arc<Broker>, life: &Arc<Life>) -> Arc<Self> {
        let state = State {
            random: Random::new(life.world.options.seed, &format!("{}/bus", life.name)),
            connection: None,
            epoch: 0,
            endpoints: Vec::new(),
            confirms: None,
            pending: BTreeMap::new(),
            published: 0,
        };
        let mut random = Random::new(life.world.options.seed, &format!("{}/local", life.name));
        let local = random.happens(500).then(Local::default);
        Arc::new(Self { broker: broker.clone(), life: life.clone(), local, state: Mutex::new(state) })
    }

    /// Where it ends, for the trace.
    pub(super) fn place(&self) -> &str {
        &self.life.name
    }

    /// The connection breaks: this side notices after `here`, the broker after `there`. `false`: there was none.
    pub(super) fn cut(self: &Arc<Self>, here: Duration, there: Duration) -> bool {
        let Some(connection) = self.state().connection else { return false };
        self.broker.cut(connection);
        self.life
            .world
            .note(&self.life.name, "cut off", None, || format!("noticed here after {here:?}, there {there:?}"));
        let link = self.clone();
        tokio::spawn(async move {
            link.life.pass(here).await;
            link.lose(connection);
        });
        let broker = self.broker.clone();
        tokio::spawn(async move {
            tokio::time::sleep(there).await;
            broker.close(connection);
        });
        true
    }

    /// The broker has closed the connection; this side notices soon.
    pub(super) fn lose_soon(self: &Arc<Self>, connection: u64) {
        let (link, after) = (self.clone(), self.state().random.millis(0..=2_000));
        tokio::spawn(async move {
            link.life.pass(after).await;
            link.lose(connection);
        });
    }

    /// The connection is gone: nobody knows what became of what is pending. Another is made as soon as possible.
    fn lose(self: &Arc<Self>, connection: u64) {
        let mut state = self.state();
        if state.connection != Some(connection) {
            return;
        }
        state.connection = None;
        for (_, id) in std::mem::take(&mut state.pending) {
            state.tell(id, Err(SendError::Unavailable("the connection was lost".to_owned())));
        }
        let pause = state.random.millis(50..=2_000);
        drop(state);
        self.life.world.note(&self.life.name, "disconnected", None, String::new);
        let link = self.clone();
        tokio::spawn(async move {
            link.life.pass(pause).await;
            while !link.connect() {
                link.life.pass(Duration::from_millis(500)).await;
            }
        });
    }

    fn connect(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        state.epoch += 1;
        let connection = self.broker.connect(self, state.epoch, &state.endpoints);
        state.connection = connection;
        drop(state);
        if connection.is_some() {
            self.life.world.note(&self.life.name, "connected", None, String::new);
        }
        connection.is_some()
    }

    /// Publishes a message: its way there, and the way of its outcome back.
    fn publish(self: &Arc<Self>, id: OutboxId, row: OutboxRow) {
        let world = &self.life.world;
        let mut state = self.state();
        let Some(connection) = state.connection else {
            return state.tell(id, Err(SendError::Unavailable("there is no connection".to_owned())));
        };
        state.published += 1;
        let number = state.published;
        state.pending.insert(number, id);
        let rates = world.options.rates;
        let is_late = state.random.happens(world.rate(rates.late_confirm));
        let is_lost = state.random.happens(world.rate(rates.lost_confirm));
        let there = state.random.millis(0..=4);
        let back = match state.random.within(0..=9) {
            _ if is_late => state.random.millis(500..=8_000),
            0..=7 => state.random.millis(0..=4),
            _ => state.random.millis(5..=150),
        };
        drop(state);
        if world.lacks(Protection::ConfirmAfterStore) {
            self.outcome(connection, number, Ok(()));
        }
        let link = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(there).await;
            if link.broker.is_blocked() {
                link.life.world.count(Fault::Blocked);
            }
            while link.broker.is_blocked() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let world = &link.life.world;
            let published = link.broker.publish(connection, id, &row);
            tokio::time::sleep(back).await;
            let outcome = match published {
                Published::Lost => return,
                Published::Nacked => Err(SendError::Unavailable("the broker did not take it".to_owned())),
                Published::Unroutable(reason) => Err(SendError::Unroutable(reason)),
                Published::Stored(stored) => {
                    if !link.broker.make_durable(&stored) {
                        return;
                    }
                    if is_late {
                        world.count(Fault::LateConfirm);
                    }
                    if is_lost {
                        world.count(Fault::LostConfirm);
                        tokio::time::sleep(CONFIRM_TIMEOUT).await;
                        link.broker.close(connection);
                        return link.lose(connection);
                    }
                    Ok(())
                }
            };
            link.outcome(connection, number, outcome);
        });
    }

    /// The outcome of a publication comes back, if its connection is still there.
    fn outcome(&self, connection: u64, number: u64, outcome: Result<(), SendError>) {
        let mut state = self.state();
        if state.connection != Some(connection) || !self.broker.is_open(connection) {
            self.life.world.count(Fault::ConfirmCutOff);
        } else if let Some(id) = state.pending.remove(&number) {
            state.tell(id, outcome);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&self, id: OutboxId, result: Result<(), SendError>) {
        if let Some(confirms) = &self.confirms {
            // Nobody listens any more when the host has ended; the row stays in the outbox.
            let _ = confirms.send(Confirm { id, result });
        }
    }
}

#[async_trait]
impl Bus for SimBus {
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
        self.0.life.gate().await;
        if endpoints.iter().any(|it| it.shard.as_ref().is_some_and(|shard| shard.of > 1)) {
            return Err(BusError::Topology("the simulated broker has no shards: leave their number at 1".to_owned()));
        }
        let (mut registered, mut receivers) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            let (sender, receiver) = mpsc::unbounded_channel();
            registered.push((endpoint.clone(), sender));
            receivers.push(receiver);
        }
        if let Some(local) = &self.0.local {
            let places = registered.iter().map(|(endpoint, sender)| (endpoint, endpoint.prefetch, sender));
            local.open(places, &confirms);
        }
        let mut state = self.0.state();
        state.endpoints = registered;
        state.confirms = Some(confirms);
        drop(state);
        match self.0.connect() {
            true => Ok(receivers),
            false => Err(BusError::Unavailable("the broker is down".to_owned())),
        }
    }

    async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) {
        self.0.life.gate().await;
        for (id, row) in rows {
            self.0.life.world.note(&self.0.life.name, "send", Some(&row.envelope), || match &row.destination {
                Some(endpoint) => format!("row {id} to {endpoint}"),
                None => format!("row {id}"),
            });
            self.0.publish(id, row);
        }
    }

    fn hand_over(&self, id: OutboxId, row: &OutboxRow) -> bool {
        let life = &self.0.life;
        let is_taken = !life.is_dead() && self.0.local.as_ref().is_some_and(|local| local.deliver(id, row));
        if is_taken {
            life.world.note(&life.name, "hand over", Some(&row.envelope), || format!("row {id}"));
        }
        is_taken
    }

    fn acknowledge(&self, receipts: &[Receipt]) {
        if self.0.life.is_dead() {
            return;
        }
        if let Some(local) = &self.0.local {
            local.acknowledge(receipts);
        }
        let receipts: Vec<_> = receipts.iter().filter(|it| !Local::has_given(it)).collect();
        if receipts.is_empty() {
            return;
        }
        let mut state = self.0.state();
        let (epoch, connection) = (state.epoch, state.connection);
        let after = state.random.millis(0..=4);
        drop(state);
        let tags: Vec<_> = receipts.iter().filter(|it| it.epoch == epoch).map(|it| it.tag).collect();
        if tags.len() < receipts.len() || connection.is_none() {
            self.0.life.world.count(Fault::VoidReceipt);
        }
        if let Some(connection) = connection {
            let broker = self.0.broker.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                broker.acknowledge(connection, &tags);
            });
        }
    }

    fn health(&self) -> Result<(), String> {
        if self.0.state().connection.is_some() { Ok(()) } else { Err("there is no connection".to_owned()) }
    }
}
