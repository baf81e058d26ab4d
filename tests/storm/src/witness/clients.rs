//! Who submits, does not give up, and writes down what was accepted.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use host::rest::{Answer, Rest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::Begin;

/// Who submits at the same time.
const CLIENTS: usize = 48;
/// How long an answer is waited for before another host is asked.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a client waits after a refusal, as a client that reads `Retry-After` would.
const PAUSE: Duration = Duration::from_millis(50);

/// The clients, and what they know.
#[derive(Clone)]
pub(super) struct Clients(Arc<Shared>);

struct Shared {
    hosts: Vec<Rest>,
    orders: u64,
    over: Duration,
    last_key: AtomicU64,
    record: Mutex<File>,
    path: PathBuf,
    answers: Mutex<Vec<String>>,
    repeated: AtomicU64,
    found: AtomicU64,
}

/// A line of the record: an answer that promised an order.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    key: u64,
    order: Uuid,
    status: u16,
}

impl Clients {
    pub(super) fn new(begin: &Begin) -> anyhow::Result<Self> {
        let path = begin.record.clone();
        let record = File::options().create(true).append(true).open(&path);
        let record = record.with_context(|| format!("{} can not be written", path.display()))?;
        Ok(Self(Arc::new(Shared {
            hosts: begin.hosts.iter().map(|address| Rest::new(*address)).collect(),
            orders: begin.orders,
            over: begin.over,
            last_key: AtomicU64::new(0),
            record: Mutex::new(record),
            path,
            answers: Mutex::default(),
            repeated: AtomicU64::new(0),
            found: AtomicU64::new(0),
        })))
    }

    /// Submits every order, none before its time, each until a host has accepted it.
    pub(super) async fn submit(self) {
        let shared = &self.0;
        let start = Instant::now();
        let client = async || {
            loop {
                let key = shared.last_key.fetch_add(1, Ordering::SeqCst) + 1;
                if key > shared.orders {
                    return;
                }
                sleep_until(start + shared.over.mul_f64((key - 1) as f64 / shared.orders as f64)).await;
                shared.order(key).await;
            }
        };
        join_all((0..CLIENTS).map(|_| client())).await;
    }

    /// The record, as it stands in the file.
    pub(super) fn accepted(&self) -> anyhow::Result<Vec<(u64, Uuid)>> {
        let file = File::open(&self.0.path).context("the record can not be read")?;
        let line = |line: std::io::Result<String>| {
            let Accepted { key, order, .. } = serde_json::from_str(&line?).context("a line of the record")?;
            Ok((key, order))
        };
        BufReader::new(file).lines().map(line).collect()
    }

    /// Answers that no client expects.
    pub(super) fn answers(&self) -> Vec<String> {
        self.0.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests had no answer or were refused, and were sent again; and how many of those found their order there.
    pub(super) fn repeated(&self) -> (u64, u64) {
        (self.0.repeated.load(Ordering::SeqCst), self.0.found.load(Ordering::SeqCst))
    }
}

impl Shared {
    async fn order(&self, key: u64) {
        let order = json!({ "items": [{ "productId": format!("tea-{key}"), "quantity": 1, "price": "9.90" }] });
        let (order, keyed) = (order.to_string(), format!("key-{key}"));
        for attempt in 0.. {
            let rest = &self.hosts[(key + attempt) as usize % self.hosts.len()];
            let headers = [("Idempotency-Key", keyed.as_str())];
            if let Ok(Ok(answer)) = timeout(ANSWER, rest.post("/api/orders", &order, &headers)).await
                && self.take(key, &answer)
            {
                return;
            }
            self.repeated.fetch_add(1, Ordering::SeqCst);
            sleep(PAUSE).await;
        }
    }

    /// Takes note of an answer, and says whether it promises the order.
    fn take(&self, key: u64, answer: &Answer) -> bool {
        match answer.status {
            200 | 201 => {
                let order = answer.json::<Value>().ok().and_then(|it| it["id"].as_str()?.parse::<Uuid>().ok());
                let written = order.map(|order| self.write(&Accepted { key, order, status: answer.status }));
                if !matches!(written, Some(Ok(()))) {
                    self.unexpected(format!(
                        "the answer to key {key} is not written down: {}, {written:?}",
                        answer.text()
                    ));
                }
                self.found.fetch_add(u64::from(answer.status == 200), Ordering::SeqCst);
                true
            }
            503 => false,
            status => {
                self.unexpected(format!("the answer to key {key} is {status}: {}", answer.text()));
                false
            }
        }
    }

    /// Durable on return.
    fn write(&self, accepted: &Accepted) -> anyhow::Result<()> {
        let line = serde_json::to_string(accepted)? + "\n";
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.write_all(line.as_bytes())?;
        Ok(record.sync_data()?)
    }

    fn unexpected(&self, answer: String) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }
}
