//! The whole order flow, REST included, on each sensible pairing of store and bus.

use std::time::Duration;

use host::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::{Postgres, Rabbit};

use crate::support::{Host, PATIENCE, Served, approved, broken, declined, program, quick, small};

/// A configuration on one pairing, and what it stands on.
struct Pairing {
    config: Config,
    store: String,
    bus: String,
    /// Where a file is kept.
    _folder: TempDir,
}

fn pairing(store: &str, bus: &str) -> Pairing {
    let folder = tempfile::tempdir().unwrap();
    let store = match store {
        "memory" => "memory:".to_owned(),
        "sqlite" => format!("sqlite://{}", folder.path().join("orders.db").display()),
        _ => Postgres::shared().database(),
    };
    let bus = match bus {
        "embedded" => "embedded:".to_owned(),
        _ => Rabbit::shared().vhost(),
    };
    let config = Config { store: store.parse().unwrap(), bus: bus.parse().unwrap(), ..quick() };
    Pairing { config, store, bus, _folder: folder }
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

async fn an_order_is_completed_and_told_once(Pairing { config, .. }: &Pairing) {
    let host = Host::start(config, [approved()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    assert_eq!(history(&host, &order).await, moved(&["OrderSubmitted", "OrderCreated", "PaymentApproved"]));
    let path = format!("/api/orders/{}/notifications", order["id"].as_str().unwrap());
    let told: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
    host.stopped().await.unwrap();
}

async fn orders_in_four_shards_are_completed_and_told(pairing: &Pairing) {
    let mut config = pairing.config.clone();
    config.rabbitmq.shards = 4;
    let host = Host::start(&config, (0..8).map(|_| approved())).await;
    let mut orders = Vec::new();
    for _ in 0..8 {
        orders.push(host.order().await);
    }
    for order in &orders {
        host.until_notified(&order["id"], "completed").await;
        assert_eq!(history(&host, order).await, moved(&["OrderSubmitted", "OrderCreated", "PaymentApproved"]));
    }
    host.stopped().await.unwrap();
}

async fn the_same_key_is_the_same_order(Pairing { config, .. }: &Pairing) {
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

async fn a_declined_order_expires_and_is_told(Pairing { config, .. }: &Pairing) {
    let mut config = config.clone();
    config.expiration.interval = Duration::from_millis(20);
    config.expiration.after = Duration::from_secs(1);
    let host = Host::start(&config, [declined()]).await;
    let order = host.order().await;
    host.until_notified(&order["id"], "expired").await;
    // How far the payment had come by then is a matter of the machine's pace; what is late is ignored.
    let came = history(&host, &order).await;
    let ended: Vec<_> = came.iter().filter(|(name, outcome)| name == "OrderOverdue" && outcome == "moved").collect();
    assert_eq!((&came[0], ended.len()), (&moved(&["OrderSubmitted"])[0], 1), "{came:?}");
    let path = format!("/api/orders/{}/notifications", order["id"].as_str().unwrap());
    let told: Value = host.rest.get(&path).await.unwrap().json().unwrap();
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
}

async fn a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven(Pairing { config, .. }: &Pairing) {
    let host = Host::start(config, [broken()]).await;
    let order = host.order().await;
    let letter = host.until_dead_letter().await;
    assert_eq!((&letter["endpoint"], &letter["correlationId"]), (&json!("order-payment"), &order["id"]));
    host.gateway.charges_from_now([approved()]);
    let path = format!("/api/dead-letters/{}/redrive", letter["id"].as_str().unwrap());
    assert_eq!(host.rest.post(&path, "", &[]).await.unwrap().status, 202);
    host.until_notified(&order["id"], "completed").await;
}

async fn a_service_that_was_killed_goes_on_where_it_was(pairing: &Pairing) {
    let start = |delay: &str| {
        let mut command = program(&["serve"]);
        command.env("SAGA__STORE__URL", &pairing.store).env("SAGA__BUS__URL", &pairing.bus);
        command.env("SAGA__PAYMENT__DELAY", delay).env("SAGA__PAYMENT__SUCCESS_RATE", "1");
        Served::start(&mut command)
    };
    let served = start("1h");
    let order: Value = served.rest.post("/api/orders", &small().to_string(), &[]).await.unwrap().json().unwrap();
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    until_status(&served, &path, "processing").await;
    served.signal("-KILL");
    served.ended();
    let served = start("0s");
    until_status(&served, &path, "completed").await;
    let history: Value = served.rest.get(&format!("{path}/history")).await.unwrap().json().unwrap();
    assert_eq!(history["items"].as_array().unwrap().len(), 3, "{history}");
    served.signal("-TERM");
    assert_eq!(served.exit_code(), Some(0));
}

async fn until_status(served: &Served, path: &str, status: &str) {
    let reached = async {
        while served.rest.get(path).await.unwrap().json::<Value>().unwrap()["status"] != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{path} is never {status}"));
}

/// Expands to a module of tests for a pairing.
macro_rules! on {
    ($($name:ident: $store:literal, $bus:literal, [$($flow:ident),+ $(,)?];)+) => {$(
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $flow() {
                let pairing = super::pairing($store, $bus);
                super::$flow(&pairing).await;
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
        orders_in_four_shards_are_completed_and_told,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_was_killed_goes_on_where_it_was,
    ];
    sqlite_rabbitmq: "sqlite", "rabbitmq", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_was_killed_goes_on_where_it_was,
    ];
    postgres_embedded: "postgres", "embedded", [
        an_order_is_completed_and_told_once,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_was_killed_goes_on_where_it_was,
    ];
    postgres_rabbitmq: "postgres", "rabbitmq", [
        an_order_is_completed_and_told_once,
        orders_in_four_shards_are_completed_and_told,
        the_same_key_is_the_same_order,
        a_declined_order_expires_and_is_told,
        a_payment_that_fails_for_good_is_a_dead_letter_and_completes_when_redriven,
        a_service_that_was_killed_goes_on_where_it_was,
    ];
}
