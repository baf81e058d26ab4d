//! A crash at a named point, and a way to wait for what is going on without sleeping.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::probe::{Point, Probe};

/// Stops everything from the `nth` time on that a point is reached, as a crash there would: every loop that comes to
/// any point stops there. What stands still is then dropped by the test, and another runtime goes on with the store.
///
/// It is given to the runtime and to its store, and tells whoever waits whenever a point is reached.
#[derive(Debug)]
pub struct CrashAt {
    at: Option<(Point, usize)>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    reached: usize,
    disarmed: bool,
}

impl CrashAt {
    /// A crash at the `nth` time that `point` is reached; the first is 1.
    pub fn new(point: Point, nth: usize) -> Arc<Self> {
        Arc::new(Self { at: Some((point, nth)), progress: watch::Sender::default() })
    }

    /// No crash: only tells of the points that are reached.
    pub fn never() -> Arc<Self> {
        Arc::new(Self { at: None, progress: watch::Sender::default() })
    }

    /// Whether it has come to the crash.
    pub fn crashed(&self) -> bool {
        let nth = self.at.map_or(usize::MAX, |(_, nth)| nth);
        self.progress.borrow().reached >= nth
    }

    /// From now on nothing is stopped any more; what stands still stays so.
    pub fn disarm(&self) {
        self.progress.send_modify(|progress| progress.disarmed = true);
    }

    /// Returns when `holds` does, which is asked now and whenever a point is reached; `false`: when it has come to the
    /// crash instead.
    pub async fn until(&self, mut holds: impl AsyncFnMut() -> bool) -> bool {
        let mut progress = self.progress.subscribe();
        loop {
            progress.borrow_and_update();
            if self.crashed() {
                return false;
            }
            if holds().await {
                return true;
            }
            // The sender is this probe itself, so there is always another change to wait for.
            let _ = progress.changed().await;
        }
    }
}

#[async_trait]
impl Probe for CrashAt {
    async fn reached(&self, point: Point) {
        let mut stop = false;
        self.progress.send_modify(|progress| {
            if let Some((at, nth)) = self.at.filter(|_| !progress.disarmed) {
                progress.reached += usize::from(progress.reached < nth && point == at);
                stop = progress.reached >= nth;
            }
        });
        if stop {
            std::future::pending::<()>().await;
        }
    }
}
