//! All messages on one instance.

use std::time::Duration;

use host::config::BusUrl;
use saga_core::{Client, Commit, Envelope, Message};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::broker::Publisher;
use crate::drive;
use crate::entry::{Entry, publish, submit};
use crate::machine::{Cpu, median};
use crate::order::average;
use crate::place::Pairing;
use crate::report;
use crate::rig::Rig;
use crate::sagas::{Counter, Tick};
use crate::watched::Seen;

/// What one run came to: the rate, CPU a message and the average batch.
struct Run {
    messages_per_second: f64,
    cpu_us: Cpu,
    average_batch: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let pairing = arguments.pairing();
    // Over REST nothing comes for a saga that is not the host's.
    let entries: Vec<_> =
        arguments.entries().into_iter().filter(|it| !matches!(it, Entry::Broker | Entry::Rest)).collect();
    let mut runs: Vec<(Entry, Vec<Run>)> = entries.into_iter().map(|entry| (entry, Vec::new())).collect();
    for _ in 0..arguments.runs {
        for (entry, runs) in &mut runs {
            runs.push(measure(arguments, &pairing, *entry).await);
        }
    }
    let mut told = Map::new();
    for (entry, runs) in &runs {
        let of = |value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
        let entry_told = json!({
            "messages_per_second": of(|it| it.messages_per_second),
            "cpu_us_per_message": {
                "own": of(|it| it.cpu_us.own), "database": of(|it| it.cpu_us.database),
                "broker": of(|it| it.cpu_us.broker),
            },
            "average_batch": of(|it| it.average_batch),
            "all_runs": runs.iter().map(|it| it.messages_per_second).collect::<Vec<_>>(),
        });
        told.insert(entry.name().to_owned(), entry_told);
    }
    let mut result = arguments.heading("hot");
    report::merge(&mut result, Value::Object(told));
    result
}

async fn measure(arguments: &Arguments, pairing: &Pairing, entry: Entry) -> Run {
    let (place, seen) = (pairing.place(), Seen::new(ticked, ""));
    let rig = Rig::start(&place, arguments.hosts, &seen, Duration::ZERO, |it| it.saga::<Counter>()).await;
    let counter = Uuid::now_v7();
    let way = match (entry, &place.bus) {
        (Entry::Bus, BusUrl::RabbitMq(url)) => Way::Foreign(Publisher::to(url.expose()).await),
        (Entry::Bus, BusUrl::Embedded) => Way::Published(rig.clients[0].clone()),
        (Entry::Runtime | Entry::Broker | Entry::Rest, _) => Way::Submitted(rig.clients[0].clone()),
    };
    let tick = |_| way.clone().tick(counter);
    let messages = arguments.orders();
    drive::backlog(&seen, messages.div_ceil(10), arguments.backlog, tick).await;
    let (cpu, batches) = (Cpu::now(pairing), seen.batches());
    let rate = drive::backlog(&seen, messages, arguments.backlog, tick).await;
    let cpu_us = Cpu::now(pairing).per_unit(cpu, messages);
    let average_batch = average(batches, seen.batches());
    drop(way);
    rig.stop().await;
    Run { messages_per_second: rate, cpu_us, average_batch }
}

/// How ticks come in.
#[derive(Clone)]
enum Way {
    Submitted(Client),
    Published(Client),
    Foreign(Publisher),
}

impl Way {
    async fn tick(self, counter_id: Uuid) -> Uuid {
        let tick = Tick { counter_id, amount: 1 };
        match self {
            Self::Submitted(client) => submit::<Counter>(&client, counter_id, &tick).await,
            Self::Published(client) => {
                let envelope = Envelope::new(Uuid::now_v7(), &tick).correlated(counter_id);
                client.publish(envelope).await.expect("a store that answers");
            }
            Self::Foreign(publisher) => {
                publish(&publisher, Tick::NAME, serde_json::to_value(&tick).expect("a message")).await;
            }
        }
        counter_id
    }
}

/// The messages that a commit handles.
fn ticked(commit: &Commit) -> Vec<Uuid> {
    commit.inbox.iter().map(|row| row.message_id).collect()
}
