//! What a service costs that has nothing to do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::entry::Entry;
use crate::machine::Cpu;
use crate::report;

/// How long the idle service is watched.
const IDLE: Duration = Duration::from_secs(20);
/// What follows the last notification, settling, ends long before.
const SETTLING: Duration = Duration::from_secs(1);
/// How many orders it has handled before.
const ORDERS: usize = 1_000;
const WINDOW: usize = 100;

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let (flow, pairing) = (arguments.start(Duration::ZERO).await, arguments.pairing());
    let way = flow.way(Entry::Runtime).await;
    flow.backlog(&way, ORDERS, WINDOW).await;
    tokio::time::sleep(SETTLING).await;
    let (cpu, calls) = (Cpu::now(&pairing), flow.seen.calls());
    tokio::time::sleep(IDLE).await;
    let (now, calls) = (Cpu::now(&pairing), flow.seen.calls() - calls);
    flow.stop().await;
    let share = |now: f64, before: f64| (now - before) / IDLE.as_secs_f64() * 100.0;
    let mut told = arguments.heading("idle");
    report::merge(
        &mut told,
        json!({
            "seconds": IDLE.as_secs(), "store_calls": calls, "percent_of_a_core": share(now.own, cpu.own),
            "percent_of_a_core_database": share(now.database, cpu.database),
            "percent_of_a_core_broker": share(now.broker, cpu.broker),
        }),
    );
    told
}
