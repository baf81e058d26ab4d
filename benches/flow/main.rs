//! The whole flow, from submission to notification, on the embedded default: `cargo bench --bench flow -- --help`.

mod machine;
mod orders;
mod place;
mod yardstick;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use machine::{cpu_seconds, cpu_seconds_of, median, resident_mib};
use orders::{Entry, Flow};
use place::Pairing;

/// Measures the order flow; on SQLite (WAL, synchronous=FULL) and the embedded bus, if nothing else is said.
#[derive(Parser)]
struct Arguments {
    /// What is measured.
    #[arg(long, value_enum, default_value = "order")]
    workload: Workload,
    /// How many orders a run has.
    #[arg(long, default_value_t = 10_000)]
    orders: usize,
    /// How many runs; the median is told.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How many orders are under way at the same time, at the most.
    #[arg(long, default_value_t = 2_000)]
    backlog: usize,
    /// How orders come in; both ways, one after the other, if not said.
    #[arg(long, value_enum)]
    entry: Option<Entry>,
    /// The store: `sqlite:` or `postgres:` for a new one at each run, or a URL.
    #[arg(long, default_value = "sqlite:")]
    store: String,
    /// The bus: `embedded:`, `rabbitmq:` for a new virtual host at each run, or a URL.
    #[arg(long, default_value = "embedded:")]
    bus: String,
    /// How many hosts share the work; more than one needs PostgreSQL.
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// The `baseline_sqlite` binary, or `baseline` where there are servers, to measure beside, run by run.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Print JSON instead of lines for people.
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Workload {
    /// Orders per second at a backlog, into the runtime and over REST, and the latency of one order alone.
    Order,
    /// Memory while all orders wait in their payment.
    Waiting,
    /// CPU of a service that has nothing to do.
    Idle,
    /// From start to ready, and to the end, with a backlog of orders that wait in the store.
    Cold,
}

/// How many orders are sent one by one to learn the latency of an order alone.
const ALONE: usize = 300;
/// How long an idle service is watched.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let arguments = Arguments::parse();
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("an executor");
    let result = executor.block_on(async {
        match arguments.workload {
            Workload::Order => order(&arguments).await,
            Workload::Waiting => waiting(&arguments).await,
            Workload::Idle => idle(&arguments).await,
            Workload::Cold => cold(&arguments).await,
        }
    });
    if arguments.json {
        println!("{result:#}");
    } else {
        print_flat("", &result);
    }
}

impl Arguments {
    fn pairing(&self) -> Pairing {
        Pairing { store: self.store.clone(), bus: self.bus.clone() }
    }

    /// Starts on a new place.
    async fn start(&self, payment: Duration) -> Flow {
        Flow::start(self.pairing().place(), self.hosts, payment).await
    }
}

async fn order(arguments: &Arguments) -> Value {
    let (mut direct, mut rest, mut base) = (Vec::new(), Vec::new(), Vec::new());
    let (mut p50, mut p99, mut base_p50) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu, mut database, mut broker, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let per_order = |seconds: f64| seconds / arguments.orders as f64 * 1e6;
    for _ in 0..arguments.runs {
        if arguments.entry.is_none_or(|entry| entry == Entry::Runtime) {
            let flow = arguments.start(Duration::ZERO).await;
            let (alone_p50, alone_p99) = flow.alone(ALONE).await;
            p50.push(alone_p50);
            p99.push(alone_p99);
            flow.backlog(Entry::Runtime, arguments.orders / 10, arguments.backlog).await;
            let (before, calls_before) = (cpu_seconds(), flow.store_calls());
            let (database_before, broker_before) = (cpu_seconds_of("postgres"), cpu_seconds_of("beam.smp"));
            direct.push(flow.backlog(Entry::Runtime, arguments.orders, arguments.backlog).await);
            cpu.push(per_order(cpu_seconds() - before));
            database.push(per_order(cpu_seconds_of("postgres") - database_before));
            broker.push(per_order(cpu_seconds_of("beam.smp") - broker_before));
            calls.push((flow.store_calls() - calls_before) as f64 / arguments.orders as f64);
            flow.stop().await;
        }
        if arguments.entry.is_none_or(|entry| entry == Entry::Rest) {
            let flow = arguments.start(Duration::ZERO).await;
            flow.backlog(Entry::Rest, arguments.orders / 10, arguments.backlog).await;
            rest.push(flow.backlog(Entry::Rest, arguments.orders, arguments.backlog).await);
            flow.stop().await;
        }

        if let Some(path) = &arguments.baseline {
            let measure = if arguments.pairing().has_servers() { yardstick::on_servers } else { yardstick::on_sqlite };
            let measured = measure(path, arguments.orders);
            base.push(measured.orders_per_second);
            base_p50.push(measured.p50_ms);
        }
    }
    let mut result = json!({
        "workload": "order", "store": arguments.store, "bus": arguments.bus, "hosts": arguments.hosts,
        "orders": arguments.orders, "runs": arguments.runs, "backlog": arguments.backlog,
        "orders_per_second": median(&direct),
        "rest_orders_per_second": median(&rest),
        "latency_ms": { "p50": median(&p50), "p99": median(&p99) },
        "cpu_us_per_order": { "own": median(&cpu), "database": median(&database), "broker": median(&broker) },
        "store_calls_per_order": median(&calls),
        "all_runs": { "runtime": direct, "rest": rest },
    });
    if !base.is_empty() {
        result["baseline"] =
            json!({ "orders_per_second": median(&base), "p50_ms": median(&base_p50), "all_runs": base });
        result["baseline_ratio"] = json!(median(&direct) / median(&base));
        result["baseline_ratio_rest"] = json!(median(&rest) / median(&base));
        result["baseline_latency_ratio"] = json!(median(&p50) / median(&base_p50));
    }
    result
}

async fn waiting(arguments: &Arguments) -> Value {
    let before = resident_mib();
    let flow = arguments.start(Duration::from_secs(3_600)).await;
    flow.submit_all(arguments.orders).await;
    flow.until_waiting(arguments.orders).await;
    // What is measured is the waiting, not the rush before it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let resident = resident_mib();
    flow.abort().await;
    json!({ "workload": "waiting", "orders": arguments.orders, "resident_mib": resident, "resident_mib_before": before })
}

async fn idle(arguments: &Arguments) -> Value {
    let flow = arguments.start(Duration::ZERO).await;
    flow.backlog(Entry::Runtime, 1_000, 100).await;
    // What follows the last notification, settling, ends long before the first second does.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, commits) = (cpu_seconds(), flow.store_calls());
    tokio::time::sleep(IDLE).await;
    let share = (cpu_seconds() - cpu) / IDLE.as_secs_f64() * 100.0;
    let calls = flow.store_calls() - commits;
    flow.stop().await;
    json!({ "workload": "idle", "seconds": IDLE.as_secs(), "percent_of_a_core": share, "store_calls": calls })
}

async fn cold(arguments: &Arguments) -> Value {
    let flow = arguments.start(Duration::from_secs(3_600)).await;
    flow.submit_all(arguments.orders).await;
    flow.until_waiting(arguments.orders).await;
    let place = flow.abort().await;
    let started = Instant::now();
    let flow = Flow::start(place, arguments.hosts, Duration::ZERO).await;
    let ready = started.elapsed();
    flow.until_notified(arguments.orders).await;
    let finished = started.elapsed();
    flow.stop().await;
    json!({
        "workload": "cold", "orders": arguments.orders,
        "ready_ms": ready.as_secs_f64() * 1e3, "finished_ms": finished.as_secs_f64() * 1e3,
    })
}

fn print_flat(path: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                print_flat(&path, value);
            }
        }
        Value::Number(number) if number.is_f64() => println!("{path:<32} {:.2}", number.as_f64().unwrap_or_default()),
        other => println!("{path:<32} {other}"),
    }
}
