//! The check of a database that hosts work on: no alarm that is false.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use host::config::Config;
use serde_json::{Value, json};
use test_servers::{Postgres, Rabbit};

use super::{OPTIONS, Options, checked, report};
use crate::support::{PATIENCE, Served, program, quick, small};

/// Who orders at the same time, and how many orders each of them makes.
const CLIENTS: usize = 8;
const ORDERS: usize = 40;

fn serve(store: &str, bus: &str, seed: &str) -> Served {
    let mut command = program(&["serve"]);
    command.env("SAGA__STORE__URL", store).env("SAGA__BUS__URL", bus);
    command.env("SAGA__PAYMENT__DELAY", "5ms").env("SAGA__PAYMENT__SUCCESS_RATE", "0.5");
    command.env("SAGA__PAYMENT__SEED", seed).env("SAGA__LOG__FILTER", "error,host::serve=info");
    command.env("SAGA__EXPIRATION__AFTER", "1s").env("SAGA__EXPIRATION__INTERVAL", "100ms");
    Served::start(&mut command)
}

/// Orders at every host, and a check after a check until all orders are final; each of them finds nothing.
async fn no_false_alarm(hosts: &[Served], store: &str, bus: &str) {
    let config = Config { store: store.parse().unwrap(), bus: bus.parse().unwrap(), ..quick() };
    let ordered = AtomicBool::new(false);
    let order = async |client: usize| {
        let rest = &hosts[client % hosts.len()].rest;
        for _ in 0..ORDERS {
            let answer = rest.post("/api/orders", &small().to_string(), &[]).await.unwrap();
            assert_eq!(answer.status, 201, "{}", answer.text());
        }
    };
    let all = async {
        join_all((0..CLIENTS).map(order)).await;
        ordered.store(true, Ordering::SeqCst);
    };
    let (mut looks, mut moving) = (0, 0);
    let look = async {
        loop {
            let over = ordered.load(Ordering::SeqCst);
            let found = report(&config, OPTIONS).await;
            assert_eq!(found["isSound"], true, "{found:#}");
            looks += 1;
            let open = found["orders"].as_u64() != found["notifications"].as_u64();
            moving += usize::from(open);
            if over && !open && found["outbox"] == 0 && found["messages"]["underWay"] == 0 {
                return found;
            }
        }
    };
    let both = async { tokio::join!(all, look) };
    let ((), last) = tokio::time::timeout(3 * PATIENCE, both).await.expect("it does not come to rest");
    println!("{looks} looks, {moving} of them at orders that moved: {last}");
    assert!(moving >= 3, "the orders were final before anybody looked: {looks}");
    assert_eq!(last["orders"], CLIENTS * ORDERS);
    assert_eq!(last["messages"]["produced"], last["messages"]["handled"]);
    let settled = report(&config, Options { at_rest: true, ..OPTIONS }).await;
    assert_eq!(settled["isSound"], true, "{settled:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_host_on_sqlite_under_load_when_checked_then_nothing_is_wrong_and_neither_is_it_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}", folder.path().join("orders.db").display());
    let hosts = [serve(&store, "embedded:", "1")];
    no_false_alarm(&hosts, &store, "embedded:").await;
    let [host] = hosts;
    host.signal("-KILL");
    host.ended();
    // What it left in its log is read; and the next host can have the database.
    let (code, out, error) = checked(&store, &["--json"]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["orders"], json!(CLIENTS * ORDERS));
    let host = serve(&store, "embedded:", "1");
    let (code, out, error) = checked(&store, &[]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.ends_with("sound\n") && !out.contains('✗'), "{out}");
    host.signal("-TERM");
    assert_eq!(host.exit_code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_two_hosts_on_postgres_and_rabbitmq_under_load_when_checked_then_nothing_is_wrong() {
    let (store, bus) = (Postgres::shared().database(), Rabbit::shared().vhost());
    let hosts = [serve(&store, &bus, "1"), serve(&store, &bus, "2")];
    no_false_alarm(&hosts, &store, &bus).await;
    let leases = Postgres::shared().query(&store, "SELECT count(*) FROM saga_hosts");
    assert_eq!(leases.trim(), "2", "a check is no host");
}
