//! Records what this version stores; run by hand, once for each version.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use host::config::Config;
use order_saga::ScriptedGateway;
use saga_core::Failure;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use test_servers::Postgres;

use super::{Orders, envelopes, of_this_version};
use crate::support::{Host, approved, broken, declined, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes the goldens of this version"]
async fn the_goldens_of_this_version_are_written_unless_they_are_there() {
    let folder = of_this_version();
    assert!(!folder.exists(), "{} is there, and goldens are never written again", folder.display());
    let temporary = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}", temporary.path().join("orders.db").display());
    let postgres = Postgres::shared().database();
    let in_sqlite = record(&sqlite).await;
    let in_postgres = record(&postgres).await;
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("sqlite.sql", &dump(&sqlite).await);
    write("postgres.sql", &Postgres::shared().dump(&postgres));
    write("sqlite.json", &format!("{}\n", serde_json::to_string_pretty(&in_sqlite).unwrap()));
    write("postgres.json", &format!("{}\n", serde_json::to_string_pretty(&in_postgres).unwrap()));
    write("envelopes.jsonl", &envelopes::written());
}

/// Brings orders to every stage, and ends as a crash does.
async fn record(store: &str) -> Orders {
    let config = Config { store: store.parse().unwrap(), ..quick() };
    let (expired, refunded) = expired(&config).await;
    let host = Host::start(&config, [approved()]).await;
    let completed = ended(&host, "completed").await;
    host.gateway.charges_from_now([broken()]);
    let redriven = id(&host.order().await);
    let letter = host.until_dead_letter().await;
    host.gateway.charges_from_now([approved()]);
    let path = format!("/api/dead-letters/{}/redrive", letter["id"].as_str().unwrap());
    assert_eq!(host.rest.post(&path, "", &[]).await.unwrap().status, 202);
    host.until_notified(&Value::from(redriven.clone()), "completed").await;
    host.gateway.charges_from_now([declined()]);
    let declined = id(&host.order().await);
    heard(&host, &declined, "Orders:PaymentDeclined", "moved").await;
    host.gateway.charges_from_now([broken()]);
    let given_up = id(&host.order().await);
    heard(&host, &given_up, "Orders:PaymentFailed", "moved").await;
    host.stopped().await.unwrap();

    // An attempt that is due long after the crash, and long before anybody reads this.
    let mut retrying = config.clone();
    (retrying.retry.initial, retrying.retry.max) = (Duration::from_secs(120), Duration::from_secs(120));
    let host = Host::start(&retrying, [Err(Failure::retry("the gateway is away"))]).await;
    let retried = id(&host.order().await);
    heard(&host, &retried, "Orders:ProcessPayment", "retried").await;
    host.stopped().await.unwrap();

    let mut slow = config;
    slow.payment.delay = Duration::from_secs(3_600);
    let host = Host::start(&slow, [approved()]).await;
    let processing = id(&host.order().await);
    heard(&host, &processing, "Orders:OrderCreated", "moved").await;
    host.service.crash().await;
    Orders { completed, expired, refunded, redriven, declined, given_up, retried, processing }
}

/// An order that expires unpaid, and one whose payment comes too late and is given back.
async fn expired(config: &Config) -> (String, String) {
    let mut hasty = config.clone();
    hasty.payment.delay = Duration::from_secs(1);
    hasty.expiration.after = Duration::from_millis(100);
    hasty.expiration.interval = Duration::from_millis(20);
    let host = Host::with(&hasty, ScriptedGateway::new([declined()]), host::serve::Parts::default()).await;
    let expired = ended(&host, "expired").await;
    heard(&host, &expired, "Orders:PaymentDeclined", "ignored").await;
    host.gateway.charges_from_now([approved()]);
    let refunded = ended(&host, "expired").await;
    heard(&host, &refunded, "Orders:PaymentRefunded", "moved").await;
    host.stopped().await.unwrap();
    (expired, refunded)
}

/// A new order that has come to its end.
async fn ended(host: &Host, status: &str) -> String {
    let order = host.order().await;
    host.until_notified(&order["id"], status).await;
    id(&order)
}

fn id(order: &Value) -> String {
    order["id"].as_str().unwrap().to_owned()
}

/// Waits for a line of an order's history.
async fn heard(host: &Host, order: &str, message: &str, outcome: &str) {
    let (rest, path) = (&host.rest, &format!("/api/orders/{order}/history"));
    host.until(|| async move {
        let history: Value = rest.get(path).await.unwrap().json().unwrap();
        let lines = history["items"].as_array().unwrap();
        lines.iter().any(|it| it["messageType"] == message && it["outcome"] == outcome).then_some(())
    })
    .await;
}

/// Everything that a SQLite database holds, as statements that make it again.
async fn dump(url: &str) -> String {
    let mut database = SqliteConnection::connect(url).await.unwrap();
    let mut text = String::new();
    let made =
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    let made = sqlx::query(made).fetch_all(&mut database).await.unwrap();
    for row in &made {
        writeln!(text, "{};", row.get::<String, _>("sql")).unwrap();
    }
    let tables = made.iter().filter(|row| row.get::<String, _>("type") == "table").map(|row| row.get("name"));
    for table in tables.chain(["sqlite_sequence".to_owned()]) {
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
            .bind(&table)
            .fetch_all(&mut database)
            .await
            .unwrap();
        let quoted: Vec<_> = columns.iter().map(|it| format!("quote({it})")).collect();
        // The names are those of the database's own tables.
        let rows = AssertSqlSafe(format!("SELECT {} FROM {table}", quoted.join(" || ', ' || ")));
        for row in sqlx::query_scalar::<_, String>(rows).fetch_all(&mut database).await.unwrap() {
            writeln!(text, "INSERT INTO {table} ({}) VALUES ({row});", columns.join(", ")).unwrap();
        }
    }
    text
}
