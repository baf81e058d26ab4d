//! Handlers that panic, take too long, or lose their caller: the connection lives, and a commit is never cut.

use std::sync::Arc;

use async_trait::async_trait;
use host::serve::{Parts, Service};
use order_saga::ScriptedGateway;
use saga_core::testkit::ManualClock;
use saga_core::{Point, Probe};
use serde_json::Value;

use super::socket::{LIVE, Raw};
use crate::faulty::{Faulty, Mode, wound_on};
use crate::support::{Host, approved, assert_problem, broken, quick, small};

/// A submission under a key.
fn submission(key: &str) -> String {
    let body = small().to_string();
    let length = body.len();
    format!(
        "POST /api/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

struct PanicsOnSubmission;

#[async_trait]
impl Probe for PanicsOnSubmission {
    async fn reached(&self, point: Point) {
        assert_ne!(point, Point::Submitted, "not-to-be-told");
    }
}

#[tokio::test]
async fn given_a_handler_that_panics_when_it_is_called_then_it_is_500_and_the_connection_lives() {
    let parts = Parts { probe: Some(Arc::new(PanicsOnSubmission)), ..Parts::default() };
    let service = Service::start(&quick(), parts).await.unwrap();
    let mut raw = Raw::open(service.address).await;
    for key in ["one", "two"] {
        raw.say(submission(key)).await;
        let said = raw.answer().await;
        said.problem(500);
        assert!(!said.body.contains("not-to-be-told"));
        raw.say(LIVE).await;
        assert_eq!(raw.answer().await.status, 200, "on the same connection");
    }
}

#[tokio::test]
async fn given_a_read_that_never_ends_when_its_time_is_over_then_it_is_503_and_the_connection_lives() {
    let clock = Arc::new(ManualClock::default());
    let (store, parts) = Faulty::parts();
    let parts = Parts { clock: Some(clock.clone()), ..parts };
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    store.turns(Mode::Hangs);
    let mut raw = Raw::open(host.service.address).await;
    raw.say("GET /api/dead-letters HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let said = wound_on(&clock, raw.answer()).await;
    assert_eq!(said.problem(503)["type"], "urn:saga-host:problem:unavailable");
    assert_eq!(said.header("retry-after"), Some("1"));
    raw.say(LIVE).await;
    assert_eq!(raw.answer().await.status, 200, "on the same connection");
}

#[tokio::test]
async fn given_a_caller_that_goes_away_when_its_commit_is_under_way_then_the_commit_stands() {
    let (store, parts) = Faulty::parts();
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    store.turns(Mode::Waits);
    let mut raw = Raw::open(host.service.address).await;
    raw.say(submission("gone")).await;
    store.until_waiting(1).await;
    raw.reset();
    // The server has seen that the caller is gone when it answers others that came later.
    host.rest.get("/health/live").await.unwrap();
    store.turns(Mode::Works);
    let rest = &host.rest;
    let order = host
        .until(|| async move {
            let list: Value = rest.get("/api/orders").await.unwrap().json().unwrap();
            list["items"].as_array().unwrap().first().cloned()
        })
        .await;
    host.until_notified(&order["id"], "completed").await;
    let key = [("Idempotency-Key", "gone")];
    let again = host.rest.post("/api/orders", &small().to_string(), &key).await.unwrap();
    assert_eq!((again.status, &again.json::<Value>().unwrap()["id"]), (200, &order["id"]));
}

#[tokio::test]
async fn given_a_caller_that_was_told_of_an_unknown_outcome_when_the_commit_ends_then_it_stands() {
    let clock = Arc::new(ManualClock::default());
    let (store, parts) = Faulty::parts();
    let parts = Parts { clock: Some(clock.clone()), ..parts };
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    store.turns(Mode::Waits);
    let (body, key) = (small().to_string(), [("Idempotency-Key", "late")]);
    let late = wound_on(&clock, host.rest.post("/api/orders", &body, &key)).await.unwrap();
    assert_problem(&late, 503, "outcome-unknown");
    store.turns(Mode::Works);
    let again = wound_on(&clock, host.rest.post("/api/orders", &body, &key)).await.unwrap();
    assert_eq!(again.status, 200, "the commit was not cut: {}", again.text());
}

#[tokio::test]
async fn given_a_caller_that_goes_away_when_its_redrive_is_under_way_then_the_redrive_stands() {
    let (store, parts) = Faulty::parts();
    let host = Host::with(&quick(), ScriptedGateway::new([broken(), approved()]), parts).await;
    let order = host.order().await;
    let dead = host.until_dead_letter().await;
    store.turns(Mode::Waits);
    let mut raw = Raw::open(host.service.address).await;
    let path = format!("/api/dead-letters/{}/redrive", dead["id"].as_str().unwrap());
    raw.say(format!("POST {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    store.until_waiting(1).await;
    raw.reset();
    host.rest.get("/health/live").await.unwrap();
    store.turns(Mode::Works);
    host.until_notified(&order["id"], "completed").await;
    assert_problem(&host.rest.post(&path, "", &[]).await.unwrap(), 409, "already-redriven");
}
