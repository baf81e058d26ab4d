//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at: often enough that no test is slower by it, seldom enough that waiting is free.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `condition` gives something, which is returned.
///
/// # Panics
/// After `limit`, with `what` was waited for.
pub fn until<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(LOOK);
    }
}
