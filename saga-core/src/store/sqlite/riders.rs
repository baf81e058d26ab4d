//! Commits that only take sent rows out of the outbox. Nobody waits for these rows to be gone, and a transaction of their
//! own would make those wait who do: they ride along with the next one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::writer::Job;

/// How long a commit waits for others to ride along with, before it is carried out alone.
pub(super) const RIDE: Duration = Duration::from_millis(20);

/// The commits that wait for the next transaction. Whoever commits waits for the answer, so there is one for each at the
/// most.
#[derive(Default)]
pub(super) struct Riders(Mutex<Vec<Job>>);

impl Riders {
    pub(super) fn add(&self, job: Job) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(job);
    }

    /// Those that wait now.
    pub(super) fn take(&self) -> Vec<Job> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
