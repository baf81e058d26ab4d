//! One life of one host: what stops it, and its clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::message::derive_id;
use crate::probe::{Point, Probe};
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::random::Random;
use crate::testkit::sim::world::World;

/// What a host is, from one life to the next.
pub(super) struct Machine {
    pub(super) index: usize,
    /// By how many microseconds its clock is wrong.
    pub(super) skew: AtomicI64,
}

/// One life of one host, from its start to its end. Everything that it does goes through gates that are shut when it
/// stands still, and for ever when it is dead.
pub(super) struct Life {
    pub(super) world: Arc<World>,
    pub(super) machine: Arc<Machine>,
    /// By which the database and the broker know it.
    pub(super) id: Uuid,
    /// `h1.2`: the second life of host 1.
    pub(super) name: String,
    state: Mutex<State>,
    thawed: Notify,
    /// Told when it is killed.
    pub(super) killed: Notify,
}

struct State {
    condition: Condition,
    /// It can not reach the database.
    cut_off: bool,
    crash_at: Option<(Point, usize)>,
    random: Random,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Running,
    Frozen,
    Dead,
}

impl Life {
    pub(super) fn new(world: &Arc<World>, machine: &Arc<Machine>, number: u32) -> Arc<Self> {
        let name = format!("h{}.{number}", machine.index);
        let random = Random::new(world.options.seed, &name);
        let state = State { condition: Condition::Running, cut_off: false, crash_at: None, random };
        Arc::new(Self {
            world: world.clone(),
            machine: machine.clone(),
            id: derive_id(Uuid::nil(), &name),
            name,
            state: Mutex::new(state),
            thawed: Notify::new(),
            killed: Notify::new(),
        })
    }

    /// Returns when the host may go on: at once, when it does not stand still any more, or never.
    pub(super) async fn gate(&self) {
        self.world.step().await;
        loop {
            let thawed = self.thawed.notified();
            let condition = self.state().condition;
            match condition {
                Condition::Running => return,
                Condition::Frozen => thawed.await,
                Condition::Dead => std::future::pending().await,
            }
        }
    }

    /// Takes so long, and then waits at the gate.
    pub(super) async fn pass(&self, time: Duration) {
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        self.gate().await;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().condition == Condition::Dead
    }

    /// Stops everything at once, whatever it was doing.
    pub(super) fn kill(&self, why: Fault) {
        let was = std::mem::replace(&mut self.state().condition, Condition::Dead);
        if was != Condition::Dead {
            self.world.count(why);
            self.world.note(&self.name, "killed", None, || why.name().to_owned());
            self.killed.notify_one();
        }
    }

    /// It has ended by itself.
    pub(super) fn end(&self) {
        self.state().condition = Condition::Dead;
    }

    /// Kills it the `nth` time that it reaches a point.
    pub(super) fn crash_at(&self, point: Point, nth: usize) {
        self.state().crash_at = Some((point, nth));
    }

    /// Whatever was to happen to it does not.
    pub(super) fn spare(&self) {
        self.state().crash_at = None;
        self.set_cut_off(false);
        self.thaw();
    }

    /// Stands still; `false`: it does already, or is dead.
    pub(super) fn freeze(&self) -> bool {
        let mut state = self.state();
        let was_running = state.condition == Condition::Running;
        if was_running {
            state.condition = Condition::Frozen;
        }
        was_running
    }

    /// Goes on; `false`: it did not stand still any more.
    pub(super) fn thaw(&self) -> bool {
        let mut state = self.state();
        let was_frozen = state.condition == Condition::Frozen;
        if was_frozen {
            state.condition = Condition::Running;
            drop(state);
            self.thawed.notify_waiters();
        }
        was_frozen
    }

    pub(super) fn set_cut_off(&self, cut_off: bool) {
        self.state().cut_off = cut_off;
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.state().cut_off
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Probe for Life {
    async fn reached(&self, point: Point) {
        let (crashes, pause) = {
            let mut state = self.state();
            let mut crashes = false;
            if let Some((at, left)) = &mut state.crash_at
                && *at == point
            {
                *left = left.saturating_sub(1);
                crashes = *left == 0;
            }
            // The order in which the loops go on is chance as well.
            let pause = if state.random.happens(200) { state.random.millis(1..=4) } else { Duration::ZERO };
            (crashes, pause)
        };
        if crashes {
            self.kill(Fault::CrashAt(point.name()));
        }
        self.pass(pause).await;
    }
}

/// The clock of a host: it runs evenly, and may be set forward or back.
pub(super) struct SimClock(pub(super) Arc<Life>);

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        true_time(&self.0.world) + TimeDelta::microseconds(self.0.machine.skew.load(Ordering::Relaxed))
    }

    async fn sleep(&self, duration: Duration) {
        self.0.pass(duration).await;
    }
}

/// What a clock shows that is right: a simulation begins at noon of the first day of 2026.
pub(super) fn true_time(world: &World) -> DateTime<Utc> {
    let start = Utc.with_ymd_and_hms(2026, 1, 1, 12, 0, 0).single().unwrap_or_default();
    start + world.elapsed()
}
