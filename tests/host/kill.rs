//! SIGKILL of the real program under load, at each named point and at random: what was accepted ends as it should.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::future::join_all;
use host::rest::{Answer, Rest};
use saga_core::Point;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

use crate::support::{PATIENCE, Served, program};

/// Who submits at the same time.
const CLIENTS: usize = 16;
/// The signal that nobody can catch.
const SIGKILL: i32 = 9;

/// Numbers that look random and are the same at each run.
struct Chance(u64);

impl Chance {
    fn of(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    /// From 1 to `most`. (SplitMix64.)
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % most + 1
    }
}

/// The clients, and what they know; all of it outlives the program that they speak to.
struct Clients {
    folder: TempDir,
    last_key: AtomicU64,
    /// Keys of requests that nobody answered: they are repeated.
    unanswered: Mutex<Vec<u64>>,
    /// The order of each key.
    accepted: Mutex<BTreeMap<u64, String>>,
    /// Repeated requests whose order was there: it was stored, and the answer was lost.
    found: AtomicUsize,
}

impl Clients {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (unanswered, accepted) = (Mutex::default(), Mutex::default());
        Self { folder, last_key: AtomicU64::new(0), unanswered, accepted, found: AtomicUsize::new(0) }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("orders.db")
    }

    /// The program, on what the one before has left.
    fn program(&self) -> Command {
        let mut command = program(&["serve"]);
        command
            .env("SAGA__STORE__URL", format!("sqlite://{}", self.database().display()))
            .env("SAGA__PAYMENT__DELAY", "0s")
            .env("SAGA__PAYMENT__SUCCESS_RATE", "0.5")
            .env("SAGA__PAYMENT__SEED", "1")
            .env("SAGA__EXPIRATION__AFTER", "300ms")
            .env("SAGA__EXPIRATION__INTERVAL", "100ms")
            .env("SAGA__RETRY__INITIAL", "20ms")
            // A payment may fail once in each of many processes, and that must not be the end of it.
            .env("SAGA__RETRY__LIMIT", "100")
            .env("SAGA_FAILING_PAYMENTS", "3")
            .env("SAGA__LOG__FILTER", "error,host::serve=info");
        command
    }

    /// Everybody submits, first what was not answered, as long as `go_on` says so and the program answers.
    async fn submit(&self, rest: &Rest, go_on: impl Fn() -> bool) {
        let client = async || {
            while go_on() {
                let again = self.unanswered.lock().unwrap().pop();
                let key = again.unwrap_or_else(|| self.last_key.fetch_add(1, Ordering::SeqCst) + 1);
                let Ok(answer) = self.post(rest, key).await else {
                    self.unanswered.lock().unwrap().push(key);
                    return;
                };
                self.found.fetch_add(usize::from(answer.status == 200), Ordering::SeqCst);
                self.answered(key, &answer);
            }
        };
        tokio::time::timeout(PATIENCE, join_all((0..CLIENTS).map(|_| client()))).await.expect("it goes on for ever");
    }

    async fn post(&self, rest: &Rest, key: u64) -> anyhow::Result<Answer> {
        let order = json!({ "items": [{ "productId": format!("tea-{key}"), "quantity": 1, "price": "9.90" }] });
        rest.post("/api/orders", &order.to_string(), &[("Idempotency-Key", &format!("key-{key}"))]).await
    }

    fn answered(&self, key: u64, answer: &Answer) {
        assert!(matches!(answer.status, 200 | 201), "{}: {}", answer.status, answer.text());
        let id = answer.json::<Value>().unwrap()["id"].as_str().unwrap().to_owned();
        let before = self.accepted.lock().unwrap().insert(key, id.clone());
        assert!(before.is_none_or(|before| before == id), "the key {key} has two orders");
    }

    fn count(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Starts the program once more, unharmed: what was not answered is repeated, and everything comes to its end.
    /// Returns how many orders were stored by a request that nobody answered.
    async fn finish(&self) -> usize {
        let served = Served::start(&mut self.program());
        self.submit(&served.rest, || !self.unanswered.lock().unwrap().is_empty()).await;
        let repeated: Vec<_> = self.accepted.lock().unwrap().keys().copied().step_by(7).collect();
        for key in repeated {
            let answer = self.post(&served.rest, key).await.unwrap();
            assert_eq!(answer.status, 200, "the key {key} was accepted before");
            self.answered(key, &answer);
        }
        let found = self.found.load(Ordering::SeqCst);
        println!("{} orders accepted, {found} of them stored by a request that nobody answered", self.count());
        let mut database = self.open().await;
        let at_rest = async {
            while sum(
                &mut database,
                "(SELECT count(*) FROM saga_outbox) + (SELECT count(*) FROM saga_timers)
                 + (SELECT count(*) FROM orders WHERE status IN ('pending', 'processing'))",
            )
            .await
                > 0
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, at_rest).await.expect("it does not come to rest");
        served.signal("-TERM");
        assert_eq!(served.exit_code(), Some(0));
        self.assert_sound(&mut database).await;
        database.close().await.unwrap();
        found
    }

    async fn open(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.database()).read_only(true).connect().await.unwrap()
    }

    /// Every accepted order is final and was told so once; nothing exists twice, and nothing else exists.
    async fn assert_sound(&self, database: &mut SqliteConnection) {
        let stored: Vec<String> = sqlx::query_scalar("SELECT id FROM orders").fetch_all(&mut *database).await.unwrap();
        let mut accepted: Vec<_> = self.accepted.lock().unwrap().values().cloned().collect();
        accepted.sort_unstable();
        assert_eq!(stored.len(), accepted.len(), "an order for each key, and no other");
        for id in &stored {
            assert!(accepted.binary_search(id).is_ok(), "nobody was told of the order {id}");
        }
        let completed = sum(database, "(SELECT count(*) FROM orders WHERE status = 'completed')").await;
        println!("{} orders: {completed} completed, the others expired", stored.len());
        assert!(completed > 0 && completed < stored.len() as i64, "both ends are met");
        for (what, from) in UNSOUND {
            assert_eq!(sum(database, &format!("(SELECT count(*) FROM {from})")).await, 0, "{what}");
        }
    }
}

/// What must not be there when everything has come to its end. An order whose payment was lost would expire, and look
/// well, so it is asked, too, whether each message was heard.
#[rustfmt::skip] // SQL reads best in lines of its own.
const UNSOUND: [(&str, &str); 11] = [
    ("orders that are not final", "orders WHERE status NOT IN ('completed', 'expired')"),
    ("orders that their saga does not agree with",
     "orders LEFT JOIN saga_instances USING (id) WHERE lower(coalesce(state, '')) <> status"),
    ("orders without the notification of their kind",
     "orders WHERE NOT EXISTS (SELECT 1 FROM notifications WHERE order_id = orders.id AND kind = orders.status)"),
    ("notifications too many", "notifications JOIN orders ON orders.id = order_id WHERE kind <> status"),
    ("orders that became final more or less than once",
     "orders WHERE 1 <> (SELECT count(*) FROM saga_journal WHERE instance_id = orders.id AND outcome = 'moved'
                         AND from_state <> to_state AND to_state IN ('Completed', 'Expired'))"),
    ("histories with a gap",
     "(SELECT instance_id AS id, count(version) AS steps, count(DISTINCT version) AS versions, max(version) AS last
       FROM saga_journal GROUP BY instance_id)
      JOIN saga_instances USING (id) WHERE steps <> last OR versions <> last OR version <> last"),
    ("messages handled twice", "(SELECT 1 FROM handled GROUP BY id, endpoint, message_id HAVING count(*) > 1)"),
    ("orders whose creation was not heard once",
     "orders WHERE 1 <> (SELECT count(*) FROM handled WHERE handled.id = orders.id AND type = 'Orders:OrderCreated')"),
    ("orders whose payment was asked for twice, or has no answer, or more than one",
     "(SELECT orders.id,
        (SELECT count(*) FROM caused WHERE caused.id = orders.id AND type = 'Orders:ProcessPayment') AS asked,
        (SELECT count(*) FROM handled WHERE handled.id = orders.id
         AND type IN ('Orders:PaymentApproved', 'Orders:PaymentDeclined')) AS answered
       FROM orders) WHERE asked <> answered OR asked > 1"),
    ("orders whose refund was asked for twice, or has no answer, or more than one",
     "(SELECT orders.id,
        (SELECT count(*) FROM caused WHERE caused.id = orders.id AND type = 'Orders:RefundPayment') AS asked,
        (SELECT count(*) FROM handled WHERE handled.id = orders.id AND type = 'Orders:PaymentRefunded') AS answered
       FROM orders) WHERE asked <> answered OR asked > 1"),
    ("dead letters", "saga_dead_letters"),
];

/// What each order's saga has handled, and what its steps have caused.
const HISTORY: &str = "WITH
    handled (id, type, endpoint, message_id) AS MATERIALIZED
        (SELECT instance_id, message_type, endpoint, message_id FROM saga_journal WHERE outcome IN ('moved', 'ignored')),
    caused (id, type) AS MATERIALIZED
        (SELECT instance_id, value ->> 'name' FROM saga_journal, json_each(effects))";

async fn sum(database: &mut SqliteConnection, sum: &str) -> i64 {
    // The texts stand in this file.
    sqlx::query_scalar(AssertSqlSafe(format!("{HISTORY} SELECT {sum}"))).fetch_one(database).await.unwrap()
}

#[tokio::test]
async fn given_a_kill_at_each_point_under_load_when_started_again_then_each_order_ends_once() {
    let mut chance = Chance::of(2_026);
    let clients = Clients::new();
    for point in Point::ALL.into_iter().chain(Point::ALL) {
        let failpoint = format!("{}:{}", point.name(), chance.up_to(25));
        let before = clients.count();
        // On what was left behind it may come to its point before anybody is answered.
        let ended = match Served::try_start(clients.program().env("SAGA_FAILPOINT", &failpoint)) {
            Ok(served) => {
                clients.submit(&served.rest, || true).await;
                served.ended()
            }
            Err(ended) => ended,
        };
        assert_eq!(ended.signal(), Some(SIGKILL), "{failpoint}");
        println!("{failpoint} killed it after {} orders", clients.count() - before);
    }
    let found = clients.finish().await;
    assert!(found > 0, "no answer was lost, so nothing was repeated that was stored");
}

#[tokio::test]
async fn given_kills_at_random_under_load_when_started_again_then_each_order_ends_once() {
    const KILLS: u64 = 12;
    let mut chance = Chance::of(11_23);
    let clients = Clients::new();
    for _ in 0..KILLS {
        let served = Served::start(&mut clients.program());
        let (before, orders) = (clients.count(), chance.up_to(300) as usize);
        let killed = AtomicUsize::new(0);
        let go_on = || {
            if clients.count() >= before + orders && killed.fetch_add(1, Ordering::SeqCst) == 0 {
                served.signal("-KILL");
            }
            true
        };
        clients.submit(&served.rest, go_on).await;
        assert_eq!(served.ended().signal(), Some(SIGKILL));
        println!("killed after {} orders; it was to be {orders}", clients.count() - before);
    }
    clients.finish().await;
}
