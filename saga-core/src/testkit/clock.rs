//! A clock that a test moves.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeZone, Utc};
use tokio::sync::oneshot;

use crate::clock::Clock;

/// A clock that stands still until it is moved.
pub struct ManualClock(Mutex<State>);

struct State {
    now: DateTime<Utc>,
    /// Who sleeps until when; the number tells sleepers of one instant apart.
    sleepers: BTreeMap<(DateTime<Utc>, u64), oneshot::Sender<()>>,
    last: u64,
}

impl Default for ManualClock {
    /// Noon of the first day of 2026.
    fn default() -> Self {
        Self::at(Utc.with_ymd_and_hms(2026, 1, 1, 12, 0, 0).single().unwrap_or_default())
    }
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(State { now, sleepers: BTreeMap::new(), last: 0 }))
    }

    /// The instant of the next sleeper that wakes at `limit` or before.
    pub fn next_wake(&self, limit: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut state = self.state();
        state.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        state.sleepers.keys().next().map(|(at, _)| *at).filter(|at| *at <= limit)
    }

    /// Moves the clock, forward or back, and wakes everybody whose time has come.
    pub fn set(&self, now: DateTime<Utc>) {
        let mut state = self.state();
        state.now = now;
        let later = state.sleepers.split_off(&(now, u64::MAX));
        for sleeper in std::mem::replace(&mut state.sleepers, later).into_values() {
            // A sleeper that was dropped wakes nobody.
            let _ = sleeper.send(());
        }
    }

    /// Moves the clock forward in one jump.
    pub fn advance(&self, by: Duration) {
        let now = self.state().now;
        self.set(now + by);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.state().now
    }

    async fn sleep(&self, duration: Duration) {
        let deadline = self.now() + duration;
        self.sleep_until(deadline).await;
    }

    async fn sleep_until(&self, deadline: DateTime<Utc>) {
        let woken = {
            let mut state = self.state();
            if deadline <= state.now {
                return;
            }
            let (sleeper, woken) = oneshot::channel();
            state.last += 1;
            let key = (deadline, state.last);
            state.sleepers.insert(key, sleeper);
            woken
        };
        // An error says that the clock is gone; then nobody waits for time any more.
        let _ = woken.await;
    }
}
