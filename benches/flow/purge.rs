//! The order rate while a million old rows are purged, against the rate while they are left alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::filled::Filled;
use crate::machine::median;
use crate::order::stop;
use crate::orders::Flow;
use crate::place::Place;
use crate::report;

/// A purge begins so soon after the start, and again so soon after its end.
const INTERVAL: Duration = Duration::from_millis(200);
/// Which part of a run's orders goes before it, unmeasured; the purge has begun by then.
const WARM_UP: usize = 5;

struct Run {
    orders_per_second: f64,
    longest_pause_ms: f64,
    purged_per_second: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let (with, without) = (with_a_past(arguments).await, with_a_past(arguments).await);
    let (mut purging, mut quiet) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        quiet.push(measure(arguments, &without, false).await);
        purging.push(measure(arguments, &with, true).await);
    }
    let filled = Filled::open(&with).await;
    let left = filled.old_messages().await;
    filled.close().await;
    let of = |runs: &[Run], value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
    let side = |runs: &[Run]| {
        json!({
            "orders_per_second": of(runs, |it| it.orders_per_second),
            "longest_pause_ms": runs.iter().map(|it| it.longest_pause_ms).fold(0.0, f64::max),
            "purged_per_second": of(runs, |it| it.purged_per_second),
            "all_runs": runs.iter().map(|it| it.orders_per_second).collect::<Vec<_>>(),
        })
    };
    let ratio = of(&purging, |it| it.orders_per_second) / of(&quiet, |it| it.orders_per_second);
    let mut told = arguments.heading("purge");
    report::merge(
        &mut told,
        json!({
            "old_rows": arguments.inbox, "old_rows_left": left, "without": side(&quiet), "with": side(&purging),
            "ratio": ratio,
        }),
    );
    told
}

async fn with_a_past(arguments: &Arguments) -> Place {
    let place = arguments.start(Duration::ZERO).await.stop().await;
    let filled = Filled::open(&place).await;
    filled.remember_old_messages(arguments.inbox).await;
    filled.settle().await;
    filled.close().await;
    place
}

async fn measure(arguments: &Arguments, place: &Place, purges: bool) -> Run {
    let filled = Filled::open(place).await;
    let flow = Flow::start_with(arguments.pairing().again(place), arguments.hosts, |config| {
        config.retention.interval = INTERVAL;
        if !purges {
            config.retention.inbox = None;
        }
    });
    let flow = flow.await;
    let way = flow.way(arguments.entries()[0]).await;
    flow.backlog(&way, arguments.orders().div_ceil(WARM_UP), arguments.backlog).await;
    let (before, began) = (filled.old_messages().await, Instant::now());
    flow.seen.take_times();
    let rate = flow.backlog(&way, arguments.orders(), arguments.backlog).await;
    let (_, pause) = flow.seen.took();
    let purged = (before - filled.old_messages().await) as f64 / began.elapsed().as_secs_f64();
    filled.close().await;
    stop(flow, way).await;
    Run { orders_per_second: rate, longest_pause_ms: pause.as_secs_f64() * 1e3, purged_per_second: purged }
}
