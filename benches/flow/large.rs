//! The order rate on a database with millions of finished instances, against an empty one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::drive::Latency;
use crate::filled::Filled;
use crate::machine::{Cpu, median};
use crate::order::stop;
use crate::orders::Flow;
use crate::place::Place;
use crate::{plans, report};

/// How many orders are sent one by one, and which part of a run's orders goes before it, unmeasured.
const ALONE: usize = 200;
const WARM_UP: usize = 5;

struct Run {
    orders_per_second: f64,
    alone: Latency,
    database_us: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let pairing = arguments.pairing();
    let place = arguments.start(Duration::ZERO).await.stop().await;
    let began = Instant::now();
    let filled = Filled::open(&place).await;
    filled.finish_orders(arguments.finished).await;
    filled.remember_messages(arguments.inbox).await;
    filled.settle().await;
    let (size, filling) = (filled.size_mib().await, began.elapsed());
    filled.close().await;

    let (mut empty, mut large) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        empty.push(measure(arguments, pairing.place()).await);
        large.push(measure(arguments, pairing.again(&place)).await);
    }
    let of = |runs: &[Run], value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
    let side = |runs: &[Run]| {
        json!({
            "orders_per_second": of(runs, |it| it.orders_per_second),
            "latency_ms": { "p50": of(runs, |it| it.alone.p50), "p99": of(runs, |it| it.alone.p99) },
            "database_cpu_us_per_order": of(runs, |it| it.database_us),
            "all_runs": runs.iter().map(|it| it.orders_per_second).collect::<Vec<_>>(),
        })
    };
    let ratio = of(&large, |it| it.orders_per_second) / of(&empty, |it| it.orders_per_second);
    let mut told = arguments.heading("large");
    report::merge(
        &mut told,
        json!({
            "finished": arguments.finished, "inbox": arguments.inbox, "database_mib": size,
            "filled_in_seconds": filling.as_secs_f64(), "empty": side(&empty), "large": side(&large), "ratio": ratio,
            "plans": plans::of(&pairing, &place).await,
        }),
    );
    told
}

async fn measure(arguments: &Arguments, place: Place) -> Run {
    let (pairing, flow) = (arguments.pairing(), Flow::start(place, arguments.hosts, Duration::ZERO).await);
    let way = flow.way(arguments.entries()[0]).await;
    let alone = flow.alone(&way, ALONE).await;
    flow.backlog(&way, arguments.orders().div_ceil(WARM_UP), arguments.backlog).await;
    let cpu = Cpu::now(&pairing);
    let rate = flow.backlog(&way, arguments.orders(), arguments.backlog).await;
    let database_us = Cpu::now(&pairing).per_unit(cpu, arguments.orders()).database;
    stop(flow, way).await;
    Run { orders_per_second: rate, alone, database_us }
}
