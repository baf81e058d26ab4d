//! Deterministic simulation: the production runtime on several hosts, a database and a broker that fail, and one seed that
//! decides everything.
//!
//! ```
//! use async_trait::async_trait;
//! use saga_core::testkit::sim::{Scenario, Sim, SimHost, SimOptions, simulate};
//! use saga_core::{Envelope, Machine, RuntimeBuilder};
//! # use saga_core::{Correlation, Effects, Message, Rule, Saga, events, ignore, states};
//! # use serde::{Deserialize, Serialize};
//! # use uuid::Uuid;
//! # #[derive(Serialize, Deserialize)] struct Sent { parcel: Uuid }
//! # impl Message for Sent { const NAME: &'static str = "Parcels:Sent"; }
//! # #[derive(Serialize, Deserialize)] struct Arrived { parcel: Uuid }
//! # impl Message for Arrived { const NAME: &'static str = "Parcels:Arrived"; }
//! # states! { enum ParcelState { New, Travelling, There } }
//! # events! { enum ParcelEvent { Sent, Arrived } }
//! # #[derive(Default, Clone, Serialize, Deserialize)] struct Parcel;
//! # impl Saga for Parcel {
//! #     const NAME: &'static str = "parcel";
//! #     const ENDPOINT: &'static str = "parcel-saga";
//! #     type State = ParcelState;
//! #     type Event = ParcelEvent;
//! #     type Row = ();
//! #     fn correlate(event: ParcelEvent) -> Correlation {
//! #         match event { ParcelEvent::Sent(on) => on.by(|it| it.parcel), ParcelEvent::Arrived(on) => on.by(|it| it.parcel) }
//! #     }
//! #     fn table(state: ParcelState, event: ParcelEvent) -> Rule<Self> {
//! #         use {ParcelEvent::*, ParcelState::*};
//! #         match (state, event) {
//! #             (New, Sent(on)) => on.to(Travelling, |_, it, _| Effects::none().publish(arrived(it.parcel))),
//! #             (Travelling, Arrived(on)) => on.to(There, |_, _, _| Effects::none()),
//! #             (New | There, Arrived(_)) | (Travelling | There, Sent(_)) => ignore(),
//! #         }
//! #     }
//! # }
//! # fn arrived(parcel: Uuid) -> Arrived { Arrived { parcel } }
//! const PARCEL: Uuid = Uuid::from_u128(7);
//!
//! struct Parcels;
//!
//! #[async_trait]
//! impl Scenario for Parcels {
//!     fn host(&self, _: &SimHost, runtime: RuntimeBuilder) -> RuntimeBuilder {
//!         runtime.saga::<Parcel>()
//!     }
//!     async fn outside(&self, sim: Sim) {
//!         let mut random = sim.random("user");
//!         sim.submit::<Parcel>(&mut random, |_| Envelope::new(PARCEL, &Sent { parcel: PARCEL })).await;
//!     }
//!     async fn over(&self, sim: &Sim) -> Result<(), String> {
//!         let state = sim.history::<Parcel>(PARCEL).await.0.map(|it| it.state);
//!         if state.as_deref() == Some("There") { Ok(()) } else { Err(format!("the parcel is {state:?}")) }
//!     }
//!     async fn judge(&self, sim: &Sim) -> Vec<String> {
//!         sim.check(&Machine::<Parcel>::new(), PARCEL).await
//!     }
//! }
//!
//! for seed in 1..=20 {
//!     let report = simulate(SimOptions::of(seed), false, Parcels);
//!     assert!(report.is_sound(), "{report}");
//! }
//! ```
//!
//! [`simulate_many`] tries seeds by the thousand on all cores, and tells what came of those that failed, with their traces.

mod broker;
mod bus;
mod cluster;
mod database;
mod disasters;
mod fault;
mod host;
mod ledger;
mod many;
mod options;
mod random;
mod scenario;
mod store;
mod trace;
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use cluster::Cluster;
use database::Database;
use world::World;

use crate::store::{Backlog, DeadLetterPage, MemoryStore, Store};

pub use fault::{Fault, Faults};
pub use many::{Summary, simulate_many};
pub use options::{Disaster, Protection, Rates, SimOptions};
pub use random::Random;
pub use scenario::{Scenario, Sim, SimHost};

/// How often it is looked whether everything is over.
const LOOK: Duration = Duration::from_secs(1);
/// How long everything must stay over: what is still under way must change nothing.
const REST: Duration = Duration::from_secs(30);

/// So many outbox rows that are left are told of.
const TOLD: usize = 5;

/// What came of one simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct SimReport {
    /// How it was set up.
    pub options: SimOptions,
    /// What went wrong on purpose.
    pub faults: Faults,
    /// What must not have happened; nothing, if all is well.
    pub violations: Vec<String>,
    /// How much time has passed in it.
    pub simulated: Duration,
    /// How many calls of ports were made.
    pub steps: u64,
    /// What happened, as a table; empty, if it was not traced.
    pub trace: String,
}

/// Simulates a scenario: a phase in which everything may go wrong and nothing wrong may come of it, then a phase in which
/// nothing goes wrong any more and everything must come to its end.
///
/// The loops of the runtime, the inbox, the outbox, the relay, the timers are those of production. One thread, one
/// seed: the same options give the same trace, byte for byte.
///
/// # Panics
/// When the scenario's hosts can not be built.
pub fn simulate<S: Scenario>(options: SimOptions, traced: bool, scenario: S) -> SimReport {
    let executor = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let executor = executor.unwrap_or_else(|error| panic!("no executor: {error}"));
    executor.block_on(async {
        let world = World::new(options, traced);
        let scenario = Arc::new(scenario);
        let database = Database::new(&world, scenario.database(MemoryStore::builder()).build());
        let broker = Broker::new(&world, &database);
        let cluster = Cluster::new(&world, &database, &broker);
        let sim = Sim { cluster: cluster.clone() };
        tokio::select! {
            biased;
            () = world.circling.notified() => world.violated("something goes round in a circle".to_owned()),
            () = phases(&sim, &scenario) => {}
        }
        cluster.leave();
        SimReport {
            options: world.options.clone(),
            faults: world.faults(),
            violations: world.violations(),
            simulated: world.elapsed(),
            steps: world.steps(),
            trace: world.trace(),
        }
    })
}

async fn phases<S: Scenario>(sim: &Sim, scenario: &Arc<S>) {
    let (cluster, world) = (&sim.cluster, &sim.cluster.world);
    cluster.start(scenario);
    let (outside, whole) = (scenario.clone(), sim.clone());
    let outside = tokio::spawn(async move { outside.outside(whole).await });
    tokio::spawn(disasters::strike(cluster.clone()));
    tokio::time::sleep(world.options.safety).await;
    cluster.heal();
    let over = async {
        if let Err(error) = outside.await {
            world.violated(format!("what goes on outside did not end: {error}"));
        }
        // A host that was cut off may still leave, late, a retry of what another has handled since; by a clock that was
        // ahead it is due within the hour. So the rest may be broken, and must come again.
        loop {
            while left(sim, scenario).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(REST).await;
            if left(sim, scenario).await.is_ok() {
                return;
            }
        }
    };
    if tokio::time::timeout(world.options.liveness, over).await.is_err() {
        let left = left(sim, scenario).await.err().unwrap_or_else(|| "what goes on outside".to_owned());
        world.violated(format!("not over after {:?}: {left}", world.options.liveness));
    }
    for envelope in cluster.database.ledger().never_sent() {
        world.violated(format!("{} {} was committed and never sent", envelope.name(), envelope.message_id));
    }
    for row in sim.tables().dead_letters(&DeadLetterPage { before: None, limit: usize::MAX }).await.unwrap_or_default()
    {
        if !scenario.expects(&row) {
            let (name, id, endpoint) = (row.envelope.name(), row.envelope.message_id, &row.endpoint);
            world.violated(format!("{name} {id} is a dead letter of {endpoint}: {}", row.error));
        }
    }
    for text in scenario.judge(sim).await {
        world.violated(text);
    }
}

/// Whether everything is over; if not, what is left.
async fn left<S: Scenario>(sim: &Sim, scenario: &Arc<S>) -> Result<(), String> {
    sim.rests().await?;
    scenario.over(sim).await
}

impl Sim {
    /// Whether nothing is under way: no outbox row, no timer, no message at the broker; if not, what is.
    ///
    /// # Errors
    /// What is under way, for people.
    pub async fn rests(&self) -> Result<(), String> {
        let tables = self.tables();
        let Backlog { outbox, timers, .. } = tables.backlog().await.map_err(|error| error.to_string())?;
        let queues = self.cluster.broker.left();
        if outbox + timers == 0 && queues.is_empty() {
            return Ok(());
        }
        let rows = tables.outbox(0, TOLD).await.map_err(|error| error.to_string())?.rows;
        let rows: Vec<_> = rows.iter().map(|(id, row)| format!("{id} {}", row.envelope.name())).collect();
        Err(format!("{outbox} outbox rows {rows:?}, {timers} timers, and at the broker {queues:?}"))
    }
}

impl SimReport {
    /// Whether all is well.
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for SimReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.options)?;
        writeln!(f, "simulated    {:?}, {} steps, {} faults", self.simulated, self.steps, self.faults.total())?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION    {violation}")?;
        }
        write!(f, "{}{}", self.faults, self.trace)
    }
}
