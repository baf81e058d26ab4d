use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use host::config::StoreUrl;
use host::serve::Parts;
use order_saga::{OrderStatus, ScriptedGateway};
use saga_core::testkit::ManualClock;
use saga_core::{Backlog, SqliteStore};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::faulty::{Faulty, Mode, wound_on};
use crate::support::{Host, approved, assert_problem, broken, quick};

#[tokio::test]
async fn given_a_service_when_asked_then_it_lives_and_is_ready() {
    let host = Host::start(&quick(), [approved()]).await;
    let live = host.rest.get("/health/live").await.unwrap();
    assert_eq!((live.status, live.json::<Value>().unwrap()), (200, json!({ "live": true })));
    let ready = host.rest.get("/health/ready").await.unwrap();
    let ok = json!({ "state": "ok" });
    let expected = json!({ "ready": true, "checks": { "store": ok, "bus": ok, "migrations": ok } });
    assert_eq!((ready.status, ready.json::<Value>().unwrap()), (200, expected));
}

#[tokio::test]
async fn given_a_missing_migration_when_asked_then_the_service_is_not_ready_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let mut config = quick();
    config.store = StoreUrl::Sqlite(path.clone());
    let host = Host::start(&config, [approved()]).await;
    let mut database = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 2").execute(&mut database).await.unwrap();
    let problem = assert_problem(&host.rest.get("/health/ready").await.unwrap(), 503, "unavailable");
    let reason = "1 migrations are to be applied: run saga-host migrate";
    let expected = json!({
        "store": { "state": "ok" },
        "bus": { "state": "ok" },
        "migrations": { "state": "failed", "reason": reason },
    });
    assert_eq!((&problem["ready"], &problem["checks"]), (&json!(false), &expected));
    assert_eq!(host.rest.get("/health/live").await.unwrap().status, 200, "it lives all the same");
}

fn samples(text: &str) -> HashMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn given_orders_when_scraped_then_the_metrics_tell_of_them() {
    let host = Host::start(&quick(), [approved(), broken()]).await;
    let first = host.order().await;
    host.until_notified(&first["id"], "completed").await;
    host.order().await;
    host.until_dead_letter().await;
    let answer = host.rest.get("/metrics").await.unwrap();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let samples = samples(&text);
    assert!((samples[r#"orders{status="completed"}"#] - 1.0).abs() < f64::EPSILON, "{text}");
    assert!((samples[r#"orders{status="processing"}"#] - 1.0).abs() < f64::EPSILON, "{text}");
    assert!((samples["saga_dead_letters"] - 1.0).abs() < f64::EPSILON, "{text}");
    assert!((samples["saga_store_up"] - 1.0).abs() < f64::EPSILON, "{text}");
    for name in ["saga_outbox_rows", "saga_outbox_lag_seconds", "saga_timers", "saga_timer_lag_seconds"] {
        assert!(samples[name] >= 0.0, "{name}");
    }
    // The counters are the process's: other tests count on them as well.
    assert!(samples[r#"saga_messages_handled_total{endpoint="order-saga",outcome="moved"}"#] >= 3.0, "{text}");
    assert!(samples[r#"saga_messages_faulted_total{endpoint="order-payment"}"#] >= 1.0, "{text}");
    assert!(samples[r#"saga_batch_size_count{endpoint="order-saga"}"#] >= 1.0, "{text}");
    assert!(samples["saga_commit_seconds_count"] >= 1.0, "{text}");
    assert!(samples[r#"saga_handler_seconds_count{endpoint="order-payment"}"#] >= 2.0, "{text}");
}

/// How the store is, and whether the service is ready, while the clock is wound on.
async fn store_check(host: &Host, clock: &ManualClock) -> (u16, Value) {
    let answer = wound_on(clock, host.rest.get("/health/ready")).await.unwrap();
    (answer.status, answer.json::<Value>().unwrap()["checks"]["store"].clone())
}

#[tokio::test]
async fn given_a_store_that_does_not_commit_when_asked_then_the_service_is_not_ready_and_says_why() {
    let clock = Arc::new(ManualClock::default());
    let (store, parts) = Faulty::parts();
    let parts = Parts { clock: Some(clock.clone()), ..parts };
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    let failed = |reason: &str| (503, json!({ "state": "failed", "reason": reason }));
    store.turns(Mode::Fails);
    let reason = "the store can not be read or written; the log says more";
    assert_eq!(store_check(&host, &clock).await, failed(reason));
    store.turns(Mode::Hangs);
    assert_eq!(store_check(&host, &clock).await, failed("no answer within 2 seconds"));
    store.turns(Mode::Works);
    let ready = host.rest.get("/health/ready").await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
}

#[tokio::test]
async fn given_a_writer_that_is_stuck_when_asked_then_the_service_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let clock = Arc::new(ManualClock::default());
    let mut config = quick();
    config.store = StoreUrl::Sqlite(path.clone());
    let parts = Parts { clock: Some(clock.clone()), ..Parts::default() };
    let host = Host::with(&config, ScriptedGateway::new([approved()]), parts).await;
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let transaction = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert_eq!(
        store_check(&host, &clock).await,
        (503, json!({ "state": "failed", "reason": "no answer within 2 seconds" }))
    );
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn given_a_database_when_asked_then_something_is_written_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let mut config = quick();
    config.store = StoreUrl::Sqlite(path.clone());
    let host = Host::start(&config, [approved()]).await;
    let log = path.with_extension("db-wal");
    // Nothing was written yet: there may be no log.
    let before = std::fs::read(&log).unwrap_or_default();
    assert_eq!(host.rest.get("/health/ready").await.unwrap().status, 200);
    assert_ne!(std::fs::read(&log).unwrap(), before, "a full disk would have been seen");
    assert_eq!(host.service.store.backlog().await.unwrap(), Backlog::default());
}

#[tokio::test]
async fn given_a_store_that_was_closed_when_asked_then_the_service_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("other.db").display());
    let closed = SqliteStore::builder(&url).open().await.unwrap();
    closed.migrate(&SqliteStore::migrator()).await.unwrap();
    closed.close().await;
    let (store, parts) = Faulty::parts();
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    store.commits_go_to(Arc::new(closed));
    let problem = assert_problem(&host.rest.get("/health/ready").await.unwrap(), 503, "unavailable");
    let reason = "the store can not be read or written; the log says more";
    assert_eq!(problem["checks"]["store"], json!({ "state": "failed", "reason": reason }));
}

#[tokio::test]
async fn given_a_query_that_fails_or_never_ends_when_scraped_then_it_costs_its_own_lines_only() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let clock = Arc::new(ManualClock::default());
        let (store, parts) = Faulty::parts();
        let parts = Parts { clock: Some(clock.clone()), ..parts };
        let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
        store.turns(mode);
        let answer = wound_on(&clock, host.rest.get("/metrics")).await.unwrap();
        assert_eq!(answer.status, 200, "{mode:?}");
        let samples = samples(&answer.text());
        assert_eq!(samples.get("saga_outbox_rows"), None, "{mode:?}");
        assert_eq!(samples.get("saga_store_up"), Some(&0.0), "{mode:?}");
        assert!(samples.contains_key(r#"orders{status="pending"}"#), "{mode:?}");
    }
}

#[tokio::test]
async fn given_two_scrapes_within_a_second_when_counted_then_the_orders_are_read_once() {
    let clock = Arc::new(ManualClock::default());
    let parts = Parts { clock: Some(clock.clone()), ..Parts::default() };
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    let orders = async || {
        let samples = samples(&host.rest.get("/metrics").await.unwrap().text());
        OrderStatus::ALL.map(|status| samples[&format!(r#"orders{{status="{}"}}"#, status.name())]).iter().sum::<f64>()
    };
    assert_eq!(orders().await, 0.0);
    host.order().await;
    clock.advance(Duration::from_millis(999));
    assert_eq!(orders().await, 0.0, "as it was counted before");
    clock.advance(Duration::from_millis(1));
    assert_eq!(orders().await, 1.0);
}
