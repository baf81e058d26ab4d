//! Time, as an argument.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// Where the runtime, the activities and the jobs get their time from; nothing else is asked.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> DateTime<Utc>;

    /// Returns when `duration` has passed.
    async fn sleep(&self, duration: Duration);

    /// Returns when it is `deadline`, or later.
    ///
    /// A wall clock may be set back or forward meanwhile, so the wait is cut into pieces of at most a minute, after
    /// each of which the clock is read again.
    async fn sleep_until(&self, deadline: DateTime<Utc>) {
        const PIECE: Duration = Duration::from_secs(60);
        while let Ok(left) = (deadline - self.now()).to_std() {
            if left.is_zero() {
                return;
            }
            self.sleep(left.min(PIECE)).await;
        }
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn sleep(&self, duration: Duration) {
        // Tokio rounds up to the next millisecond, and nothing is less than that.
        if !duration.is_zero() {
            tokio::time::sleep(duration).await;
        }
    }
}
