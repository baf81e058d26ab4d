//! When a failed message is tried again.

use std::time::Duration;

use uuid::Uuid;

/// How often and when a failed message is tried again: exponential, with a jitter that is derived from the message's
/// id, so that a delay can be told beforehand and a thousand failures do not return at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many retries follow the first attempt.
    pub limit: u32,
    /// The delay before the first retry; it doubles for each one after.
    pub initial: Duration,
    /// No delay is longer than this.
    pub max: Duration,
}

impl Default for RetryPolicy {
    /// Three retries, after about one, two and four seconds.
    fn default() -> Self {
        Self { limit: 3, initial: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// The delay after the failure of `attempt` (the first is 1), or `None` when no retry is left.
    ///
    /// The delay lies between half of the exponential step and the whole of it.
    pub fn delay(&self, attempt: u32, message_id: Uuid) -> Option<Duration> {
        if attempt > self.limit {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let step = self.initial.saturating_mul(1 << doublings).min(self.max);
        let bits = message_id.as_u128() ^ u128::from(attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let share = (bits % 1024) as f64 / 1024.0;
        Some(step.mul_f64(0.5 + share / 2.0))
    }
}
