//! Looking at orders: one, lists, notifications; and what every path has in common.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{Host, approved, assert_problem, declined, fields, quick};

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

async fn list(host: &Host, query: &str) -> Value {
    let answer = host.rest.get(&format!("/api/orders{query}")).await.unwrap();
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json().unwrap()
}

fn ids(list: &Value) -> Vec<Value> {
    list["items"].as_array().unwrap().iter().map(|order| order["id"].clone()).collect()
}

#[tokio::test]
async fn given_orders_when_listed_page_by_page_then_all_come_once_newest_first() {
    let host = Host::start(&quick(), [declined()]).await;
    let mut submitted = Vec::new();
    for _ in 0..25 {
        submitted.push(host.order().await["id"].clone());
    }
    submitted.reverse();
    let first = list(&host, "").await;
    assert_eq!(ids(&first), submitted[..20], "20 if nothing is said");
    let mut seen = Vec::new();
    let mut query = "?limit=10".to_owned();
    for expected in [10, 10, 5] {
        let page = list(&host, &query).await;
        assert_eq!(ids(&page).len(), expected);
        seen.extend(ids(&page));
        query = format!("?limit=10&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
    }
    assert_eq!(query, "?limit=10&cursor=", "the last page has no cursor");
    assert_eq!(seen, submitted);
    assert_eq!(list(&host, "?limit=25").await.get("nextCursor"), None, "a full last page has none either");
}

#[tokio::test]
async fn given_orders_when_listed_by_status_then_only_those_come() {
    let host = Host::start(&quick(), [approved()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    assert_eq!(ids(&list(&host, "?status=completed").await), [order["id"].clone()]);
    for status in ["pending", "processing", "expired"] {
        assert_eq!(list(&host, &format!("?status={status}")).await, json!({ "items": [] }));
    }
    assert_eq!(ids(&list(&host, "?status=&limit=&cursor=").await).len(), 1, "empty is not said");
}

#[tokio::test]
async fn given_bad_parameters_when_listed_then_each_is_named() {
    let host = Host::start(&quick(), [approved()]).await;
    for (query, expected) in [
        ("?status=lost", ["status"].as_slice()),
        ("?limit=0", &["limit"]),
        ("?limit=101", &["limit"]),
        ("?limit=-1", &["limit"]),
        ("?limit=ten", &["limit"]),
        ("?limit=99999999999999999999999", &["limit"]),
        ("?cursor=x", &["cursor"]),
        ("?cursor=b0000", &["cursor"]),
        ("?page=2", &["page"]),
        ("?limit=1&limit=2", &["limit"]),
        ("?status=x&limit=x&cursor=!&y=1", &["y", "status", "limit", "cursor"]),
    ] {
        let problem =
            assert_problem(&host.rest.get(&format!("/api/orders{query}")).await.unwrap(), 400, "bad-parameter");
        assert_eq!(fields(&problem), expected, "{query}");
    }
}

#[tokio::test]
async fn given_no_such_order_when_looked_at_then_it_is_404_and_a_bad_id_400() {
    let host = Host::start(&quick(), [approved()]).await;
    for tail in ["", "/history", "/history?format=flow", "/notifications"] {
        assert_problem(&host.rest.get(&format!("/api/orders/{NOBODY}{tail}")).await.unwrap(), 404, "not-found");
        for id in ["1", "not-a-uuid", "01890a5dac96774bbcceb302099a8057", "%00"] {
            let problem =
                assert_problem(&host.rest.get(&format!("/api/orders/{id}{tail}")).await.unwrap(), 400, "bad-parameter");
            assert_eq!(fields(&problem), ["id"], "{id}");
        }
    }
}

#[tokio::test]
async fn given_a_completed_order_when_its_notifications_are_listed_then_there_is_one() {
    let host = Host::start(&quick(), [approved()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    let path = format!("/api/orders/{}/notifications", order["id"].as_str().unwrap());
    let list: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["orderId"], order["id"]);
    assert_eq!(items[0]["userId"], "local");
    assert_eq!(items[0]["kind"], "completed");
    assert_eq!(items[0]["attempts"], 1);
}

#[tokio::test]
async fn given_a_path_or_method_that_is_not_there_when_asked_then_it_is_a_problem() {
    let host = Host::start(&quick(), [approved()]).await;
    let order = host.order().await;
    for path in ["/", "/nope", "/api", "/api/orders/", "/api/orders/1/2/3", "/metrics/x", "/docs/x"] {
        assert_problem(&host.rest.get(path).await.unwrap(), 404, "not-found");
    }
    let one = format!("/api/orders/{}", order["id"].as_str().unwrap());
    for (method, path, allow) in [
        (Method::PUT, "/api/orders", "GET, POST, HEAD"),
        (Method::DELETE, one.as_str(), "GET, HEAD"),
        (Method::POST, "/metrics", "GET, HEAD"),
        (Method::POST, "/docs", "GET, HEAD"),
        (Method::GET, "/api/dead-letters/1/redrive", "POST"),
    ] {
        let answer = host.rest.send(method.clone(), path, &[], "").await.unwrap();
        assert_problem(&answer, 405, "method-not-allowed");
        let mut allowed: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
        let mut expected: Vec<_> = allow.split(", ").collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{method} {path}");
    }
    let head = host.rest.send(Method::HEAD, &one, &[], "").await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn given_a_request_id_when_asked_then_it_comes_back_if_it_is_plain() {
    let host = Host::start(&quick(), [approved()]).await;
    let ask = async |id: &str| {
        let answer = host.rest.send(Method::GET, "/health/live", &[("x-request-id", id)], "").await.unwrap();
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(ask("my-id_1.2").await, "my-id_1.2");
    for id in ["with space", &"x".repeat(65)] {
        assert_eq!(ask(id).await.parse::<uuid::Uuid>().unwrap().get_version_num(), 7, "{id:?} is replaced");
    }
    let made = host.rest.get("/nope").await.unwrap();
    assert!(made.header("x-request-id").is_some(), "errors have one, too");
}
