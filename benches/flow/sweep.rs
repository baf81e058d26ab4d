//! The rate against the batch size and the number of hosts, and the latency against the load, as plots.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::machine::median;
use crate::order::{average, stop};
use crate::orders::Flow;
use crate::plots::{self, Plot, Series};

/// How many orders are under way at the same time: what decides how many messages wait, and with it the batch.
const BACKLOGS: [usize; 9] = [1, 4, 16, 64, 128, 256, 512, 1_024, 2_048];
/// A small backlog needs no more orders than these for each of its places.
const ORDERS_A_PLACE: usize = 200;
/// Shares of the top rate.
const LOADS: [f64; 8] = [0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
const HOSTS: [usize; 4] = [1, 2, 3, 4];
/// Which part of the orders goes before, unmeasured.
const WARM_UP: usize = 10;

/// A point of a curve, its runs one after the other.
struct Point {
    at: f64,
    runs: Vec<[f64; 2]>,
}

impl Point {
    fn median(&self, of: usize) -> f64 {
        median(&self.runs.iter().map(|run| run[of]).collect::<Vec<_>>())
    }
}

/// Measures every point of every curve once a run, so that a drift of the machine bends none of them.
pub(crate) async fn run(arguments: &Arguments, folder: &Path) -> Value {
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("--plots {}: {error}", folder.display()));
    let points = |at: &[f64]| -> Vec<Point> { at.iter().map(|at| Point { at: *at, runs: Vec::new() }).collect() };
    let (mut batch, mut load) = (points(&BACKLOGS.map(|it| it as f64)), points(&LOADS));
    let hosts =
        if arguments.pairing().is_shared() && arguments.pairing().has_broker() { &HOSTS[..] } else { &HOSTS[..1] };
    let mut hosts = points(&hosts.iter().map(|it| *it as f64).collect::<Vec<_>>());
    for _ in 0..arguments.runs {
        against_batch(arguments, &mut batch).await;
        against_load(arguments, &mut load).await;
        against_hosts(arguments, &mut hosts).await;
    }
    draw(arguments, folder, [&batch, &load, &hosts]);
    let told = |points: &[Point], names: [&str; 3]| -> Value {
        let told = |it: &Point| json!({ names[0]: it.at, names[1]: it.median(0), names[2]: it.median(1) });
        points.iter().map(told).collect()
    };
    json!({
        "batch": told(&batch, ["backlog", "average_batch", "orders_per_second"]),
        "load": told(&load, ["share_of_top_rate", "p50_ms", "p99_ms"]),
        "hosts": told(&hosts, ["hosts", "orders_per_second", "average_batch"]),
    })
}

async fn against_batch(arguments: &Arguments, points: &mut [Point]) {
    let flow = arguments.start(Duration::ZERO).await;
    let way = flow.way(arguments.entries()[0]).await;
    for point in points {
        let window = point.at as usize;
        let orders = arguments.orders().min(window * ORDERS_A_PLACE);
        flow.backlog(&way, orders.div_ceil(WARM_UP), window).await;
        let before = flow.seen.batches();
        let rate = flow.backlog(&way, orders, window).await;
        point.runs.push([average(before, flow.seen.batches()), rate]);
    }
    stop(flow, way).await;
}

async fn against_load(arguments: &Arguments, points: &mut [Point]) {
    let flow = arguments.start(Duration::ZERO).await;
    let way = flow.way(arguments.entries()[0]).await;
    flow.backlog(&way, arguments.orders().div_ceil(WARM_UP), arguments.backlog).await;
    let top = flow.backlog(&way, arguments.orders(), arguments.backlog).await;
    for point in points {
        let latency = flow.arrivals(&way, top * point.at, arguments.load).await;
        point.runs.push([latency.p50, latency.p99]);
    }
    stop(flow, way).await;
}

async fn against_hosts(arguments: &Arguments, points: &mut [Point]) {
    for point in points {
        let flow = Flow::start(arguments.pairing().place(), point.at as usize, Duration::ZERO).await;
        let way = flow.way(arguments.entries()[0]).await;
        flow.backlog(&way, arguments.orders().div_ceil(WARM_UP), arguments.backlog).await;
        let before = flow.seen.batches();
        let rate = flow.backlog(&way, arguments.orders(), arguments.backlog).await;
        point.runs.push([rate, average(before, flow.seen.batches())]);
        stop(flow, way).await;
    }
}

fn draw(arguments: &Arguments, folder: &Path, [batch, load, hosts]: [&[Point]; 3]) {
    let heading = arguments.heading("order");
    let text = |key: &str| heading[key].as_str().unwrap_or_default().trim_end_matches(':').to_owned();
    let (store, bus) = (text("store"), text("bus"));
    let place = format!("{store} + {bus}");
    let file = |name: &str| folder.join(format!("{name}-{store}-{bus}.svg"));
    let curve = |points: &[Point], x: &dyn Fn(&Point) -> f64, of: usize| -> Vec<(f64, f64)> {
        points.iter().map(|it| (x(it), it.median(of))).collect()
    };
    let (at, batch_size) = (|it: &Point| it.at, |it: &Point| it.median(0));
    plots::draw(
        &file("rate-against-batch"),
        &Plot {
            title: format!("Rate against batch size, {place}"),
            x: "messages a commit, on average",
            y: "orders a second",
            logarithmic: (true, false),
            series: vec![Series { name: "orders a second", points: curve(batch, &batch_size, 1) }],
        },
    );
    plots::draw(
        &file("latency-against-load"),
        &Plot {
            title: format!("Latency against load, {place}"),
            x: "share of the top rate",
            y: "ms from arrival to notification",
            logarithmic: (false, true),
            series: vec![
                Series { name: "p50", points: curve(load, &at, 0) },
                Series { name: "p99", points: curve(load, &at, 1) },
            ],
        },
    );
    if hosts.len() > 1 {
        plots::draw(
            &file("rate-against-hosts"),
            &Plot {
                title: format!("Rate against hosts, {place}"),
                x: "hosts",
                y: "orders a second",
                logarithmic: (false, false),
                series: vec![Series { name: "orders a second", points: curve(hosts, &at, 0) }],
            },
        );
    }
}
