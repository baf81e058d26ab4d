use std::sync::Arc;

use host::serve::Parts;
use order_saga::ScriptedGateway;
use saga_core::testkit::ManualClock;
use serde_json::Value;

use crate::faulty::{Faulty, Mode, wound_on};
use crate::support::{Host, approved, assert_problem, broken, fields, quick};

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn given_a_broken_gateway_when_mended_and_redriven_then_the_order_completes() {
    let host = Host::start(&quick(), [broken()]).await;
    let order = host.order().await;
    let listed = host.until_dead_letter().await;
    assert_eq!(listed["endpoint"], "order-payment");
    assert_eq!(listed["reason"], "permanent");
    assert_eq!(listed["error"], "the gateway is on fire");
    assert_eq!(listed["attempts"], 1);
    assert_eq!(listed["messageType"], "Orders:ProcessPayment");
    assert_eq!(listed["correlationId"], order["id"]);
    assert_eq!(listed.get("envelope"), None, "a list is short");

    let path = format!("/api/dead-letters/{}", listed["id"].as_str().unwrap());
    let one: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    assert_eq!(one["envelope"]["message"]["orderId"], order["id"]);
    assert_eq!(one["envelope"]["messageId"], listed["messageId"]);

    host.gateway.charges_from_now([approved()]);
    let redriven = host.rest.post(&format!("{path}/redrive"), "", &[]).await.unwrap();
    assert_eq!(redriven.status, 202, "{}", redriven.text());
    assert!(redriven.json::<Value>().unwrap()["redrivenAt"].is_string());
    host.until_notified(&order["id"], "completed").await;

    let again = host.rest.post(&format!("{path}/redrive"), "", &[]).await.unwrap();
    assert_problem(&again, 409, "already-redriven");
    let list: Value = host.rest.get("/api/dead-letters").await.unwrap().json().unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 0, "a redriven one is not listed");
    assert_eq!(host.rest.get(&path).await.unwrap().status, 200, "and still there");
}

#[tokio::test]
async fn given_dead_letters_when_listed_page_by_page_then_all_come_once() {
    let host = Host::start(&quick(), [broken()]).await;
    for _ in 0..5 {
        host.order().await;
    }
    let rest = &host.rest;
    let all = host
        .until(|| async move {
            let list: Value = rest.get("/api/dead-letters").await.unwrap().json().unwrap();
            let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
            (ids.len() == 5).then_some(ids)
        })
        .await;
    let mut seen = Vec::new();
    let mut path = "/api/dead-letters?limit=2".to_owned();
    for expected in [2, 2, 1] {
        let page: Value = rest.get(&path).await.unwrap().json().unwrap();
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), expected);
        seen.extend(items.iter().map(|it| it["id"].clone()));
        path = format!("/api/dead-letters?limit=2&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, all);
    assert!(path.ends_with("cursor="), "the last page has no cursor");
}

#[tokio::test]
async fn given_no_such_dead_letter_when_asked_then_it_is_404_and_a_bad_id_400() {
    let host = Host::start(&quick(), [approved()]).await;
    assert_problem(&host.rest.get(&format!("/api/dead-letters/{NOBODY}")).await.unwrap(), 404, "not-found");
    let redrive = format!("/api/dead-letters/{NOBODY}/redrive");
    assert_problem(&host.rest.post(&redrive, "", &[]).await.unwrap(), 404, "not-found");
    let bad = assert_problem(&host.rest.get("/api/dead-letters/1").await.unwrap(), 400, "bad-parameter");
    assert_eq!(fields(&bad), ["id"]);
    let bad = assert_problem(&host.rest.get("/api/dead-letters?limit=0&cursor=x").await.unwrap(), 400, "bad-parameter");
    assert_eq!(fields(&bad), ["limit", "cursor"]);
}

#[tokio::test]
async fn given_a_commit_that_never_ends_when_redriven_then_nobody_claims_to_know() {
    let clock = Arc::new(ManualClock::default());
    let (store, parts) = Faulty::parts();
    let host =
        Host::with(&quick(), ScriptedGateway::new([broken()]), Parts { clock: Some(clock.clone()), ..parts }).await;
    host.order().await;
    let listed = host.until_dead_letter().await;
    let path = format!("/api/dead-letters/{}/redrive", listed["id"].as_str().unwrap());
    store.turns(Mode::Hangs);
    let answer = wound_on(&clock, host.rest.post(&path, "", &[])).await.unwrap();
    let problem = assert_problem(&answer, 503, "outcome-unknown");
    assert!(problem["detail"].as_str().unwrap().contains("repeat the request"), "{problem}");
    assert_eq!(answer.header("retry-after"), Some("1"));
}
