//! The shared database: the memory store's tables, and which host has which outbox row for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::commit::{Commit, OutboxId, OutboxRow};
use crate::store::{Change, LoadQuery, MemoryStore, Store, StoreError};
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::host::Life;
use crate::testkit::sim::ledger::Ledger;
use crate::testkit::sim::options::{LEASE, Protection};
use crate::testkit::sim::random::Random;
use crate::testkit::sim::world::World;

/// How often a host says that it is alive, and looks for those that are not.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How often the rows of one message may be refused: more than a batch and its halves meet, and less than its retries.
const REFUSALS: u64 = 3;

/// What all hosts share.
pub(super) struct Database {
    pub(super) world: Arc<World>,
    /// The tables.
    pub(super) tables: MemoryStore,
    state: Mutex<State>,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct State {
    down: bool,
    /// Whose each unsettled outbox row is; nobody's, if the host that committed it does not relay.
    owners: BTreeMap<OutboxId, Option<Uuid>>,
    hosts: BTreeMap<Uuid, Host>,
    /// How often the commits of a message are still to be refused.
    refusals: BTreeMap<Uuid, u64>,
}

/// A life of a host, as the database knows it.
struct Host {
    lease_until: Instant,
    /// What it has not been told yet.
    changes: Vec<Change>,
    changed: Arc<Notify>,
    /// The lost hosts whose timers it was told of.
    lost: BTreeSet<Uuid>,
    /// The database was out of its sight, so it may have missed something.
    missed: bool,
}

impl State {
    fn is_lost(&self, host: Uuid) -> bool {
        self.hosts.get(&host).is_none_or(|it| it.lease_until < Instant::now())
    }

    /// Rows that `host` may take over.
    fn orphans(&self, host: Uuid, any: bool) -> Vec<OutboxId> {
        let free = |owner: &Option<Uuid>| match owner {
            None => true,
            Some(owner) => *owner != host && (any || self.is_lost(*owner)),
        };
        self.owners.iter().filter(|(_, owner)| free(owner)).map(|(id, _)| *id).collect()
    }
}

impl Host {
    fn tell(&mut self, change: Change) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
        self.changed.notify_one();
    }
}

impl Database {
    pub(super) fn new(world: &Arc<World>, tables: MemoryStore) -> Arc<Self> {
        Arc::new(Self { world: world.clone(), tables, state: Mutex::default(), ledger: Mutex::default() })
    }

    /// A host begins to work here; its lease is renewed for as long as it lives.
    pub(super) fn enter(self: &Arc<Self>, life: &Arc<Life>) {
        let host = Host {
            lease_until: Instant::now() + LEASE,
            changes: Vec::new(),
            changed: Arc::default(),
            lost: BTreeSet::new(),
            missed: false,
        };
        self.state().hosts.insert(life.id, host);
        let (database, life) = (self.clone(), life.clone());
        tokio::spawn(async move {
            loop {
                database.heartbeat(&life);
                life.pass(HEARTBEAT).await;
            }
        });
    }

    fn heartbeat(&self, life: &Life) {
        let mut state = self.state();
        let reached = !state.down && !life.is_cut_off();
        let lost: Vec<_> = state.hosts.keys().copied().filter(|id| *id != life.id && state.is_lost(*id)).collect();
        let orphans = !state.orphans(life.id, false).is_empty();
        let Some(host) = state.hosts.get_mut(&life.id) else { return };
        if !reached {
            host.missed = true;
            return;
        }
        host.lease_until = Instant::now() + LEASE;
        let newly_lost = lost.into_iter().filter(|id| host.lost.insert(*id)).count() > 0;
        if std::mem::take(&mut host.missed) || newly_lost {
            host.tell(Change::Timers);
        }
        if orphans {
            host.tell(Change::Outbox);
        }
    }

    /// Returns when `host` is to be told something.
    pub(super) async fn changed(&self, host: Uuid) -> Change {
        loop {
            let told = self.told(host);
            match told {
                Ok(Some(change)) => return change,
                Ok(None) => std::future::pending().await,
                Err(changed) => changed.notified().await,
            }
        }
    }

    /// What `host` is to be told; none, if it is not here; or what to wait for.
    fn told(&self, host: Uuid) -> Result<Option<Change>, Arc<Notify>> {
        let mut state = self.state();
        let Some(it) = state.hosts.get_mut(&host) else { return Ok(None) };
        it.changes.pop().map(Some).ok_or_else(|| it.changed.clone())
    }

    /// Carries a commit out, as a whole or not at all.
    pub(super) async fn apply(&self, host: Uuid, commit: &Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        let commit = self.weakened(commit).await?;
        let ids = self.tables.commit(commit.clone()).await?;
        let wrong = self.ledger().committed(&commit, &ids);
        wrong.into_iter().for_each(|text| self.world.violated(text));
        let mut state = self.state();
        state.owners.extend(ids.iter().map(|id| (*id, commit.handed_over.then_some(host))));
        for id in &commit.settled {
            state.owners.remove(id);
        }
        if !commit.handed_over {
            let changes = [(commit.outbox.is_empty(), Change::Outbox), (commit.timers.is_empty(), Change::Timers)];
            for (_, change) in changes.into_iter().filter(|(none, _)| !none) {
                state.hosts.values_mut().for_each(|it| it.tell(change));
            }
        }
        Ok(ids)
    }

    /// The commit without the protection that this simulation takes away.
    async fn weakened(&self, commit: &Arc<Commit>) -> Result<Arc<Commit>, StoreError> {
        let copy = || Commit {
            at: commit.at,
            forgotten: commit.forgotten.clone(),
            redriven: commit.redriven.clone(),
            inbox: commit.inbox.clone(),
            instances: commit.instances.clone(),
            marks: commit.marks.clone(),
            journal: commit.journal.clone(),
            rows: commit.rows.clone(),
            timers: commit.timers.clone(),
            cancelled: commit.cancelled.clone(),
            fired: commit.fired.clone(),
            outbox: commit.outbox.clone(),
            settled: commit.settled.clone(),
            dead_letters: commit.dead_letters.clone(),
            handed_over: commit.handed_over,
        };
        let mut weak = copy();
        match self.world.options.unprotected {
            Some(Protection::Inbox) => {
                for row in &commit.inbox {
                    let messages = [row.message_id];
                    let query = LoadQuery { endpoint: &row.endpoint, messages: &messages, saga: "", instances: &[] };
                    if !self.tables.load(&query).await?.handled.is_empty() {
                        weak.forgotten.push(row.clone());
                    }
                }
            }
            Some(Protection::Version) => {
                for row in &mut weak.instances {
                    row.expected = self.tables.instance(row.saga, row.id).await?.map_or(0, |it| it.version);
                }
            }
            Some(Protection::FiredOnce) => weak.cancelled.append(&mut weak.fired),
            _ => return Ok(commit.clone()),
        }
        Ok(Arc::new(weak))
    }

    /// The rows that `host` has, and those that nobody has, which it has from now on.
    pub(super) fn own(&self, host: Uuid) -> BTreeSet<OutboxId> {
        let mut state = self.state();
        let mine = state.owners.iter_mut().filter(|(_, owner)| owner.is_none_or(|it| it == host));
        mine.map(|(id, owner)| {
            *owner = Some(host);
            *id
        })
        .collect()
    }

    /// Gives `host` rows of those that are lost: `limit` of them.
    pub(super) fn take_over(&self, host: Uuid, limit: usize) -> BTreeSet<OutboxId> {
        let mut state = self.state();
        let mut taken = state.orphans(host, self.world.lacks(Protection::Lease));
        taken.truncate(limit);
        for id in &taken {
            if state.owners.insert(*id, Some(host)).flatten().is_some() {
                self.world.count(Fault::TakeOver);
            }
        }
        taken.into_iter().collect()
    }

    /// Whether the database refuses what a commit says of one of its messages. It is always the same message, and it is
    /// refused a few times only.
    pub(super) fn refuses(&self, commit: &Commit, random: &mut Random, permille: u32) -> bool {
        let handled = commit.inbox.iter().map(|row| row.message_id);
        let messages: Vec<_> = handled.chain(commit.timers.iter().map(|row| row.envelope.message_id)).collect();
        let mut state = self.state();
        if !messages.is_empty() && random.happens(permille) {
            let victim = *random.pick(&messages);
            state.refusals.entry(victim).or_insert_with(|| random.within(1..=REFUSALS));
        }
        let left = messages.iter().find(|id| state.refusals.get(id).is_some_and(|left| *left > 0)).copied();
        if let Some(left) = left.and_then(|id| state.refusals.get_mut(&id)) {
            *left -= 1;
            return true;
        }
        false
    }

    /// Nothing is refused any more.
    pub(super) fn spare(&self) {
        let mut state = self.state();
        state.down = false;
        state.refusals.clear();
    }

    pub(super) fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    pub(super) fn is_down(&self) -> bool {
        self.state().down
    }

    /// Forgets who is here, so that a simulation that has ended is freed.
    pub(super) fn leave(&self) {
        self.state().hosts.clear();
    }

    pub(super) fn arrived(&self, id: OutboxId, row: &OutboxRow) {
        if let Some(text) = self.ledger().arrived(id, row) {
            self.world.violated(text);
        }
    }

    pub(super) fn stored(&self, id: OutboxId) {
        self.ledger().stored(id);
    }

    pub(super) fn unroutable(&self, id: OutboxId, row: &OutboxRow) {
        self.ledger().unroutable(id, row);
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
