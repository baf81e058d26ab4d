//! Many timers that are due within a minute: how late they are; and how many a second, where all are due at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use saga_core::{Commit, Message};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::drive::Latency;
use crate::entry::submit;
use crate::machine::median;
use crate::report;
use crate::rig::Rig;
use crate::sagas::{Alarm, Rang, Set};
use crate::watched::Seen;

/// How many alarms are set at the same time.
const SETTING: usize = 512;
/// How many alarms are set a second at the least: so long before the first is due the setting begins.
const SLOWEST: usize = 4_000;
/// The least time before the first is due.
const LEAD: Duration = Duration::from_secs(2);

struct Run {
    lateness: Latency,
    latest_ms: f64,
    fired_per_second: f64,
    set_per_second: f64,
    set_in_time: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let (mut spread, mut at_once) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        spread.push(measure(arguments, arguments.within).await);
        at_once.push(measure(arguments, Duration::ZERO).await);
    }
    let mut told = arguments.heading("timers");
    let within = arguments.within.as_secs_f64();
    let due_per_second = arguments.orders() as f64 / within;
    report::merge(
        &mut told,
        json!({
            "due_within_seconds": within, "due_per_second": due_per_second,
            "spread": medians(&spread), "all_at_once": medians(&at_once),
        }),
    );
    told
}

fn medians(runs: &[Run]) -> Value {
    let of = |value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
    json!({
        "lateness_ms": {
            "p50": of(|it| it.lateness.p50), "p99": of(|it| it.lateness.p99), "latest": of(|it| it.latest_ms),
        },
        "fired_per_second": of(|it| it.fired_per_second),
        "set_per_second": of(|it| it.set_per_second),
        "set_in_time": runs.iter().all(|it| it.set_in_time),
    })
}

/// Sets all alarms, then waits until all have rung.
async fn measure(arguments: &Arguments, within: Duration) -> Run {
    let (timers, seen) = (arguments.orders(), Seen::new(rung, ""));
    let place = arguments.pairing().place();
    let rig = Rig::start(&place, arguments.hosts, &seen, Duration::ZERO, |it| it.saga::<Alarm>()).await;
    let lead = LEAD.max(Duration::from_secs((timers / SLOWEST) as u64));
    let (started, first) = (Instant::now(), Utc::now() + lead);
    seen.take_times();
    let set = |number: usize| {
        let (client, seen) = (rig.clients[number % rig.clients.len()].clone(), Arc::clone(&seen));
        let after = within.mul_f64(number as f64 / timers as f64);
        async move {
            let (alarm_id, due) = (Uuid::now_v7(), first + TimeDelta::from_std(after).unwrap_or_default());
            seen.begun(alarm_id, started + lead + after);
            submit::<Alarm>(&client, alarm_id, &Set { alarm_id, due }).await;
        }
    };
    // In no order of their times: the next that is due is seldom the last that was set.
    let order = (0..timers).map(|number| number * STRIDE % timers.max(1));
    stream::iter(order).for_each_concurrent(SETTING, set).await;
    let setting = started.elapsed();
    seen.until_finished(timers).await;
    let firing = started.elapsed().saturating_sub(lead);
    rig.stop().await;
    let (took, _) = seen.took();
    Run {
        lateness: Latency::of(&took),
        latest_ms: took.iter().copied().fold(0.0, f64::max),
        fired_per_second: timers as f64 / firing.as_secs_f64(),
        set_per_second: timers as f64 / setting.as_secs_f64(),
        set_in_time: setting <= lead,
    }
}

/// A prime that no sensible number of timers has as a factor, so that each number comes once.
const STRIDE: usize = 7_919;

/// The alarms that a commit rings.
fn rung(commit: &Commit) -> Vec<Uuid> {
    let rung = commit.journal.iter().filter(|row| row.message_type == Rang::NAME);
    rung.map(|row| row.id).collect()
}
