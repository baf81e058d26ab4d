//! Submissions: what is taken, what is refused and how that is said, and keys.

use std::sync::Arc;

use async_trait::async_trait;
use host::rest::Rest;
use host::serve::{Parts, Service};
use hyper::Method;
use order_saga::ScriptedGateway;
use saga_core::testkit::ManualClock;
use saga_core::{Point, Probe};
use serde_json::{Value, json};

use crate::faulty::{Faulty, Mode, wound_on};
use crate::support::{Host, approved, assert_problem, declined, fields, quick, small};

async fn post(host: &Host, body: &str) -> host::rest::Answer {
    host.rest.post("/api/orders", body, &[]).await.unwrap()
}

#[tokio::test]
async fn given_an_order_when_submitted_then_it_is_created_and_completes() {
    let host = Host::start(&quick(), [approved()]).await;
    let body = json!({ "items": [
        { "productId": "tea", "quantity": 2, "price": "49.9" },
        { "productId": "cup", "quantity": 1, "price": "0" },
    ] });
    let answer = post(&host, &body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let order: Value = answer.json().unwrap();
    let id = order["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(format!("/api/orders/{id}").as_str()));
    assert_eq!(id.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
    assert_eq!(order["userId"], "local");
    assert_eq!(order["total"], "99.80");
    assert_eq!(
        order["items"],
        json!([
            { "productId": "tea", "quantity": 2, "price": "49.90" },
            { "productId": "cup", "quantity": 1, "price": "0.00" },
        ])
    );
    for time in ["createdAt", "updatedAt"] {
        let text = order[time].as_str().unwrap();
        assert!(text.ends_with('Z') && text.len() == "2026-11-23T12:00:00.000000Z".len(), "{text}");
    }
    host.until_notified(&order["id"], "completed").await;
}

#[tokio::test]
async fn given_a_bad_body_when_submitted_then_every_bad_field_is_named_and_nothing_is_stored() {
    let host = Host::start(&quick(), [approved()]).await;
    let item = |text: &str| format!(r#"{{"items":[{text}]}}"#);
    let many = vec![r#"{"productId":"a","quantity":1,"price":"1"}"#; 101].join(",");
    let dear = r#"{"productId":"a","quantity":10000,"price":"1000000"}"#;
    let cases: Vec<(String, &[&str])> = vec![
        (r#"{"items":[]}"#.into(), &["items"]),
        (r#"{}"#.into(), &["items"]),
        (r#"{"items":null}"#.into(), &["items"]),
        (r#"{"items":{}}"#.into(), &["items"]),
        (r#"[]"#.into(), &["body"]),
        (r#""text""#.into(), &["body"]),
        (r#"{"items":[],"items":[]}"#.into(), &["items"]),
        (item(&many), &["items"]),
        (item(dear), &["items"]),
        (item("1"), &["items[0]"]),
        (item("{}"), &["items[0].productId", "items[0].quantity", "items[0].price"]),
        (item(r#"{"productId":"a","quantity":0,"price":"1"}"#), &["items[0].quantity"]),
        (item(r#"{"productId":"a","quantity":-1,"price":"1"}"#), &["items[0].quantity"]),
        (item(r#"{"productId":"a","quantity":1.5,"price":"1"}"#), &["items[0].quantity"]),
        (item(r#"{"productId":"a","quantity":1e3,"price":"1"}"#), &["items[0].quantity"]),
        (item(r#"{"productId":"a","quantity":"1","price":"1"}"#), &["items[0].quantity"]),
        (item(r#"{"productId":"a","quantity":true,"price":"1"}"#), &["items[0].quantity"]),
        (item(r#"{"productId":"a","quantity":99999999999999999999,"price":"1"}"#), &["items[0].quantity"]),
        (item(r#"{"productId":"a","quantity":1,"price":1}"#), &["items[0].price"]),
        (item(r#"{"productId":"a","quantity":1,"price":"-1"}"#), &["items[0].price"]),
        (item(r#"{"productId":"a","quantity":1,"price":"1e3"}"#), &["items[0].price"]),
        (item(r#"{"productId":"a","quantity":1,"price":"1.999"}"#), &["items[0].price"]),
        (item(r#"{"productId":"a","quantity":1,"price":"9999999999999999999999999999999999"}"#), &["items[0].price"]),
        (item(r#"{"productId":"a","quantity":1,"price":""}"#), &["items[0].price"]),
        (item(r#"{"productId":"a","quantity":1,"price":"NaN"}"#), &["items[0].price"]),
        (item(r#"{"productId":7,"quantity":1,"price":"1"}"#), &["items[0].productId"]),
        (item(r#"{"productId":" ","quantity":1,"price":"1"}"#), &["items[0].productId"]),
        (item(r#"{"productId":"a","quantity":1,"price":"1","productId":"b"}"#), &["items[0].productId"]),
        (item(r#"{"productId":"a","quantity":1,"price":"1","colour":"red"}"#), &["items[0].colour"]),
        (r#"{"items":[{"productId":"a","quantity":1,"price":"1"}],"note":""}"#.into(), &["note"]),
        (
            r#"{"x":1,"items":[{"productId":"a","quantity":0,"price":1},{"productId":"","quantity":1,"price":"1"}]}"#
                .into(),
            &["x", "items[0].price", "items[0].quantity", "items[1].productId"],
        ),
    ];
    for (body, expected) in cases {
        let shown: String = body.chars().take(120).collect();
        let answer = post(&host, &body).await;
        let problem = assert_problem(&answer, 422, "invalid-order");
        assert_eq!(fields(&problem), expected, "{shown}");
        for error in problem["errors"].as_array().unwrap() {
            assert!(!error["detail"].as_str().unwrap().is_empty(), "{shown}");
        }
    }
    let list: Value = host.rest.get("/api/orders").await.unwrap().json().unwrap();
    assert_eq!(list["items"], json!([]), "nothing is stored for a refused request");
    assert_eq!(host.service.orders.count().await.unwrap().iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[tokio::test]
async fn given_thousands_of_bad_fields_when_submitted_then_the_answer_stays_short() {
    let host = Host::start(&quick(), [approved()]).await;
    let fields: Vec<String> = (0..3000).map(|n| format!(r#""f{n}":1"#)).collect();
    let answer = post(&host, &format!("{{{}}}", fields.join(","))).await;
    let problem = assert_problem(&answer, 422, "invalid-order");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
    assert_eq!(problem["detail"], "2901 more errors are not shown");
}

#[tokio::test]
async fn given_what_is_no_json_when_submitted_then_it_is_400_and_not_repeated() {
    let host = Host::start(&quick(), [approved()]).await;
    for body in ["", "{", "{\"items\":}", "not-to-be-repeated", "{} {}", "\u{feff}{}", "{'items':1}"] {
        let answer = post(&host, body).await;
        assert_problem(&answer, 400, "bad-json");
        assert!(!answer.text().contains("not-to-be-repeated"));
    }
    let deep = format!("{{\"items\":{}", "[".repeat(30_000));
    assert_problem(&post(&host, &deep).await, 400, "bad-json");
    let invalid =
        host.rest.send(Method::POST, "/api/orders", &[("content-type", "application/json")], vec![b'"', 0xff, b'"']);
    assert_problem(&invalid.await.unwrap(), 400, "bad-json");
}

#[tokio::test]
async fn given_a_body_over_the_limit_when_submitted_then_it_is_413() {
    let host = Host::start(&quick(), [approved()]).await;
    let fill = |length: usize| {
        let text = small().to_string();
        format!("{text}{}", " ".repeat(length - text.len()))
    };
    assert_problem(&post(&host, &fill(64 * 1024 + 1)).await, 413, "too-large");
    assert_eq!(post(&host, &fill(64 * 1024)).await.status, 201);
}

#[tokio::test]
async fn given_another_content_type_when_submitted_then_it_is_415() {
    let host = Host::start(&quick(), [approved()]).await;
    let send = async |headers: &[(&str, &str)]| {
        host.rest.send(Method::POST, "/api/orders", headers, small().to_string()).await.unwrap()
    };
    for headers in [
        [].as_slice(),
        &[("content-type", "text/plain")],
        &[("content-type", "application/jsonx")],
        &[("content-type", "application/json; charset=latin1")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
    ] {
        assert_problem(&send(headers).await, 415, "unsupported-media-type");
    }
    for content_type in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
        assert_eq!(send(&[("content-type", content_type)]).await.status, 201, "{content_type}");
    }
}

#[tokio::test]
async fn given_a_key_when_submitted_again_then_the_same_order_is_the_answer() {
    let host = Host::start(&quick(), [declined()]).await;
    let key = [("Idempotency-Key", "order-1")];
    let first = host.rest.post("/api/orders", &small().to_string(), &key).await.unwrap();
    assert_eq!(first.status, 201);
    let same_meaning = r#" {"items": [{"price":"49.9","quantity":2,"productId":"tea"}]} "#;
    let again = host.rest.post("/api/orders", same_meaning, &key).await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.header("location"), first.header("location"));
    let (first, again): (Value, Value) = (first.json().unwrap(), again.json().unwrap());
    assert_eq!(again["id"], first["id"]);
    let other = r#"{"items":[{"productId":"tea","quantity":3,"price":"49.90"}]}"#;
    let answer = host.rest.post("/api/orders", other, &key).await.unwrap();
    let problem = assert_problem(&answer, 422, "idempotency-key-reused");
    assert_eq!(fields(&problem), ["Idempotency-Key"]);
    let list: Value = host.rest.get("/api/orders").await.unwrap().json().unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn given_one_key_when_submitted_at_the_same_time_then_there_is_one_order() {
    let host = Host::start(&quick(), [declined()]).await;
    let body = small().to_string();
    let submit = || host.rest.post("/api/orders", &body, &[("Idempotency-Key", "race")]);
    let answers = futures_util::future::join_all((0..20).map(|_| submit())).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let ids: std::collections::HashSet<String> =
        answers.iter().map(|answer| answer.json::<Value>().unwrap()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 19);
}

#[tokio::test]
async fn given_a_bad_key_when_submitted_then_it_is_400() {
    let host = Host::start(&quick(), [approved()]).await;
    let body = small().to_string();
    for key in ["", "with space", "tab\tin", "ümlaut", &"x".repeat(256)] {
        let answer = host.rest.post("/api/orders", &body, &[("Idempotency-Key", key)]).await.unwrap();
        let problem = assert_problem(&answer, 400, "bad-parameter");
        assert_eq!(fields(&problem), ["Idempotency-Key"], "{key:?}");
    }
    let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")];
    assert_problem(&host.rest.post("/api/orders", &body, &twice).await.unwrap(), 400, "bad-parameter");
    let longest = "x".repeat(255);
    let answer = host.rest.post("/api/orders", &body, &[("Idempotency-Key", &longest)]).await.unwrap();
    assert_eq!(answer.status, 201);
}

struct PanicsOnSubmission;

#[async_trait]
impl Probe for PanicsOnSubmission {
    async fn reached(&self, point: Point) {
        assert_ne!(point, Point::Submitted, "not-to-be-told");
    }
}

#[tokio::test]
async fn given_a_handler_that_panics_when_submitted_then_it_is_500_without_a_word_and_the_order_is_there() {
    let parts = Parts { probe: Some(Arc::new(PanicsOnSubmission)), ..Parts::default() };
    let service = Service::start(&quick(), parts).await.unwrap();
    let rest = Rest::new(service.address);
    let key = [("Idempotency-Key", "again")];
    let answer = rest.post("/api/orders", &small().to_string(), &key).await.unwrap();
    assert_problem(&answer, 500, "internal");
    assert!(!answer.text().contains("not-to-be-told"));
    assert!(answer.header("x-request-id").is_some());
    let again = rest.post("/api/orders", &small().to_string(), &key).await.unwrap();
    assert_eq!(again.status, 200, "what was committed is answered to whoever asks again");
}

#[tokio::test]
async fn given_a_commit_that_never_ends_when_submitted_then_nobody_claims_to_know_whether_the_order_is_stored() {
    let clock = Arc::new(ManualClock::default());
    let (store, parts) = Faulty::parts();
    let host =
        Host::with(&quick(), ScriptedGateway::new([approved()]), Parts { clock: Some(clock.clone()), ..parts }).await;
    store.turns(Mode::Hangs);
    let body = small().to_string();
    let keyed = wound_on(&clock, host.rest.post("/api/orders", &body, &[("Idempotency-Key", "slow")])).await.unwrap();
    let problem = assert_problem(&keyed, 503, "outcome-unknown");
    assert_eq!(problem["detail"], "it is not known whether the order is stored; repeat with the same Idempotency-Key");
    assert_eq!(keyed.header("retry-after"), Some("1"));
    let keyless = wound_on(&clock, host.rest.post("/api/orders", &body, &[])).await.unwrap();
    let problem = assert_problem(&keyless, 503, "outcome-unknown");
    assert!(problem["detail"].as_str().unwrap().contains("look for it in GET /api/orders before"), "{problem}");
    assert_eq!(keyless.header("retry-after"), None, "nobody is asked to submit a second order");
}

#[tokio::test]
async fn given_a_commit_whose_answer_was_lost_when_submitted_then_the_order_is_created_all_the_same() {
    let (store, parts) = Faulty::parts();
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    store.turns(Mode::LosesOneAnswer);
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    assert_eq!(host.service.orders.count().await.unwrap().iter().map(|(_, count)| count).sum::<u64>(), 1);
}
