use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{Host, approved, broken, quick};

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
