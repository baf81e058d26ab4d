//! A host's way to the shared database: it takes its time, fails, and answers nothing after having committed.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::commit::{Commit, DeadLetterRow, JournalRow, Lane, OutboxId, OutboxRow, StoredInstance, TimerRow};
use crate::probe::{Point, Probe};
use crate::store::{Backlog, Change, DeadLetterPage, LoadQuery, Loaded, Old, Page, Store, StoreError};
use crate::testkit::sim::database::Database;
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::host::Life;
use crate::testkit::sim::options::{Protection, Rates};
use crate::testkit::sim::random::Random;
use crate::testkit::sim::trace::short;

/// How long a host waits for a database that does not answer.
const TIMEOUT: Duration = Duration::from_millis(800);

/// A host's store.
pub(super) struct SimStore {
    database: Arc<Database>,
    life: Arc<Life>,
    random: Mutex<Random>,
}

/// How a commit ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Answered,
    Unknown,
    /// As unknown, and it is carried out after so long.
    Late(Duration),
}

impl SimStore {
    pub(super) fn new(database: &Arc<Database>, life: &Arc<Life>) -> Self {
        database.enter(life);
        let random = Random::new(life.world.options.seed, &format!("{}/store", life.name));
        Self { database: database.clone(), life: life.clone(), random: Mutex::new(random) }
    }

    /// The way there of any request.
    pub(super) async fn ask(&self, what: &'static str) -> Result<(), StoreError> {
        let world = &self.life.world;
        let (time, silent) = {
            let mut random = self.random();
            let Rates { slow, unavailable, .. } = world.options.rates;
            let is_slow = random.happens(world.rate(slow));
            if is_slow {
                world.count(Fault::Slow);
            }
            let time = if is_slow { random.millis(100..=3_000) } else { random.millis(0..=3) };
            (time, random.happens(world.rate(unavailable)))
        };
        self.life.pass(time).await;
        if !silent && !self.is_away() {
            return Ok(());
        }
        if silent {
            world.count(Fault::Unavailable);
        }
        world.note(&self.life.name, "no answer", None, || what.to_owned());
        self.life.pass(TIMEOUT).await;
        Err(StoreError::Unavailable(format!("{what}: no answer within {TIMEOUT:?}")))
    }

    /// The way back.
    async fn answer(&self) {
        let time = self.random().millis(0..=2);
        self.life.pass(time).await;
    }

    fn is_away(&self) -> bool {
        self.life.is_cut_off() || self.database.is_down()
    }

    /// Whether the commit is refused, and how it ends if it is not.
    fn fate(&self, commit: &Commit) -> Result<Ending, StoreError> {
        let world = &self.life.world;
        let Rates { unknown, conflict, refusal, .. } = world.options.rates;
        let mut random = self.random();
        if random.happens(world.rate(conflict)) {
            world.count(Fault::Conflict);
            return Err(StoreError::Conflict("could not serialize access".to_owned()));
        }
        if self.database.refuses(commit, &mut random, world.rate(refusal)) {
            world.count(Fault::Refusal);
            return Err(StoreError::Rejected("a row is refused".to_owned()));
        }
        if !random.happens(world.rate(unknown)) {
            return Ok(Ending::Answered);
        }
        Ok(if random.happens(700) { Ending::Unknown } else { Ending::Late(random.millis(0..=3_000)) })
    }

    async fn carry_out(&self, commit: &Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        let outcome = self.database.apply(self.life.id, commit).await;
        let world = &self.life.world;
        world.note(&self.life.name, "commit", None, || told(commit, &outcome));
        outcome
    }

    /// Carries the commit out some time, whatever becomes of the host.
    fn carry_out_later(&self, commit: &Arc<Commit>, after: Duration, fault: Fault) {
        let (database, commit, id) = (self.database.clone(), commit.clone(), self.life.id);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let outcome = database.apply(id, &commit).await;
            if outcome.is_ok() {
                database.world.count(fault);
            }
            database.world.note("db", fault.name(), None, || told(&commit, &outcome));
        });
    }

    fn random(&self) -> MutexGuard<'_, Random> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn rows_of(
        &self,
        ids: BTreeSet<OutboxId>,
        wanted: impl Fn(OutboxId, &OutboxRow) -> bool,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        let mut page = self.database.tables.outbox(0, usize::MAX).await?;
        page.rows.retain(|(id, row)| ids.contains(id) && wanted(*id, row));
        page.rows.truncate(limit);
        Ok(page)
    }
}

/// A commit that is on its way is carried out, or not, when its host is killed.
struct OnItsWay<'a> {
    store: &'a SimStore,
    commit: &'a Arc<Commit>,
    arrived: bool,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if !self.arrived && self.store.life.is_dead() && tokio::runtime::Handle::try_current().is_ok() {
            let mut random = self.store.random();
            if random.happens(300) {
                let after = random.millis(0..=2_000);
                drop(random);
                self.store.carry_out_later(self.commit, after, Fault::Posthumous);
            }
        }
    }
}

#[async_trait]
impl Store for SimStore {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        self.ask("load").await?;
        let mut loaded = self.database.tables.load(query).await?;
        if self.life.world.lacks(Protection::Inbox) {
            loaded.handled.clear();
        }
        self.answer().await;
        Ok(loaded)
    }

    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        let mut on_its_way = OnItsWay { store: self, commit: &commit, arrived: false };
        self.ask("commit").await?;
        if !commit.inbox.is_empty() {
            self.life.reached(Point::InboxWritten).await;
        }
        if !commit.instances.is_empty() {
            self.life.reached(Point::InstanceWritten).await;
        }
        on_its_way.arrived = true;
        let world = &self.life.world;
        let ending = self.fate(&commit).inspect_err(|error| {
            world.note(&self.life.name, "commit", None, || told(&commit, &Err(error.clone())));
        })?;
        let outcome = match ending {
            Ending::Answered => {
                let outcome = self.carry_out(&commit).await;
                self.answer().await;
                return outcome;
            }
            Ending::Unknown => self.carry_out(&commit).await.map(|_| world.count(Fault::Unknown)),
            Ending::Late(after) => {
                self.carry_out_later(&commit, after, Fault::Late);
                Ok(())
            }
        };
        outcome?;
        world.note(&self.life.name, "no answer", None, || "commit".to_owned());
        self.life.pass(TIMEOUT).await;
        Err(StoreError::Unavailable("the connection was lost during the commit".to_owned()))
    }

    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.ask("outbox").await?;
        let page = self.rows_of(self.database.own(self.life.id), |id, _| id > after, limit).await?;
        self.answer().await;
        Ok(page)
    }

    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.ask("outbox of a lane").await?;
        let of_lane = |id, row: &OutboxRow| id > after && Lane::of(row) == *lane;
        let page = self.rows_of(self.database.own(self.life.id), of_lane, limit).await?;
        self.answer().await;
        Ok(page)
    }

    async fn take_over(&self, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.ask("take over").await?;
        let page = self.rows_of(self.database.take_over(self.life.id, limit), |_, _| true, limit).await?;
        self.life.world.note(&self.life.name, "take over", None, || format!("{} rows", page.rows.len()));
        self.answer().await;
        Ok(page)
    }

    async fn changed(&self) -> Change {
        self.life.gate().await;
        let change = self.database.changed(self.life.id).await;
        self.life.world.note(&self.life.name, "changed", None, || format!("{change:?}"));
        change
    }

    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError> {
        self.ask("purge").await?;
        self.database.tables.purge(old, limit).await
    }

    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError> {
        self.ask("due timers").await?;
        let due = self.database.tables.due_timers(now, limit).await?;
        self.answer().await;
        Ok(due)
    }

    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.ask("next due").await?;
        let next = self.database.tables.next_due_after(after).await?;
        self.answer().await;
        Ok(next)
    }

    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
        self.ask("instance").await?;
        self.database.tables.instance(saga, id).await
    }

    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
        self.ask("journal").await?;
        self.database.tables.journal(saga, id).await
    }

    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.ask("dead letters").await?;
        self.database.tables.dead_letters(page).await
    }

    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        self.ask("dead letter").await?;
        self.database.tables.dead_letter(id).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.ask("backlog").await?;
        self.database.tables.backlog().await
    }

    fn writes(&self, row: TypeId) -> bool {
        self.database.tables.writes(row)
    }
}

/// A commit in a few words.
fn told(commit: &Commit, outcome: &Result<Vec<OutboxId>, StoreError>) -> String {
    let messages = |ids: &mut dyn Iterator<Item = Uuid>| ids.map(|id| short(Some(id))).collect::<Vec<_>>().join(" ");
    let parts = [
        ("handled", messages(&mut commit.inbox.iter().map(|row| row.message_id))),
        ("moved", messages(&mut commit.instances.iter().map(|row| row.id))),
        ("timers", messages(&mut commit.timers.iter().map(|row| row.token))),
        ("fired", messages(&mut commit.fired.iter().copied())),
        ("dead", messages(&mut commit.dead_letters.iter().map(|row| row.envelope.message_id))),
        ("settled", commit.settled.iter().map(OutboxId::to_string).collect::<Vec<_>>().join(" ")),
    ];
    let parts: Vec<_> =
        parts.iter().filter(|(_, it)| !it.is_empty()).map(|(name, it)| format!("{name} {it}")).collect();
    let ids = match outcome {
        Ok(ids) if ids.is_empty() => String::new(),
        Ok(ids) => format!(" → rows {ids:?}"),
        Err(error) => format!(" ✗ {error}"),
    };
    format!("{}{ids}", parts.join(", "))
}
