//! One message through one endpoint and back: a request, a saga's step, its answer.

use std::time::{Duration, Instant};

use saga_core::{Client, Commit, Request, RequestError, Saga};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::drive::Latency;
use crate::machine::{Cpu, median};
use crate::order::average;
use crate::report;
use crate::rig::Rig;
use crate::sagas::{Answer, Ask, Echo};
use crate::watched::Seen;

/// How many requests are made one by one to learn the latency of one alone, and before it, unmeasured.
const ALONE: usize = 300;
const WARM_UP: usize = 100;
/// How long an answer may take: longer than it does at any load that is made here.
const PATIENCE: Duration = Duration::from_secs(120);

struct Run {
    requests_per_second: f64,
    alone: Latency,
    cpu_us: Cpu,
    average_batch: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let mut runs = Vec::new();
    for _ in 0..arguments.runs {
        runs.push(measure(arguments).await);
    }
    let of = |value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
    let mut told = arguments.heading("trip");
    report::merge(
        &mut told,
        json!({
            "requests_per_second": of(|it| it.requests_per_second),
            "latency_ms": { "p50": of(|it| it.alone.p50), "p99": of(|it| it.alone.p99) },
            "cpu_us_per_request": {
                "own": of(|it| it.cpu_us.own), "database": of(|it| it.cpu_us.database),
                "broker": of(|it| it.cpu_us.broker),
            },
            "average_batch": of(|it| it.average_batch),
            "all_runs": runs.iter().map(|it| it.requests_per_second).collect::<Vec<_>>(),
        }),
    );
    told
}

async fn measure(arguments: &Arguments) -> Run {
    let (pairing, seen) = (arguments.pairing(), Seen::new(asked, ""));
    let rig = Rig::start(&pairing.place(), arguments.hosts, &seen, Duration::ZERO, |it| it.saga::<Echo>()).await;
    let client = rig.clients[0].clone();
    for _ in 0..WARM_UP {
        ask(&client).await;
    }
    let mut took = Vec::new();
    for _ in 0..ALONE {
        let started = Instant::now();
        ask(&client).await;
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let (cpu, batches, requests) = (Cpu::now(&pairing), seen.batches(), arguments.orders());
    let rate = at_once(&rig.clients, requests, arguments.backlog).await;
    let cpu_us = Cpu::now(&pairing).per_unit(cpu, requests);
    let average_batch = average(batches, seen.batches());
    drop(client);
    rig.stop().await;
    Run { requests_per_second: rate, alone: Latency::of(&took), cpu_us, average_batch }
}

/// Requests per second, so many of them waiting for their answers.
async fn at_once(clients: &[Client], requests: usize, window: usize) -> f64 {
    let started = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for asker in 0..window.min(requests) {
        let client = clients[asker % clients.len()].clone();
        let own = requests / window.min(requests) + usize::from(asker < requests % window.min(requests));
        asking.spawn(async move {
            for _ in 0..own {
                ask(&client).await;
            }
        });
    }
    asking.join_all().await;
    requests as f64 / started.elapsed().as_secs_f64()
}

async fn ask(client: &Client) {
    let id = Uuid::now_v7();
    let request = Request::<Answer>::new(Uuid::now_v7(), &Ask { echo_id: id, text: "How long?".to_owned() });
    let answer = client.request(request.to(Echo::ENDPOINT).correlated(id).timeout(PATIENCE)).await;
    let answer = answer.unwrap_or_else(|error: RequestError| panic!("no answer: {error}"));
    assert_eq!(answer.message.echo_id, id);
}

/// The messages that a commit handles.
fn asked(commit: &Commit) -> Vec<Uuid> {
    commit.inbox.iter().map(|row| row.message_id).collect()
}
