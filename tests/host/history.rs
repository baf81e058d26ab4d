use saga_core::{Flow, JournalOutcome};
use serde_json::Value;

use crate::support::{Host, approved, broken, quick};

#[tokio::test]
async fn given_a_completed_order_when_its_history_is_shown_then_every_step_is_there() {
    let host = Host::start(&quick(), [approved()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    let path = format!("/api/orders/{}/history", order["id"].as_str().unwrap());
    let history: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    let steps: Vec<_> = history["items"].as_array().unwrap().iter().filter(|it| !it["from"].is_null()).collect();
    let shape: Vec<_> = steps
        .iter()
        .map(|it| [&it["messageType"], &it["from"], &it["to"], &it["outcome"]].map(|it| it.as_str().unwrap()))
        .collect();
    assert_eq!(
        shape,
        [
            ["Orders:OrderSubmitted", "New", "Pending", "moved"],
            ["Orders:OrderCreated", "Pending", "Processing", "moved"],
            ["Orders:PaymentApproved", "Processing", "Completed", "moved"],
        ]
    );
    assert_eq!(steps[0]["message"]["total"], "99.80");
    assert_eq!(steps[0]["user"], "local");
    assert_eq!(steps[0]["attempt"], 1);
    let effects = steps[1]["effects"].as_array().unwrap();
    assert!(effects.iter().any(|it| it["kind"] == "call" && it["name"] == "Orders:ProcessPayment"), "{effects:?}");
}

#[tokio::test]
async fn given_a_broken_gateway_when_the_history_is_shown_then_the_error_is_in_it() {
    let host = Host::start(&quick(), [broken()]).await;
    let order = host.order().await;
    host.until_dead_letter().await;
    let path = format!("/api/orders/{}/history", order["id"].as_str().unwrap());
    let history: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    let faulted: Vec<_> = history["items"].as_array().unwrap().iter().filter(|it| it["outcome"] == "faulted").collect();
    assert_eq!(faulted.len(), 1, "{history}");
    assert_eq!(faulted[0]["error"], "the gateway is on fire");
    assert_eq!(faulted[0]["endpoint"], "order-payment");
}

#[tokio::test]
async fn given_an_order_when_exported_as_a_flow_then_it_can_be_read_back() {
    let host = Host::start(&quick(), [approved()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    let path = format!("/api/orders/{}/history?format=flow", order["id"].as_str().unwrap());
    let answer = host.rest.get(&path).await.unwrap();
    assert_eq!(answer.header("content-type"), Some("application/jsonl"));
    let flow = Flow::read(&answer.text()).unwrap();
    assert_eq!(flow.header.saga, "order");
    assert_eq!(flow.header.id.to_string(), order["id"].as_str().unwrap());
    let moved =
        flow.steps.iter().filter(|step| step.outcome == JournalOutcome::Moved && step.version.is_some()).count();
    assert_eq!(moved as u64, flow.end.version);
    assert_eq!(flow.end.state, "Completed");
    assert_eq!(flow.end.data.read::<Value>().unwrap()["total"], "99.80");
}

#[tokio::test]
async fn given_another_format_when_asked_then_it_is_named() {
    let host = Host::start(&quick(), [approved()]).await;
    let order = host.order().await;
    let path = format!("/api/orders/{}/history?format=xml", order["id"].as_str().unwrap());
    let problem = crate::support::assert_problem(&host.rest.get(&path).await.unwrap(), 400, "bad-parameter");
    assert_eq!(crate::support::fields(&problem), ["format"]);
}
