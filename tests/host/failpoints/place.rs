//! A store and a bus that outlive the hosts, who orders there, and what is to be seen in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::rest::Rest;
use order_saga::{ORDER_NOTIFIER, ORDER_PAYMENT, ORDER_SAGA, Order, OrderPage, Orders, PostgresOrders, SqliteOrders};
use saga_core::{JournalOutcome, Point, PostgresStore, Saga, SqliteStore, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_foreign::Peer;
use test_servers::{Postgres, Rabbit};
use test_storm::{Evidence, Heard, Seen, judge};
use uuid::Uuid;

use super::layout::{Layout, Servers};
use crate::support::{PATIENCE, program};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);
/// The queue of somebody who listens.
const LISTENER: &str = "listener";
/// What can be heard of an order.
const EVENTS: [&str; 3] = ["Orders:OrderCreated", "Orders:OrderCompleted", "Orders:OrderExpired"];

pub(super) struct Place {
    folder: TempDir,
    store: String,
    bus: String,
    servers: Servers,
    /// The order of each key, as soon as somebody was told of it.
    orders: Mutex<BTreeMap<u64, Option<Uuid>>>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Posted {
    Accepted(u16),
    Unanswered,
}

/// The store of a place, when no host has it.
struct Kept {
    store: Arc<dyn Store>,
    orders: Arc<dyn Orders>,
}

impl Place {
    pub(super) async fn on(layout: &Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, bus) = match layout.servers {
            Servers::SqliteAndEmbedded => {
                (format!("sqlite://{}", folder.path().join("orders.db").display()), "embedded:".to_owned())
            }
            Servers::PostgresAndRabbitMq => (Postgres::shared().database(), Rabbit::shared().vhost()),
        };
        if layout.servers == Servers::PostgresAndRabbitMq {
            let peer = Peer::at(&bus).await.unwrap();
            for event in EVENTS {
                peer.listen(LISTENER, event).await.unwrap();
            }
        }
        Self { folder, store, bus, servers: layout.servers, orders: Mutex::default() }
    }

    /// A host, on which every order completes; where a timer is needed, at the second attempt.
    pub(super) fn program(&self, point: Point) -> Command {
        let mut command = program(&["serve"]);
        command
            .env("SAGA__STORE__URL", &self.store)
            .env("SAGA__BUS__URL", &self.bus)
            .env("SAGA__PAYMENT__DELAY", "0s")
            .env("SAGA__PAYMENT__SUCCESS_RATE", "1")
            .env("SAGA__RETRY__INITIAL", "20ms")
            .env("SAGA__LOG__FILTER", "error,host::serve=info")
            .env("SAGA_CHARGES", self.folder.path().join("charges"));
        if matches!(point, Point::TimerRead | Point::TimerStored) {
            command.env("SAGA_FAILING_PAYMENTS", "1");
        }
        command
    }

    /// Orders under a key.
    pub(super) async fn post(&self, rest: &Rest, key: u64) -> Posted {
        let order = json!({ "items": [{ "productId": format!("tea-{key}"), "quantity": 1, "price": "9.90" }] });
        self.orders.lock().unwrap().entry(key).or_default();
        let (order, keyed) = (order.to_string(), format!("key-{key}"));
        let posted = rest.post("/api/orders", &order, &[("Idempotency-Key", &keyed)]).await;
        let Ok(answer) = posted else { return Posted::Unanswered };
        assert!(matches!(answer.status, 200 | 201), "{}: {}", answer.status, answer.text());
        let id = answer.json::<Value>().unwrap()["id"].as_str().unwrap().parse().unwrap();
        let before = self.orders.lock().unwrap().insert(key, Some(id)).flatten();
        assert!(before.is_none_or(|before| before == id), "the key {key} has two orders");
        Posted::Accepted(answer.status)
    }

    /// The keys under which nobody was told of an order.
    pub(super) fn unanswered(&self) -> Vec<u64> {
        let orders = self.orders.lock().unwrap();
        orders.iter().filter(|(_, order)| order.is_none()).map(|(key, _)| *key).collect()
    }

    /// Returns when the order is completed and its user was told so; `false`, when the host is gone.
    pub(super) async fn is_completed(&self, rest: &Rest, key: u64) -> bool {
        let id = self.orders.lock().unwrap()[&key].unwrap();
        let path = format!("/api/orders/{id}/notifications");
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let Ok(answer) = rest.get(&path).await else { return false };
            if answer.json::<Value>().unwrap()["items"].as_array().is_some_and(|told| !told.is_empty()) {
                return true;
            }
        }
    }

    /// Returns when nothing is left to do.
    pub(super) async fn until_at_rest(&self) {
        let mut looks = tokio::time::interval(LOOK);
        let at_rest = async {
            while self.left().await > 0 {
                looks.tick().await;
            }
        };
        // A lost host's rows are taken over when its lease has ended, after six seconds.
        if tokio::time::timeout(2 * PATIENCE, at_rest).await.is_err() {
            panic!("{} things are left to do in {}", self.left().await, self.store);
        }
    }

    async fn left(&self) -> i64 {
        use sqlx::{Connection, PgConnection, SqliteConnection};
        const LEFT: &str = "SELECT (SELECT count(*) FROM saga_outbox) + (SELECT count(*) FROM saga_timers)
            + (SELECT count(*) FROM orders WHERE status IN ('pending', 'processing'))
            + (SELECT count(*) FROM orders WHERE id NOT IN (SELECT order_id FROM notifications))";
        match self.servers {
            Servers::SqliteAndEmbedded => {
                let mut database = SqliteConnection::connect(&format!("{}?mode=ro", self.store)).await.unwrap();
                sqlx::query_scalar(LEFT).fetch_one(&mut database).await.unwrap()
            }
            Servers::PostgresAndRabbitMq => {
                let mut database = PgConnection::connect(&self.store).await.unwrap();
                let left = sqlx::query_scalar(LEFT).fetch_one(&mut database).await.unwrap();
                database.close().await.unwrap();
                left
            }
        }
    }

    async fn open(&self) -> Kept {
        match self.servers {
            Servers::SqliteAndEmbedded => {
                let store = SqliteStore::builder(&self.store).open().await.unwrap();
                Kept { orders: Arc::new(SqliteOrders::new(store.reader())), store: Arc::new(store) }
            }
            Servers::PostgresAndRabbitMq => {
                let store = PostgresStore::builder(&self.store).open().await.unwrap();
                Kept { orders: Arc::new(PostgresOrders::new(store.reader())), store: Arc::new(store) }
            }
        }
    }

    /// Everything is as if nothing had been killed: no host runs any more.
    pub(super) async fn assert_as_without_a_crash(&self, point: Point, times: u64, two_hosts: bool) {
        let evidence = self.evidence().await;
        let (summary, findings) = judge(&evidence);
        let name = format!("{}:{times} on {:?}", point.name(), self.servers);
        assert!(findings.is_empty(), "{name}: {findings:?}");
        for (id, seen) in &evidence.orders {
            let moved = seen.journal.iter().filter(|row| row.outcome == JournalOutcome::Moved);
            let moved: Vec<_> = moved.map(|row| row.message_type.replace("Orders:", "")).collect();
            assert_eq!(moved, ["OrderSubmitted", "OrderCreated", "PaymentApproved"], "{name}: {id}");
            assert_eq!(
                seen.instance.as_ref().map(|it| (it.version, it.state.as_str())),
                Some((3, "Completed")),
                "{name}"
            );
        }
        // Sent, confirmed and not settled: it is sent again, and heard twice, and handled once.
        if point == Point::Confirmed && times == 1 && self.servers == Servers::PostgresAndRabbitMq {
            assert!(summary.copies > 0, "{name}: nothing was sent twice");
        }
        // Of two hosts the other may have had the payment; what the killed one had then done was to notify.
        let is_repeated = point == Point::Performed && times == 1 && !two_hosts;
        self.assert_charged_once(&name, is_repeated, evidence.orders.keys());
    }

    /// The provider knows one charge for each order; one that was not recorded was asked for again under the same key.
    fn assert_charged_once<'a>(&self, name: &str, is_repeated: bool, orders: impl Iterator<Item = &'a Uuid>) {
        let charges = std::fs::read_to_string(self.folder.path().join("charges")).unwrap();
        let distinct: BTreeSet<_> = charges.lines().map(|line| line.split_once(' ').unwrap()).collect();
        let charged: Vec<Uuid> = distinct.iter().map(|(_, order)| order.parse().unwrap()).collect();
        let (charged_orders, orders): (BTreeSet<_>, BTreeSet<_>) = (charged.iter().collect(), orders.collect());
        assert_eq!(charged_orders, orders, "{name}");
        assert_eq!(charged.len(), orders.len(), "{name}: an order was charged under two keys");
        if is_repeated {
            assert!(charges.lines().count() > charged.len(), "{name}: no charge was repeated");
        }
    }

    async fn evidence(&self) -> Evidence {
        let Kept { store, orders } = self.open().await;
        let page = OrderPage { user_id: "local", status: None, before: None, limit: 1_000 };
        let stored = orders.page(&page).await.unwrap();
        let count: u64 = orders.count().await.unwrap().iter().map(|(_, count)| count).sum();
        assert_eq!(stored.len() as u64, count, "there are orders of others");
        let mut evidence = Evidence { accepted: self.accepted(), ..Evidence::default() };
        for order in stored {
            let instance = store.instance(Order::NAME, order.id).await.unwrap();
            let journal = store.journal(Order::NAME, order.id).await.unwrap();
            let told = orders.notifications(order.id).await.unwrap();
            evidence.told.extend(told.iter().map(|it| (it.order_id, it.kind.name().to_owned())));
            let status = order.status.name().to_owned();
            evidence.orders.insert(order.id, Seen { status, instance, journal });
        }
        let told: u64 = orders.count_notifications().await.unwrap().iter().map(|(_, count)| count).sum();
        assert_eq!(told, evidence.told.len() as u64, "somebody was told of an order that is not there");
        let backlog = store.backlog().await.unwrap();
        let left = [("outbox", backlog.outbox), ("timers", backlog.timers), ("dead letters", backlog.dead_letters)];
        evidence.left = left.map(|(place, count)| (place.to_owned(), count)).into();
        if self.servers == Servers::PostgresAndRabbitMq {
            self.listen(&mut evidence).await;
        }
        evidence
    }

    fn accepted(&self) -> Vec<(u64, Uuid)> {
        self.orders.lock().unwrap().iter().map(|(key, order)| (*key, order.unwrap())).collect()
    }

    /// What came to the listener, and what is left in the queues.
    async fn listen(&self, evidence: &mut Evidence) {
        let peer = Peer::at(&self.bus).await.unwrap();
        let mut heard = Vec::new();
        for received in peer.drain(LISTENER).await.unwrap() {
            let envelope = received.json();
            let id = |value: &Value| value.as_str().unwrap().parse::<Uuid>().unwrap();
            let (message_id, order) = (id(&envelope["messageId"]), id(&envelope["message"]["orderId"]));
            heard.push(Heard { message_id, name: received.exchange, order });
        }
        evidence.heard = Some(heard);
        for endpoint in [ORDER_SAGA, ORDER_PAYMENT, ORDER_NOTIFIER] {
            for queue in [endpoint.to_owned(), format!("{endpoint}_error")] {
                evidence.left.insert(queue.clone(), peer.waiting(&queue).await.unwrap().into());
            }
        }
    }
}
