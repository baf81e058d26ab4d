//! What an endpoint does when the store says no again and again: it goes on, without hurry, and forgets nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::runtime::core::BATCH;

/// The first pause before a failure is stored again that the store has refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// The longest of these pauses: an operator who has mended the store need not wait long.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// So many conflicts in a row are met by repeating at once: the one who was quicker is done by then.
const CONFLICTS_AT_ONCE: u32 = 3;
/// After so many conflicts in a row an operator is told.
const CONFLICTS_TOLD: u32 = 10;
/// The first pause between two conflicts; it doubles up to [`CONFLICT_PAUSE_MAX`].
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two conflicts: the whole batch waits for it.
const CONFLICT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Messages whose failure the store refuses too: they are tried again after a growing pause, and hold up no other.
/// They are not acknowledged, so the relay's window, or the bus's prefetch, bounds how many there can be.
pub(crate) struct PutOff<T> {
    waiting: Vec<T>,
    next: Duration,
    pause: Pause,
}

impl<T> Default for PutOff<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), next: REFUSED_PAUSE, pause: Pause::default() }
    }
}

impl<T> PutOff<T> {
    /// Returns when the messages are to be tried again; never, if there are none.
    pub(crate) async fn due(&mut self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        self.pause.over().await;
    }

    /// The messages that are to be tried now.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.waiting.drain(..self.waiting.len().min(BATCH)).collect()
    }

    /// Puts off what was refused in a batch.
    pub(crate) fn add(&mut self, refused: impl Iterator<Item = T>, clock: &Arc<dyn Clock>) {
        let waited = !self.waiting.is_empty();
        self.waiting.extend(refused);
        if self.waiting.is_empty() {
            self.next = REFUSED_PAUSE;
        } else if !waited {
            self.pause.begin(clock, self.next);
            self.next = (self.next * 2).min(REFUSED_PAUSE_MAX);
        }
    }
}

/// A pause that has begun, which a loop waits for beside other things. It is a length and not a time of day: a clock that
/// is set back must not make a second last for an hour.
#[derive(Default)]
pub(crate) struct Pause(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Pause {
    /// Begins it, in place of one that may not be over.
    pub(crate) fn begin(&mut self, clock: &Arc<dyn Clock>, length: Duration) {
        let clock = clock.clone();
        self.0 = Some(Box::pin(async move { clock.sleep(length).await }));
    }

    /// Returns when it is over, at once if none has begun. May be dropped and called again: the pause goes on.
    pub(crate) async fn over(&mut self) {
        if let Some(pause) = &mut self.0 {
            pause.await;
            self.0 = None;
        }
    }
}

/// The conflicts that a batch has met in a row.
pub(crate) struct Conflicts {
    endpoint: &'static str,
    met: u32,
    pause: Duration,
}

impl Conflicts {
    pub(crate) fn of(endpoint: &'static str) -> Self {
        Self { endpoint, met: 0, pause: CONFLICT_PAUSE }
    }

    /// Notes a conflict; returns when the batch is to be repeated.
    pub(crate) async fn met(&mut self, reason: &str, clock: &dyn Clock) {
        self.met += 1;
        let endpoint = self.endpoint;
        tracing::debug!(endpoint, reason, "conflict; the batch is repeated");
        if self.met == CONFLICTS_TOLD {
            tracing::warn!(endpoint, reason, conflicts = self.met, "a batch meets one conflict after another");
        }
        if self.met <= CONFLICTS_AT_ONCE {
            return tokio::task::yield_now().await;
        }
        clock.sleep(self.pause).await;
        self.pause = (self.pause * 2).min(CONFLICT_PAUSE_MAX);
    }
}
