//! Whether memory stays as it is while orders pass.

use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::machine::resident_mib;
use crate::report;

/// How often memory is looked at: ten times in a run.
const LOOKS: usize = 10;

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let entry = arguments.entries()[0];
    let flow = arguments.start(Duration::ZERO).await;
    let way = flow.way(entry).await;
    let step = arguments.orders().div_ceil(LOOKS);
    // Buffers, caches and pools have their size after the first of these.
    flow.backlog(&way, step, arguments.backlog).await;
    let begin = resident_mib();
    let mut looks = Vec::new();
    for look in 1..=LOOKS {
        let rate = flow.backlog(&way, step, arguments.backlog).await;
        looks.push(json!({ "orders": look * step, "resident_mib": resident_mib(), "orders_per_second": rate }));
    }
    let growth = resident_mib() - begin;
    drop(way);
    flow.stop().await;
    let mut told = arguments.heading("memory");
    let per_order = growth * 1024.0 * 1024.0 / (step * LOOKS) as f64;
    report::merge(
        &mut told,
        json!({
            "entry": entry.name(), "resident_mib_at_first": begin,
            "growth_mib": growth, "growth_bytes_per_order": per_order, "memory_mib": looks,
        }),
    );
    told
}
