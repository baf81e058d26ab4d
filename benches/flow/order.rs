//! The order flow: its rate, its latency, and what it costs, from each entry; the yardsticks beside it, run by run.

use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::ceilings::Ceilings;
use crate::drive::Latency;
use crate::entry::Entry;
use crate::machine::{Cpu, median, resident_mib};
use crate::orders::Flow;
use crate::{report, sweep, yardstick};

/// How many orders are sent one by one to learn the latency of an order alone.
const ALONE: usize = 300;
/// Which part of a run's orders goes before it, unmeasured.
const WARM_UP: usize = 10;
/// The shares of the top rate at which the latency is told.
const HALF: f64 = 0.5;
const NEARLY_ALL: f64 = 0.9;

/// What one run of one entry came to.
struct Run {
    orders_per_second: f64,
    alone: Latency,
    /// At half and at nine tenths of the rate.
    loaded: Option<(Latency, Latency)>,
    cpu_us: Cpu,
    store_calls: f64,
    average_batch: f64,
    memory_mib: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let entries = arguments.entries();
    let mut runs: Vec<(Entry, Vec<Run>)> = entries.into_iter().map(|entry| (entry, Vec::new())).collect();
    let (mut ceilings, mut base) = (Ceilings::default(), Vec::new());
    for _ in 0..arguments.runs {
        for (entry, runs) in &mut runs {
            runs.push(measure(arguments, *entry).await);
        }
        if !arguments.no_ceilings {
            ceilings.measure(&arguments.pairing()).await;
        }
        if let Some(path) = &arguments.baseline {
            let measure = if arguments.pairing().has_servers() { yardstick::on_servers } else { yardstick::on_sqlite };
            base.push(measure(path, arguments.orders()));
        }
    }
    let mut result = arguments.heading("order");
    report::merge(&mut result, told(&runs));
    if !arguments.no_ceilings {
        result["ceilings"] = ceilings.json();
    }
    if !base.is_empty() {
        report::merge(&mut result, compared(&runs, &base));
    }
    if let Some(folder) = &arguments.plots {
        result["sweeps"] = sweep::run(arguments, folder).await;
    }
    result
}

async fn measure(arguments: &Arguments, entry: Entry) -> Run {
    let flow = arguments.start_for(entry).await;
    let way = flow.way(entry).await;
    let alone = flow.alone(&way, ALONE).await;
    let (orders, window) = (arguments.orders(), arguments.backlog);
    flow.backlog(&way, orders.div_ceil(WARM_UP), window).await;

    let pairing = arguments.pairing();
    let (cpu, calls, batches) = (Cpu::now(&pairing), flow.seen.calls(), flow.seen.batches());
    let rate = flow.backlog(&way, orders, window).await;
    let cpu_us = Cpu::now(&pairing).per_unit(cpu, orders);
    let store_calls = (flow.seen.calls() - calls) as f64 / orders as f64;
    let average_batch = average(batches, flow.seen.batches());
    let memory_mib = resident_mib();

    let mut loaded = None;
    if !arguments.load.is_zero() {
        let half = flow.arrivals(&way, rate * HALF, arguments.load).await;
        loaded = Some((half, flow.arrivals(&way, rate * NEARLY_ALL, arguments.load).await));
    }
    stop(flow, way).await;
    Run { orders_per_second: rate, alone, loaded, cpu_us, store_calls, average_batch, memory_mib }
}

/// The way in goes first: the service must not wait for its connections.
pub(crate) async fn stop(flow: Flow, way: crate::entry::WayIn) {
    drop(way);
    flow.stop().await;
}

/// Messages a commit, from one count of both to the next.
pub(crate) fn average(before: (u64, u64), after: (u64, u64)) -> f64 {
    (after.1 - before.1) as f64 / (after.0 - before.0).max(1) as f64
}

/// Medians: of the runtime's entry, or the only one, at the top, and of each under its name.
fn told(runs: &[(Entry, Vec<Run>)]) -> Value {
    let mut told = Map::new();
    let (mut entries, mut all) = (Map::new(), Map::new());
    for (entry, runs) in runs {
        entries.insert(entry.name().to_owned(), medians(runs));
        all.insert(entry.name().to_owned(), json!(runs.iter().map(|it| it.orders_per_second).collect::<Vec<_>>()));
        if *entry != Entry::Runtime {
            told.insert(
                format!("{}_orders_per_second", entry.name()),
                entries[entry.name()]["orders_per_second"].clone(),
            );
        }
    }
    let first = runs.first().map_or("", |(entry, _)| entry.name());
    if let Some(Value::Object(first)) = entries.remove(first) {
        told.extend(first);
    }
    told.insert("entries".to_owned(), Value::Object(entries));
    told.insert("all_runs".to_owned(), Value::Object(all));
    Value::Object(told)
}

fn medians(runs: &[Run]) -> Value {
    let of = |value: &dyn Fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
    let mut latency = json!({ "p50": of(&|it| it.alone.p50), "p99": of(&|it| it.alone.p99) });
    let loaded: Vec<_> = runs.iter().filter_map(|it| it.loaded).collect();
    let mut ratio = Value::Null;
    if !loaded.is_empty() {
        let of = |value: fn(&(Latency, Latency)) -> f64| median(&loaded.iter().map(value).collect::<Vec<_>>());
        latency["half_load"] = json!({ "p50": of(|it| it.0.p50), "p99": of(|it| it.0.p99) });
        latency["nine_tenths_load"] = json!({ "p50": of(|it| it.1.p50), "p99": of(|it| it.1.p99) });
        ratio = json!(of(|it| it.0.p99 / it.0.p50));
    }
    let cpu = json!({
        "own": of(&|it| it.cpu_us.own), "database": of(&|it| it.cpu_us.database), "broker": of(&|it| it.cpu_us.broker),
    });
    json!({
        "orders_per_second": of(&|it| it.orders_per_second),
        "latency_ms": latency,
        "p99_over_p50_at_half_load": ratio,
        "cpu_us_per_order": cpu,
        "memory_mib": of(&|it| it.memory_mib),
        "average_batch": of(&|it| it.average_batch),
        "store_calls_per_order": of(&|it| it.store_calls),
    })
}

/// The hand-written program, and what we are of it.
fn compared(runs: &[(Entry, Vec<Run>)], base: &[yardstick::Measured]) -> Value {
    let rates: Vec<_> = base.iter().map(|it| it.orders_per_second).collect();
    let p50 = median(&base.iter().map(|it| it.p50_ms).collect::<Vec<_>>());
    let mut compared = json!({
        "baseline": { "orders_per_second": median(&rates), "p50_ms": p50, "all_runs": rates },
    });
    for (entry, runs) in runs {
        let of = |value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
        let suffix = if *entry == Entry::Runtime { String::new() } else { format!("_{}", entry.name()) };
        compared[format!("baseline_ratio{suffix}")] = json!(of(|it| it.orders_per_second) / median(&rates));
        compared[format!("baseline_latency_ratio{suffix}")] = json!(of(|it| it.alone.p50) / p50);
    }
    compared
}
