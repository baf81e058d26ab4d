//! The whole order flow, REST included, on each sensible pairing of store and bus.

use std::time::Duration;

use host::config::{BusUrl, Config, StoreUrl};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::{Postgres, Rabbit};

use crate::support::{Host, approved, broken, declined, quick, small};

/// A configuration on one pairing, and what it stands on.
struct Pairing {
    config: Config,
    /// Where a file is kept.
    _folder: TempDir,
}

fn pairing(store: &str, bus: &str) -> Pairing {
    let folder = tempfile::tempdir().unwrap();
    let mut config = quick();
    config.store = match store {
        "memory" => StoreUrl::Memory,
        "sqlite" => StoreUrl::Sqlite(folder.path().join("orders.db")),
        _ => Postgres::shared().database().parse().unwrap(),
    };
    config.bus = match bus {
        "embedded" => BusUrl::Embedded,
        _ => Rabbit::shared().vhost().parse().unwrap(),
    };
    Pairing { config, _folder: folder }
}

/// The history of an order: what came, and what it came to.
async fn history(host: &Host, order: &Value) -> Vec<(String, String)> {
    let path = format!("/api/orders/{}/history", order["id"].as_str().unwrap());
    let history: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let lines = history["items"].as_array().unwrap().iter();
    lines.map(|it| (text(&it["messageType"]).replace("Orders:", ""), text(&it["outcome"]))).collect()
}

fn moved(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "moved".to_owned())).collect()
}

async fn an_order_is_completed_and_told_once(config: &Config) {
    let host = Host::start(config, [approved()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    assert_eq!(history(&host, &order).await, moved(&["OrderSubmitted", "OrderCreated", "PaymentApproved"]));
    let path = format!("/api/orders/{}/notifications", order["id"].as_str().unwrap());
    let told: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
    host.stopped().await.unwrap();
}

async fn the_same_key_is_the_same_order(config: &Config) {
    let host = Host::start(config, [approved()]).await;
    let keyed = [("Idempotency-Key", "tea-1")];
    let first = host.rest.post("/api/orders", &small().to_string(), &keyed).await.unwrap();
    let again = host.rest.post("/api/orders", &small().to_string(), &keyed).await.unwrap();
    assert_eq!((first.status, again.status), (201, 200));
    let (first, again): (Value, Value) = (first.json().unwrap(), again.json().unwrap());
    assert_eq!(first["id"], again["id"]);
    let other = json!({ "items": [{ "productId": "salt", "quantity": 1, "price": "1" }] });
    assert_eq!(host.rest.post("/api/orders", &other.to_string(), &keyed).await.unwrap().status, 422);
    host.until_notified(&first["id"], "completed").await;
}

async fn a_declined_order_expires_and_is_told(config: &Config) {
    let mut config = config.clone();
    config.expiration.interval = Duration::from_millis(20);
    config.expiration.after = Duration::from_millis(300);
    let host = Host::start(&config, [declined()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "expired").await;
    let came = history(&host, &order).await;
    assert_eq!(came, moved(&["OrderSubmitted", "OrderCreated", "PaymentDeclined", "OrderOverdue"]));
}

async fn a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven(config: &Config) {
    let host = Host::start(config, [broken()]).await;
    let order = host.order().await;
    let letter = host.until_dead_letter().await;
    assert_eq!((&letter["endpoint"], &letter["correlationId"]), (&json!("order-payment"), &order["id"]));
    host.gateway.charges_from_now([approved()]);
    let path = format!("/api/dead-letters/{}/redrive", letter["id"].as_str().unwrap());
    assert_eq!(host.rest.post(&path, "", &[]).await.unwrap().status, 202);
    host.until_notified(&order["id"], "completed").await;
}

async fn a_service_that_crashed_goes_on_where_it_was(config: &Config) {
    let mut slow = config.clone();
    slow.payment.delay = Duration::from_secs(3600);
    let host = Host::start(&slow, [approved()]).await;
    let order = host.order().await;
    let (rest, path) = (&host.rest, format!("/api/orders/{}", order["id"].as_str().unwrap()));
    let path = &path;
    host.until(|| async move {
        let order: Value = rest.get(path).await.unwrap().json().unwrap();
        (order["status"] == "processing").then_some(())
    })
    .await;
    host.service.crash().await;
    let host = Host::start(config, [approved()]).await;
    host.until_notified(&order["id"], "completed").await;
    assert_eq!(history(&host, &order).await, moved(&["OrderSubmitted", "OrderCreated", "PaymentApproved"]));
}

/// Expands to a module of tests for a pairing.
macro_rules! on {
    ($($name:ident: $store:literal, $bus:literal, [$($flow:ident),+ $(,)?];)+) => {$(
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $flow() {
                let pairing = super::pairing($store, $bus);
                super::$flow(&pairing.config).await;
            })+
        }
    )+};
}

on! {
    memory_embedded: "memory", "embedded", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
    ];
    memory_rabbitmq: "memory", "rabbitmq", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
    ];
    sqlite_embedded: "sqlite", "embedded", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_crashed_goes_on_where_it_was,
    ];
    sqlite_rabbitmq: "sqlite", "rabbitmq", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_crashed_goes_on_where_it_was,
    ];
    postgres_embedded: "postgres", "embedded", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_crashed_goes_on_where_it_was,
    ];
    postgres_rabbitmq: "postgres", "rabbitmq", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_crashed_goes_on_where_it_was,
    ];
}
