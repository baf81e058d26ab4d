//! What is simulated: the application, its users, and what must be true in the end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::commit::{DeadLetterRow, JournalRow, StoredInstance};
use crate::machine::Machine;
use crate::message::Envelope;
use crate::probe::{Point, Probe};
use crate::runtime::{Client, RuntimeBuilder, SubmitError, Submitted};
use crate::saga::Saga;
use crate::store::{MemoryStore, MemoryStoreBuilder, Store, StoreError};
use crate::testkit::sim::cluster::Cluster;
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::host::{Life, true_time};
use crate::testkit::sim::random::Random;
use crate::testkit::sim::store::SimStore;

/// An application and its surroundings, made anew for each seed. What it does by chance it takes from the seed
/// ([`Sim::random`], [`SimHost::random`]); it asks for time its host's clock or [`Sim::now`], and nothing else: no
/// `HashMap` whose order shows, no `select!` without `biased`, no time of the machine.
#[async_trait]
pub trait Scenario: Send + Sync + 'static {
    /// Registers the writers of the application's rows with the shared database.
    fn database(&self, tables: MemoryStoreBuilder) -> MemoryStoreBuilder {
        tables
    }

    /// Registers what each host runs; called whenever one starts. Clock, host id, roles and probe are set already.
    fn host(&self, host: &SimHost, runtime: RuntimeBuilder) -> RuntimeBuilder;

    /// What a host does beside its runtime, for as long as it lives: jobs.
    async fn beside(&self, host: SimHost, client: Client) {
        let _ = (host, client);
    }

    /// What goes on outside the hosts: users submit, operators redrive. It begins with the simulation; everything must
    /// be over some time after it has returned and nothing goes wrong any more.
    async fn outside(&self, sim: Sim);

    /// Whether a dead letter may be left at the end.
    fn expects(&self, dead_letter: &DeadLetterRow) -> bool {
        let _ = dead_letter;
        false
    }

    /// Whether everything is over, as far as the application knows; if not, what is missing.
    ///
    /// # Errors
    /// What is missing, for people.
    async fn over(&self, sim: &Sim) -> Result<(), String>;

    /// What is wrong in the end, each in a sentence. That nothing is left in the outbox, in the timers and at the broker,
    /// and that no message was handled twice, sent without having been committed, or committed without having been sent, is
    /// looked at by the simulation itself.
    async fn judge(&self, sim: &Sim) -> Vec<String>;
}

/// One life of a host, in the hands of the scenario.
#[derive(Clone)]
pub struct SimHost {
    pub(super) life: Arc<Life>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Arc<SimStore>,
}

impl SimHost {
    /// Which host it is, from 0.
    pub fn index(&self) -> usize {
        self.life.machine.index
    }

    /// Its clock, which may be wrong.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// Chance, for the purpose `name` in this life.
    pub fn random(&self, name: &str) -> Random {
        Random::new(self.life.world.options.seed, &format!("{}/{name}", self.life.name))
    }

    /// To be awaited before anything is done outside the process, as a gateway does: returns when the host may go on,
    /// and never, if it was killed.
    pub async fn gate(&self) {
        self.life.gate().await;
    }

    /// To be awaited before the application's own rows are read: takes its time, or fails.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ask_database(&self) -> Result<(), StoreError> {
        self.store.ask("rows").await
    }

    /// Kills the host, now.
    pub fn kill(&self) {
        self.life.kill(Fault::Crash);
    }

    /// Whether nothing goes wrong any more.
    pub fn calm(&self) -> bool {
        self.life.world.calm()
    }
}

/// The whole, as it is seen from outside the hosts.
#[derive(Clone)]
pub struct Sim {
    pub(super) cluster: Arc<Cluster>,
}

/// How long a user waits for an answer before asking another host.
const PATIENCE: Duration = Duration::from_secs(5);

impl Sim {
    /// The seed.
    pub fn seed(&self) -> u64 {
        self.cluster.world.options.seed
    }

    /// Chance, for the purpose `name`.
    pub fn random(&self, name: &str) -> Random {
        Random::new(self.seed(), &format!("outside/{name}"))
    }

    /// The right time.
    pub fn now(&self) -> DateTime<Utc> {
        true_time(&self.cluster.world)
    }

    /// Lets time pass.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// How long things go wrong.
    pub fn safety(&self) -> Duration {
        self.cluster.world.options.safety
    }

    /// The tables of the shared database, as they truly are.
    pub fn tables(&self) -> &MemoryStore {
        &self.cluster.database.tables
    }

    /// The way into one of the hosts that run now, drawn by `random`.
    pub fn client(&self, random: &mut Random) -> Option<Client> {
        let up = self.cluster.up();
        (!up.is_empty()).then(|| random.pick(&up).client.clone())
    }

    /// Says that something happened that must not.
    pub fn violated(&self, text: impl Into<String>) {
        self.cluster.world.violated(text.into());
    }

    /// Submits as a patient user does: to one host and, when it does not answer in time, is gone or refuses, to another,
    /// until one has answered. `envelope` is asked for each time; a user whose request may be repeated gives each the same
    /// message id.
    pub async fn submit<S: Saga>(&self, random: &mut Random, mut envelope: impl FnMut(u32) -> Envelope) -> Submitted {
        for attempt in 1.. {
            let up = self.cluster.up();
            if !up.is_empty() {
                let host = random.pick(&up).clone();
                let answer = tokio::time::timeout(PATIENCE, host.client.submit::<S>(envelope(attempt))).await;
                if let Ok(Ok(submitted)) = &answer {
                    // The host may die before it has answered.
                    let answered = async {
                        host.life.reached(Point::Submitted).await;
                        true
                    };
                    if tokio::time::timeout(PATIENCE, answered).await.unwrap_or(false) {
                        return submitted.clone();
                    }
                }
                self.note_refused(&host.life.name, &answer);
            }
            tokio::time::sleep(random.millis(200..=3_000)).await;
        }
        unreachable!("a user asks again without end")
    }

    /// What is wrong with the history of one instance, and whether it is there.
    pub async fn check<S: Saga>(&self, machine: &Machine<S>, id: Uuid) -> Vec<String> {
        let (instance, journal) = self.history::<S>(id).await;
        let wrong = machine.check(instance.as_ref(), &journal);
        wrong.into_iter().map(|it| format!("{} {id}: {it}", S::NAME)).collect()
    }

    /// One instance and its history.
    pub async fn history<S: Saga>(&self, id: Uuid) -> (Option<StoredInstance>, Vec<JournalRow>) {
        let tables = self.tables();
        let instance = tables.instance(S::NAME, id).await;
        let journal = tables.journal(S::NAME, id).await;
        match (instance, journal) {
            (Ok(instance), Ok(journal)) => (instance, journal),
            (Err(error), _) | (_, Err(error)) => {
                self.violated(format!("{} {id} can not be read: {error}", S::NAME));
                (None, Vec::new())
            }
        }
    }

    fn note_refused(&self, place: &str, answer: &Result<Result<Submitted, SubmitError>, tokio::time::error::Elapsed>) {
        self.cluster.world.note(place, "not answered", None, || match answer {
            Err(_) => "in time".to_owned(),
            Ok(answer) => format!("{answer:?}"),
        });
    }
}
