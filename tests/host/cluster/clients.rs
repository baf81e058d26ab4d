//! Who submits to the hosts of a cluster, and does not give up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use host::rest::Rest;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::nodes::Nodes;

/// Who submits at the same time.
const CLIENTS: usize = 48;
/// How long an answer is waited for before another host is asked.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a client waits after a refusal, as a client that reads `Retry-After` would.
const PAUSE: Duration = Duration::from_millis(50);

/// The clients and what they know.
pub(crate) struct Clients<'a> {
    nodes: &'a Nodes,
    orders: u64,
    last_key: AtomicU64,
    /// The order of each key.
    accepted: Mutex<BTreeMap<u64, String>>,
    count: watch::Sender<u64>,
    /// Requests without an answer, or refused, which were sent again.
    repeated: AtomicU64,
    /// Of those, the ones whose order was there already.
    found: AtomicU64,
}

impl<'a> Clients<'a> {
    pub(crate) fn new(nodes: &'a Nodes, orders: u64) -> Self {
        let (last_key, repeated, found) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { nodes, orders, last_key, accepted: Mutex::default(), count: watch::channel(0).0, repeated, found }
    }

    /// Submits every order, each until a host has accepted it.
    pub(crate) async fn submit(&self) {
        let client = async || {
            loop {
                let key = self.last_key.fetch_add(1, Ordering::SeqCst) + 1;
                if key > self.orders {
                    return;
                }
                self.order(key).await;
            }
        };
        join_all((0..CLIENTS).map(|_| client())).await;
    }

    async fn order(&self, key: u64) {
        let order = json!({ "items": [{ "productId": format!("tea-{key}"), "quantity": 1, "price": "9.90" }] });
        let (order, keyed) = (order.to_string(), format!("key-{key}"));
        for attempt in 0.. {
            if let Some(address) = self.nodes.address(key + attempt) {
                let rest = Rest::new(address);
                let headers = [("Idempotency-Key", keyed.as_str())];
                let answer = tokio::time::timeout(ANSWER, rest.post("/api/orders", &order, &headers)).await;
                if let Ok(Ok(answer)) = answer {
                    match answer.status {
                        200 | 201 => {
                            self.found.fetch_add(u64::from(answer.status == 200), Ordering::SeqCst);
                            let id = answer.json::<Value>().unwrap()["id"].as_str().unwrap().to_owned();
                            self.accepted.lock().unwrap().insert(key, id);
                            self.count.send_modify(|count| *count += 1);
                            return;
                        }
                        503 => {}
                        status => panic!("an answer that no client expects: {status} {}", answer.text()),
                    }
                }
            }
            self.repeated.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns when so many orders are accepted.
    pub(crate) async fn until_accepted(&self, orders: u64) {
        let mut count = self.count.subscribe();
        // The sender is there as long as `self`.
        let _ = count.wait_for(|count| *count >= orders).await;
    }

    pub(crate) fn accepted(&self) -> BTreeMap<u64, String> {
        self.accepted.lock().unwrap().clone()
    }

    pub(crate) fn report(&self) -> String {
        let (repeated, found) = (self.repeated.load(Ordering::SeqCst), self.found.load(Ordering::SeqCst));
        format!("{repeated} requests repeated, {found} of them for an order that was stored and not answered")
    }
}
