//! Orders through the service, and then a hand in their rows: each kind of violation.

use std::collections::BTreeSet;
use std::time::Duration;

use host::config::{Config, StoreUrl};
use order_saga::{ORDER_PAYMENT, ORDER_SAGA};
use saga_core::produced_id;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use test_servers::Postgres;
use uuid::Uuid;

use super::{OPTIONS, Options, checked, report};
use crate::support::{Host, approved, broken, quick};

/// The tables, written by hand.
enum Hand {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Hand {
    async fn on(url: &str) -> Self {
        match url.starts_with("sqlite") {
            true => Self::Sqlite(SqliteConnection::connect(url).await.unwrap()),
            false => Self::Postgres(PgConnection::connect(url).await.unwrap()),
        }
    }

    /// Writes; something must have been there to be written.
    async fn write(&mut self, sql: &str) {
        let query = AssertSqlSafe(sql.to_owned());
        let touched = match self {
            Self::Sqlite(it) => sqlx::query(query).execute(it).await.unwrap().rows_affected(),
            Self::Postgres(it) => sqlx::query(query).execute(it).await.unwrap().rows_affected(),
        };
        assert!(touched > 0, "{sql}");
    }

    async fn id(&mut self, sql: &str) -> Uuid {
        let query = AssertSqlSafe(sql.to_owned());
        let text: String = match self {
            Self::Sqlite(it) => sqlx::query_scalar(query).fetch_one(it).await.unwrap(),
            Self::Postgres(it) => sqlx::query_scalar(query).fetch_one(it).await.unwrap(),
        };
        text.parse().unwrap()
    }

    /// The message that has caused an order's step, and the one of that place among what the step has caused.
    async fn caused(&mut self, order: &str, version: u32, index: usize) -> (Uuid, Uuid) {
        let sql = format!(
            "SELECT CAST(message_id AS TEXT) FROM saga_journal WHERE instance_id = '{order}' AND version = {version}"
        );
        let cause = self.id(&sql).await;
        (cause, produced_id(cause, 0, ORDER_SAGA, index))
    }
}

async fn stored(store: &str, orders: usize) -> (Config, Vec<String>, String) {
    let config = Config { store: store.parse().unwrap(), ..quick() };
    let charges = std::iter::repeat_with(approved).take(orders).chain([broken()]);
    let host = Host::start(&config, charges).await;
    let mut ids = Vec::new();
    for _ in 0..orders {
        let order = host.order().await;
        host.until_notified(&order["id"], "completed").await;
        ids.push(order["id"].as_str().unwrap().to_owned());
    }
    let failed = host.order().await["id"].as_str().unwrap().to_owned();
    let letter = host.until_dead_letter().await;
    assert_eq!(letter["correlationId"], failed.as_str());
    let (rest, path) = (&host.rest, &format!("/api/orders/{failed}/history"));
    host.until(|| async move {
        let history: Value = rest.get(path).await.unwrap().json().unwrap();
        history["items"].as_array().unwrap().iter().any(|it| it["messageType"] == "Orders:PaymentFailed").then_some(())
    })
    .await;
    // A sound database, while the service runs and after it.
    for options in [OPTIONS, Options { at_rest: true, ..OPTIONS }] {
        let sound = report(&config, options).await;
        assert_eq!(sound["violations"]["total"], 0, "{sound}");
        assert_eq!((&sound["isSound"], &sound["deadLetters"]["total"]), (&json!(true), &json!(1)), "{sound}");
        assert_eq!(sound["deadLetters"]["listed"][0]["order"], failed.as_str(), "{sound}");
        assert_eq!((&sound["orders"], &sound["notifications"]), (&json!(orders + 1), &json!(orders)), "{sound}");
        // Creation, payment, completion; of the one that failed, creation and payment.
        assert_eq!(sound["messages"]["produced"], 3 * orders + 2, "{sound}");
        assert_eq!(sound["messages"]["givenUp"], 1, "{sound}");
    }
    host.stopped().await.unwrap();
    (config, ids, failed)
}

/// What is said of which order.
type Expected = BTreeSet<(String, Option<String>)>;

/// Treats one order after the other, and notes what will be said of it.
struct Doctor<'a> {
    hand: Hand,
    orders: std::slice::Iter<'a, String>,
    expected: Expected,
}

impl<'a> Doctor<'a> {
    fn next(&mut self, kinds: &[&str]) -> &'a str {
        let order = self.orders.next().unwrap();
        self.expected.extend(kinds.iter().map(|kind| ((*kind).to_owned(), Some(order.clone()))));
        order
    }
}

/// Histories that are no path of the table.
async fn doctor_histories(it: &mut Doctor<'_>) {
    let id = it.next(&["history"]);
    it.hand.write(&format!("UPDATE saga_journal SET version = 9 WHERE instance_id = '{id}' AND version = 3")).await;
    let id = it.next(&["history"]);
    it.hand.write(&format!("DELETE FROM saga_journal WHERE instance_id = '{id}' AND version = 2")).await;
    let id = it.next(&["history"]);
    it.hand
        .write(&format!("UPDATE saga_journal SET to_state = 'Expired' WHERE instance_id = '{id}' AND version = 2"))
        .await;
    let id = it.next(&["history"]);
    it.hand
        .write(&format!(
            "INSERT INTO saga_journal (instance_id, saga, version, endpoint, message_id, message_type, message,
           conversation_id, attempt, outcome, from_state, to_state, effects, at)
         SELECT instance_id, saga, NULL, endpoint, message_id, message_type, message, conversation_id, attempt,
           'ignored', to_state, to_state, '[]', at FROM saga_journal WHERE instance_id = '{id}' AND version = 3"
        ))
        .await;
}

/// Orders, instances and notifications that do not agree.
async fn doctor_orders(it: &mut Doctor<'_>) {
    let id = it.next(&["order"]);
    it.hand.write(&format!("UPDATE orders SET status = 'processing' WHERE id = '{id}'")).await;
    let id = it.next(&["order"]);
    it.hand.write(&format!("DELETE FROM orders WHERE id = '{id}'")).await;
    let id = it.next(&["history", "order", "notification"]);
    it.hand.write(&format!("DELETE FROM saga_instances WHERE id = '{id}'")).await;
    let id = it.next(&["history", "order", "notification"]);
    it.hand.write(&format!("UPDATE saga_instances SET state = 'V9' WHERE id = '{id}'")).await;
    let id = it.next(&["notification"]);
    it.hand.write(&format!("DELETE FROM notifications WHERE order_id = '{id}'")).await;
    let id = it.next(&["notification"]);
    it.hand.write(&format!("UPDATE notifications SET kind = 'expired' WHERE order_id = '{id}'")).await;
    let id = it.next(&["notification"]);
    it.hand.write(&format!("UPDATE notifications SET message_id = '{id}' WHERE order_id = '{id}'")).await;
}

/// Messages that were lost, or that nobody has sent.
async fn doctor_messages(it: &mut Doctor<'_>, failed: &str) {
    let id = it.next(&["inbox"]);
    let (approved, _) = it.hand.caused(id, 3, 0).await;
    it.hand.write(&format!("DELETE FROM saga_inbox WHERE message_id = '{approved}'")).await;
    let id = it.next(&["message"]);
    let (_, call) = it.hand.caused(id, 2, 1).await;
    it.hand
        .write(&format!("DELETE FROM saga_inbox WHERE message_id = '{call}' AND endpoint = '{ORDER_PAYMENT}'"))
        .await;
    let id = it.next(&["message", "history"]);
    let (_, call) = it.hand.caused(id, 2, 1).await;
    it.hand.write(&format!(
        "UPDATE saga_journal SET effects = replace(effects, '{call}', '{id}') WHERE instance_id = '{id}' AND version = 2"
    ))
    .await;
    // What was heard and never sent; what it has caused follows from another message then.
    let id = it.next(&["message", "history", "inbox"]);
    it.hand
        .write(&format!("UPDATE saga_journal SET message_id = '{id}' WHERE instance_id = '{id}' AND version = 2"))
        .await;
    let id = it.next(&["outbox"]);
    let ghost = json!({
        "messageId": id, "correlationId": id, "sourceAddress": "queue:order-saga", "headers": { "MT-Saga-Name": "order" },
        "messageType": ["urn:message:Orders:OrderExpired"], "message": {},
    });
    let answer = json!({
        "messageId": failed, "correlationId": id, "sourceAddress": "queue:order-payment",
        "messageType": ["urn:message:Orders:PaymentApproved"], "message": {},
    });
    for (message, envelope) in [(id, ghost), (failed, answer)] {
        it.hand
            .write(&format!(
                "INSERT INTO saga_outbox (message_id, message_type, envelope, created_at)
             VALUES ('{message}', 'Orders:Ghost', '{envelope}', '2026-11-23T12:00:00.000000Z')"
            ))
            .await;
    }
}

/// Rows that can not be read, and a dead letter that is gone.
async fn doctor_rows(it: &mut Doctor<'_>, failed: &str) {
    let id = it.next(&[]);
    it.hand.write(&format!("UPDATE saga_instances SET data = '{{' WHERE id = '{id}'")).await;
    let id = it.next(&[]);
    it.hand
        .write(&format!("UPDATE saga_journal SET outcome = 'molten' WHERE instance_id = '{id}' AND version = 2"))
        .await;
    // Nothing can be told of what it sends; what others on the same page send is judged all the same.
    let unknown = json!({
        "messageId": Uuid::from_u128(7), "correlationId": id, "sourceAddress": "queue:order-saga",
        "headers": { "MT-Saga-Name": "order" }, "messageType": ["urn:message:Orders:OrderExpired"], "message": {},
    });
    it.hand
        .write(&format!(
            "INSERT INTO saga_outbox (message_id, message_type, envelope, created_at)
         VALUES ('{}', 'Orders:OrderExpired', '{unknown}', '2026-11-23T12:00:00.000000Z')",
            Uuid::from_u128(7)
        ))
        .await;
    it.hand.write("DELETE FROM saga_dead_letters").await;
    it.expected.insert(("dead-letter".to_owned(), Some(failed.to_owned())));
    it.expected.insert(("unreadable".to_owned(), None));
}

/// How many orders are doctored.
const ORDERS: usize = 18;

async fn each_kind_of_violation_is_found(store: &str) {
    let (config, ids, failed) = stored(store, ORDERS).await;
    let mut doctor = Doctor { hand: Hand::on(store).await, orders: ids.iter(), expected: Expected::new() };
    doctor_histories(&mut doctor).await;
    doctor_orders(&mut doctor).await;
    doctor_messages(&mut doctor, &failed).await;
    doctor_rows(&mut doctor, &failed).await;
    assert!(doctor.orders.next().is_none(), "each order is doctored");
    let found = report(&config, Options { at_rest: true, ..OPTIONS }).await;
    let violations = &found["violations"];
    let listed = violations["listed"].as_array().unwrap();
    let text = |it: &Value| it.as_str().map(str::to_owned);
    let kinds: BTreeSet<_> = listed.iter().map(|it| (text(&it["kind"]).unwrap(), text(&it["order"]))).collect();
    assert_eq!(kinds, doctor.expected, "{found:#}");
    assert_eq!((&found["isSound"], &violations["total"]), (&json!(false), &json!(listed.len())));
    assert_eq!(violations["byKind"]["outbox"], 2, "{found:#}");
    assert_eq!(violations["byKind"]["unreadable"], 2, "{found:#}");

    // What is lost is told of by itself only where no other host can have a broker.
    let unsaid = report(&config, OPTIONS).await;
    let is_lost = |it: &Value| it["what"].as_str().unwrap().ends_with("is neither waiting nor handled");
    let is_sqlite = store.starts_with("sqlite");
    assert!(listed.iter().any(is_lost), "{found:#}");
    assert_eq!(unsaid["violations"]["listed"].as_array().unwrap().iter().any(is_lost), is_sqlite, "{unsaid:#}");
    assert_eq!(unsaid["assumed"].as_str().unwrap().starts_with("SQLite"), is_sqlite, "{unsaid:#}");
    assert!(found["assumed"].as_str().unwrap().starts_with("--at-rest"), "{found:#}");

    // The program says the same, to people and to programs; few are listed, and all are counted.
    let (code, out, error) = checked(store, &["--at-rest", "--limit", "2"]);
    assert_eq!((code, error.as_str()), (Some(1), ""), "{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("✗ ")).count(), 3, "{out}");
    assert!(out.contains(&format!("and {} more", listed.len() - 2)) && out.ends_with("not sound\n"), "{out}");
    let (code, out, _) = checked(store, &["--at-rest", "--json", "--limit", "1"]);
    let printed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &printed["violations"]["total"]), (Some(1), &violations["total"]));
    assert_eq!(printed["violations"]["listed"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn given_sqlite_when_rows_are_doctored_then_each_kind_of_violation_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreUrl::Sqlite(folder.path().join("orders.db")).to_string();
    each_kind_of_violation_is_found(&store).await;
}

#[tokio::test]
async fn given_postgres_when_rows_are_doctored_then_each_kind_of_violation_is_found() {
    each_kind_of_violation_is_found(&Postgres::shared().database()).await;
}

#[tokio::test]
async fn given_a_copy_that_comes_after_the_inbox_was_purged_when_checked_then_only_one_within_the_time_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreUrl::Sqlite(folder.path().join("orders.db")).to_string();
    let (mut config, ids, _) = stored(&store, 1).await;
    let (id, mut hand) = (&ids[0], Hand::on(&store).await);
    let handled = format!("SELECT message_id FROM saga_journal WHERE instance_id = '{id}'");
    hand.write(&format!("DELETE FROM saga_inbox WHERE message_id IN ({handled} AND version < 3)")).await;
    let copy = format!(
        "INSERT INTO saga_journal (instance_id, saga, version, endpoint, message_id, message_type, message,
           conversation_id, attempt, outcome, from_state, to_state, effects, at)
         SELECT instance_id, saga, NULL, endpoint, message_id, message_type, message, conversation_id, attempt,
           'ignored', to_state, to_state, '[]', at FROM saga_journal
         WHERE instance_id = '{id}' AND version = 3"
    );
    hand.write(&copy).await;
    let earlier = "strftime('%Y-%m-%dT%H:%M:%f000Z', at, '-1 hour')";
    let steps = format!("UPDATE saga_journal SET at = {earlier} WHERE instance_id = '{id}' AND version > 0");
    hand.write(&steps).await;
    config.retention.inbox = Some(Duration::from_secs(30 * 60));
    let sound = report(&config, OPTIONS).await;
    assert_eq!(sound["isSound"], true, "{sound:#}");

    let is_double = |found: &Value| {
        let listed = found["violations"]["listed"].as_array().unwrap();
        listed.iter().any(|it| it["what"].as_str().unwrap().contains("was handled twice"))
    };
    config.retention.inbox = Some(Duration::from_secs(2 * 60 * 60));
    let early = report(&config, OPTIONS).await;
    assert!(is_double(&early), "the inbox still knew it: {early:#}");
    config.retention.inbox = Some(Duration::from_secs(30 * 60));
    hand.write(&copy.replace("AND version = 3", "AND version IS NULL")).await;
    let double = report(&config, OPTIONS).await;
    assert!(is_double(&double), "two late copies at one moment: {double:#}");
}
