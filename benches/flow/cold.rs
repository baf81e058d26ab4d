//! A restart with a backlog: from start to ready, and to the end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::machine::median;
use crate::orders::Flow;
use crate::report;

/// Longer than any run: no payment is answered before the restart.
const NEVER: Duration = Duration::from_secs(3_600);

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let (mut ready, mut empty, mut finished) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        empty.push(ready_on_nothing(arguments).await);
        let flow = arguments.start(NEVER).await;
        flow.submit_all(arguments.orders()).await;
        flow.until_waiting(arguments.orders()).await;
        let place = flow.abort().await;
        let started = Instant::now();
        let flow = Flow::start(place, arguments.hosts, Duration::ZERO).await;
        ready.push(started.elapsed().as_secs_f64() * 1e3);
        flow.seen.until_finished(arguments.orders()).await;
        finished.push(started.elapsed().as_secs_f64() * 1e3);
        flow.stop().await;
    }
    let mut told = arguments.heading("cold");
    let of_empty = median(&ready) / median(&empty);
    report::merge(
        &mut told,
        json!({
            "ready_ms": median(&ready), "ready_ms_without_backlog": median(&empty), "ratio": of_empty,
            "finished_ms": median(&finished),
        }),
    );
    told
}

/// A restart where nothing waits.
async fn ready_on_nothing(arguments: &Arguments) -> f64 {
    let place = arguments.start(NEVER).await.abort().await;
    let started = Instant::now();
    let flow = Flow::start(place, arguments.hosts, Duration::ZERO).await;
    let ready = started.elapsed().as_secs_f64() * 1e3;
    flow.stop().await;
    ready
}
