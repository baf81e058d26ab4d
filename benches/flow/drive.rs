//! How load is made: one unit after the other, so many at the same time, or so many a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::machine::percentile;
use crate::watched::Seen;

/// A unit that has been started ends under the id that this gives, or has ended.
pub(crate) trait Start: Fn(usize) -> Self::Started + Send + Sync {
    type Started: Future<Output = Uuid> + Send + 'static;
}

impl<S: Fn(usize) -> F + Send + Sync, F: Future<Output = Uuid> + Send + 'static> Start for S {
    type Started = F;
}

/// Times of units, milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Latency {
    pub(crate) fn of(took_ms: &[f64]) -> Self {
        Self { p50: percentile(took_ms, 0.5), p99: percentile(took_ms, 0.99) }
    }
}

/// What follows the end of a unit, settling, is not to be measured with the next one.
const SETTLING: Duration = Duration::from_millis(2);

/// One after the other, from its start to its committed end.
pub(crate) async fn alone(seen: &Seen, units: usize, start: impl Start) -> Latency {
    let mut took = Vec::new();
    for number in 0..units {
        let before = seen.finished();
        let started = Instant::now();
        start(number).await;
        seen.until(|seen| seen.finished() > before).await;
        took.push(started.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(SETTLING).await;
    }
    Latency::of(&took)
}

/// Never more than `window` units under way: units per second, from the first start to the last committed end.
pub(crate) async fn backlog(seen: &Seen, units: usize, window: usize, start: impl Start) -> f64 {
    let before = seen.finished();
    seen.places.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    seen.places.add_permits(window);
    let started = Instant::now();
    let mut starting = JoinSet::new();
    for number in 0..units {
        seen.places.acquire().await.expect("it is never closed").forget();
        // A task each: what one thread does for all of them would be measured instead of the service.
        starting.spawn(start(number));
        while let Some(one) = starting.try_join_next() {
            one.expect("a start");
        }
    }
    seen.until_finished(before + units).await;
    let took = started.elapsed();
    while let Some(one) = starting.join_next().await {
        one.expect("a start");
    }
    units as f64 / took.as_secs_f64()
}

/// How often it is looked which units are to be started.
const TICK: Duration = Duration::from_millis(1);

/// So many units a second, whatever becomes of those before, for some time. The time of each counts from when it was to
/// be started, so that one that could not be started in time is late and not left out.
pub(crate) async fn arrivals(seen: &Arc<Seen>, rate: f64, time: Duration, start: impl Start) -> Latency {
    let units = (rate * time.as_secs_f64()) as usize;
    let before = seen.finished();
    seen.take_times();
    let (begin, mut starting) = (Instant::now(), JoinSet::new());
    let mut number = 0;
    while number < units {
        let due = ((begin.elapsed().as_secs_f64() * rate) as usize + 1).min(units);
        for number in number..due {
            let intended = begin + Duration::from_secs_f64(number as f64 / rate);
            let (started, seen) = (start(number), seen.clone());
            starting.spawn(async move { seen.begun(started.await, intended) });
        }
        number = number.max(due);
        while let Some(one) = starting.try_join_next() {
            one.expect("a start");
        }
        tokio::time::sleep(TICK).await;
    }
    while let Some(one) = starting.join_next().await {
        one.expect("a start");
    }
    seen.until_finished(before + units).await;
    Latency::of(&seen.took().0)
}
