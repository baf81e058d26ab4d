//! A database that another version has left in the middle of everything: this one carries it on to the end.

use std::time::Duration;

use chrono::Utc;
use host::check::{Options, check};
use host::config::{Config, StoreUrl};
use order_saga::Order;
use saga_core::{Flow, Machine, Saga, replay};
use serde_json::{Value, json};

use super::{Orders, loaded, versions};
use crate::support::{Host, approved, quick};

/// Orders are never overdue.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

async fn each_version_is_carried_on(kind: &str) {
    for folder in versions() {
        let read = |name: String| std::fs::read_to_string(folder.join(name)).unwrap();
        let orders: Orders = serde_json::from_str(&read(format!("{kind}.json"))).unwrap();
        let (url, _folder) = loaded(kind, &read(format!("{kind}.sql"))).await;
        println!("{}", folder.display());
        carried_on(url.parse().unwrap(), &orders).await;
    }
}

async fn carried_on(store: StoreUrl, orders: &Orders) {
    // As it was left: sound, before any host of this version has touched it.
    let mut config = Config { store, ..quick() };
    config.expiration.after = NEVER;
    assert_sound(&config).await;

    let host = Host::start(&config, [approved()]).await;
    for (id, status) in [
        (&orders.completed, "completed"),
        (&orders.expired, "expired"),
        (&orders.refunded, "expired"),
        (&orders.redriven, "completed"),
        // What waited in the outbox, and for another attempt, goes on.
        (&orders.processing, "completed"),
        (&orders.retried, "completed"),
    ] {
        host.until_notified(&json!(id), status).await;
    }
    // The dead letter is that of the order that was given up, and can be redriven.
    let letter = host.until_dead_letter().await;
    assert_eq!(letter["correlationId"], json!(orders.given_up));
    let path = format!("/api/dead-letters/{}/redrive", letter["id"].as_str().unwrap());
    assert_eq!(host.rest.post(&path, "", &[]).await.unwrap().status, 202);
    host.until_notified(&json!(orders.given_up), "completed").await;
    let waiting: Value = host.rest.get(&format!("/api/orders/{}", orders.declined)).await.unwrap().json().unwrap();
    assert_eq!(waiting["status"], "processing");
    // New orders are taken beside the old ones.
    let order = host.order().await;
    host.until_notified(&order["id"], "completed").await;
    assert_histories_agree(&host, orders).await;
    host.stopped().await.unwrap();

    config.expiration.after = Duration::from_secs(1);
    config.expiration.interval = Duration::from_millis(20);
    let host = Host::start(&config, [approved()]).await;
    host.until_notified(&json!(orders.declined), "expired").await;
    host.stopped().await.unwrap();
    assert_sound(&config).await;
}

async fn assert_sound(config: &Config) {
    let report = check(config, Options { at_rest: true, limit: 10 }, Utc::now()).await.unwrap();
    assert!(report.is_sound(), "{report}");
}

/// The histories are legal paths of today's table, and today's table makes the same of them.
async fn assert_histories_agree(host: &Host, orders: &Orders) {
    let machine = Machine::<Order>::new();
    let Value::Object(orders) = serde_json::to_value(orders).unwrap() else { panic!() };
    for (name, id) in orders {
        let id = id.as_str().unwrap().parse().unwrap();
        let store = &host.service.store;
        let instance = store.instance(Order::NAME, id).await.unwrap().unwrap();
        let journal = store.journal(Order::NAME, id).await.unwrap();
        assert_eq!(machine.check(Some(&instance), &journal), [], "{name}");
        let replayed = replay::<Order>(&Flow::record(Order::NAME, &instance, journal, Utc::now())).unwrap();
        assert!(replayed.agrees(), "{name}:\n{replayed}");
    }
}

#[tokio::test]
async fn given_sqlite_as_each_version_has_left_it_when_this_one_starts_then_every_order_comes_to_its_end() {
    each_version_is_carried_on("sqlite").await;
}

#[tokio::test]
async fn given_postgres_as_each_version_has_left_it_when_this_one_starts_then_every_order_comes_to_its_end() {
    each_version_is_carried_on("postgres").await;
}
