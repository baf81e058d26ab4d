//! Each example, run as it runs from the command line but for its `main`.

use std::collections::BTreeSet;

#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/expired_then_paid.rs"]
mod expired_then_paid;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/first_saga.rs"]
mod first_saga;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/order_flow.rs"]
mod order_flow;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/retry_then_redrive.rs"]
mod retry_then_redrive;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/trip/main.rs"]
mod trip;

/// The story tells these lines, in this order.
#[track_caller]
fn tells(story: &str, lines: &[&str]) {
    let mut rest = story;
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("{line:?} is not told, or too early, in:\n{story}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn first_saga() {
    let story = first_saga::story();
    tells(&story, &["late: Moved(", "Library:CalledBack", "back: Moved(", "Unschedule", "New --> Out: Lent / lend"]);
}

#[tokio::test]
async fn trip() {
    let booked = trip::trip(BTreeSet::new()).await.unwrap();
    tells(&booked, &["TripBooked", "Trips:BookTrip", "Reserving  → Booked"]);
    let cancelled = trip::trip(BTreeSet::from([trip::Part::Car])).await.unwrap();
    tells(&cancelled, &["TripCancelled", "Car: sold out", "Reserving  → Cancelling", "Cancelling → Cancelled"]);
}

#[tokio::test]
async fn order_flow() {
    let story = order_flow::story().await.unwrap();
    let steps =
        ["Orders:OrderSubmitted", "→ Pending", "→ Processing", "causes a row, Orders:ProcessPayment", "→ Completed"];
    tells(&story, &["submitted: Handled(Moved)", "submitted: Duplicate", "mail to ada: paid 99.80", "is completed"]);
    tells(&story, &steps);
    tells(&story, &["notified: completed, paid 99.80; mail sent"]);
    assert_eq!(story.matches("notified").count(), 1, "{story}");
}

#[test]
fn expired_then_paid() {
    let (story, flow) = expired_then_paid::story().unwrap();
    let lines = [
        "12:00:00  Ada orders two pounds of tea: the order is processing",
        "12:11:00  the expiry job looks: the order is expired",
        "12:15:00  the bank approves after all: the order is expired",
        "charged 1 and refunded 1",
        "Orders:PaymentRefunded",
        "notified: expired",
    ];
    tells(&story, &lines);
    recorded("expired_then_paid", &flow);
}

#[test]
fn retry_then_redrive() {
    let (story, flow) = retry_then_redrive::story().unwrap();
    let lines = [
        "12:01:00  the gateway was away four times: the order is processing",
        "dead letter: Orders:ProcessPayment after 4 attempts, transient: the gateway is away",
        "the dead letter is redriven: the order is completed",
        "called 5 times, under 1 idempotency key",
        "Orders:PaymentFailed",
        "Orders:PaymentApproved",
        "notified: completed",
    ];
    tells(&story, &lines);
    assert_eq!(story.matches("retried (the gateway is away)").count(), 3, "{story}");
    recorded("retried", &flow);
}

/// The committed flow is what the example records: its clock and its ids leave nothing to chance.
#[track_caller]
fn recorded(name: &str, flow: &str) {
    let committed = super::read(&format!("examples/flows/{name}.jsonl"));
    assert_eq!(committed, flow, "the example records another flow today; if that is meant, record it again");
}
