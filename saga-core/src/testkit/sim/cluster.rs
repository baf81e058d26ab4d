//! The hosts: each is started, runs the production runtime, ends or is killed, and is started again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::bus::Bus;
use crate::clock::Clock;
use crate::runtime::{Client, Runtime, RuntimeError};
use crate::store::Store;
use crate::testkit::sim::broker::Broker;
use crate::testkit::sim::bus::{Link, SimBus};
use crate::testkit::sim::database::Database;
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::host::{Life, Machine, SimClock};
use crate::testkit::sim::random::Random;
use crate::testkit::sim::scenario::{Scenario, SimHost};
use crate::testkit::sim::store::SimStore;
use crate::testkit::sim::world::World;

/// All hosts, and what they share.
pub(super) struct Cluster {
    pub(super) world: Arc<World>,
    pub(super) database: Arc<Database>,
    pub(super) broker: Arc<Broker>,
    machines: Vec<Arc<Machine>>,
    /// What runs now, host by host.
    running: Mutex<Vec<Option<Running>>>,
}

/// A host that runs.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) life: Arc<Life>,
    pub(super) link: Arc<Link>,
    pub(super) client: Client,
    stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Running {
    /// Asks it to stop; `false`: it was asked before.
    pub(super) fn stop(&self) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It may have ended at this moment.
        stop.is_some_and(|stop| stop.send(()).is_ok())
    }
}

impl Cluster {
    pub(super) fn new(world: &Arc<World>, database: &Arc<Database>, broker: &Arc<Broker>) -> Arc<Self> {
        let hosts = world.options.hosts.len();
        Arc::new(Self {
            world: world.clone(),
            database: database.clone(),
            broker: broker.clone(),
            machines: (0..hosts).map(|index| Arc::new(Machine { index, skew: 0.into() })).collect(),
            running: Mutex::new(vec![None; hosts]),
        })
    }

    /// Starts every host, again and again, for as long as the simulation goes on.
    pub(super) fn start<S: Scenario>(self: &Arc<Self>, scenario: &Arc<S>) {
        for machine in &self.machines {
            let (cluster, scenario, machine) = (self.clone(), scenario.clone(), machine.clone());
            tokio::spawn(async move {
                let mut random = Random::new(cluster.world.options.seed, &format!("h{}/starts", machine.index));
                for number in 1.. {
                    cluster.live(&scenario, &machine, number, &mut random).await;
                    let down = if cluster.world.calm() { 100..=500 } else { 100..=20_000 };
                    tokio::time::sleep(random.millis(down)).await;
                }
            });
        }
    }

    /// One life of a host.
    async fn live<S: Scenario>(
        self: &Arc<Self>,
        scenario: &Arc<S>,
        machine: &Arc<Machine>,
        number: u32,
        random: &mut Random,
    ) {
        let world = &self.world;
        let life = Life::new(world, machine, number);
        let (store, link) = (Arc::new(SimStore::new(&self.database, &life)), Link::new(&self.broker, &life));
        let builder = Runtime::builder(store.clone() as Arc<dyn Store>, Arc::new(SimBus(link.clone())) as Arc<dyn Bus>);
        let clock: Arc<dyn Clock> = Arc::new(SimClock(life.clone()));
        let builder = builder.clock(clock.clone()).probe(life.clone()).host(life.id);
        let host = SimHost { life: life.clone(), clock, store };
        let builder = scenario.host(&host, builder.roles(world.options.hosts[machine.index]));
        let runtime = builder.build().unwrap_or_else(|error| panic!("the scenario's hosts can not start: {error}"));
        let (client, (stop, stopped)) = (runtime.client(), oneshot::channel());
        let running = Running { life: life.clone(), link, client, stop: Arc::new(Mutex::new(Some(stop))) };
        world.note(&life.name, "started", None, String::new);
        let mut tasks = JoinSet::new();
        let (beside, client) = (scenario.clone(), running.client.clone());
        tasks.spawn(async move {
            beside.beside(host, client).await;
            std::future::pending().await
        });
        tasks.spawn(runtime.run(async move {
            // The sender is kept for as long as the host runs.
            let _ = stopped.await;
        }));
        self.running()[machine.index] = Some(running.clone());
        tokio::select! {
            biased;
            () = life.killed.notified() => {}
            Some(ended) = tasks.join_next() => self.ended(&life, ended),
        }
        self.running()[machine.index] = None;
        life.end();
        // Of a killed process the broker learns at once; of a machine without power it does not.
        let noticed = if random.happens(300) { random.millis(3_000..=9_000) } else { random.millis(0..=50) };
        running.link.cut(Duration::ZERO, noticed);
        tasks.shutdown().await;
    }

    /// A runtime that ended by itself.
    fn ended(&self, life: &Life, ended: Result<Result<(), RuntimeError>, tokio::task::JoinError>) {
        self.world.note(&life.name, "ended", None, || format!("{ended:?}"));
        match ended {
            Ok(Ok(())) => self.world.count(Fault::Restart),
            // It is started again until the broker can be reached.
            Ok(Err(RuntimeError::Bus(_))) => {}
            Ok(Err(error)) => self.world.violated(format!("{} ended: {error}", life.name)),
            Err(error) => self.world.violated(format!("{} ended: {error}", life.name)),
        }
    }

    /// What runs now.
    pub(super) fn up(&self) -> Vec<Running> {
        self.running().iter().flatten().cloned().collect()
    }

    pub(super) fn set_clock(&self, host: usize, micros: i64) {
        self.machines[host].skew.store(micros, Ordering::Relaxed);
        self.world.note(&format!("h{host}"), "clock set", None, || format!("{:+.3} s", micros as f64 / 1e6));
    }

    /// Ends everything that goes wrong.
    pub(super) fn heal(&self) {
        self.world.calm_down();
        self.database.spare();
        self.broker.start();
        self.broker.block(false);
        self.up().iter().for_each(|it| it.life.spare());
        (0..self.machines.len()).for_each(|host| self.set_clock(host, 0));
    }

    /// Lets go of everything, so that a simulation that has ended is freed.
    pub(super) fn leave(&self) {
        self.running().clear();
        self.database.leave();
        self.broker.leave();
    }

    fn running(&self) -> MutexGuard<'_, Vec<Option<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
