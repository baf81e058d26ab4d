//! Memory while all orders wait in their payment.

use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::machine::resident_mib;
use crate::report;

/// Longer than any run: no payment is answered.
const NEVER: Duration = Duration::from_secs(3_600);
/// What is measured is the waiting, not the rush before it.
const REST: Duration = Duration::from_secs(3);

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let before = resident_mib();
    let flow = arguments.start(NEVER).await;
    flow.submit_all(arguments.orders()).await;
    flow.until_waiting(arguments.orders()).await;
    tokio::time::sleep(REST).await;
    let resident = resident_mib();
    flow.abort().await;
    let mut told = arguments.heading("waiting");
    report::merge(&mut told, json!({ "resident_mib": resident, "resident_mib_before": before }));
    told
}
