//! What the database and the broker can do at the most, measured in the same minutes as the flow that runs on them.

use std::time::{Duration, Instant};

use host::config::{BusUrl, StoreUrl};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::broker::{Publisher, Queue, WINDOW, persistent};
use crate::machine::median;
use crate::place::{Pairing, Place};

/// How long each ceiling is measured.
const TIME: Duration = Duration::from_secs(1);
/// How many units share a transaction, where they share one.
const UNITS: usize = 256;
/// How many clients write at the same time: PostgreSQL is fastest with two where units share a transaction, and with
/// many where each has its own.
const SHARING_CLIENTS: usize = 2;
const LONE_CLIENTS: usize = 16;
/// What a row or a message holds.
const BODY: usize = 500;

/// Units a second: a unit writes a row into each of three tables.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    shared_transactions: f64,
    lone_transactions: f64,
    /// Messages a second, where there is a broker.
    broker: Option<(f64, f64)>,
}

/// The ceilings of a pairing, run by run.
#[derive(Default)]
pub(crate) struct Ceilings(Vec<Ceiling>);

impl Ceilings {
    /// Measures once more, at a new place.
    pub(crate) async fn measure(&mut self, pairing: &Pairing) {
        let place = pairing.place();
        let (shared_transactions, lone_transactions) = match &place.store {
            StoreUrl::Memory => (f64::NAN, f64::NAN),
            StoreUrl::Sqlite(_) => on_sqlite(&place).await,
            StoreUrl::Postgres(url) => on_postgres(url.expose()).await,
        };
        let broker = match &place.bus {
            BusUrl::Embedded => None,
            BusUrl::RabbitMq(url) => Some(on_broker(url.expose()).await),
        };
        self.0.push(Ceiling { shared_transactions, lone_transactions, broker });
    }

    pub(crate) fn json(&self) -> Value {
        let median_of = |value: fn(&Ceiling) -> f64| median(&self.0.iter().map(value).collect::<Vec<_>>());
        let mut json = json!({
            "units_per_second_256_a_transaction": median_of(|it| it.shared_transactions),
            "units_per_second_1_a_transaction": median_of(|it| it.lone_transactions),
        });
        let broker: Vec<_> = self.0.iter().filter_map(|it| it.broker).collect();
        if !broker.is_empty() {
            let of = |value: fn(&(f64, f64)) -> f64| median(&broker.iter().map(value).collect::<Vec<_>>());
            json["messages_published_per_second"] = json!(of(|it| it.0));
            json["messages_consumed_per_second"] = json!(of(|it| it.1));
        }
        json
    }
}

const TABLES: [&str; 3] = ["bench_instances", "bench_inbox", "bench_outbox"];

async fn on_postgres(url: &str) -> (f64, f64) {
    let pool = PgPoolOptions::new().max_connections(LONE_CLIENTS as u32).connect(url).await.expect("a database");
    for table in TABLES {
        let create = format!("CREATE TABLE {table} (id uuid PRIMARY KEY, body text NOT NULL)");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&pool).await.expect("a table");
    }
    let write = {
        let pool = pool.clone();
        move |units| write_postgres(pool.clone(), units)
    };
    let shared = per_second(SHARING_CLIENTS, UNITS, write.clone()).await;
    let lone = per_second(LONE_CLIENTS, 1, write).await;
    for table in TABLES {
        let drop = format!("DROP TABLE {table}");
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&pool).await.expect("no table any more");
    }
    pool.close().await;
    (shared, lone)
}

async fn write_postgres(pool: PgPool, units: usize) {
    let (ids, bodies) = rows(units);
    let mut transaction = pool.begin().await.expect("a transaction");
    for table in TABLES {
        let insert = format!("INSERT INTO {table} SELECT * FROM unnest($1::uuid[], $2::text[])");
        let insert = sqlx::query(sqlx::AssertSqlSafe(insert)).bind(&ids).bind(&bodies);
        insert.execute(&mut *transaction).await.expect("rows");
    }
    transaction.commit().await.expect("a commit");
}

async fn on_sqlite(place: &Place) -> (f64, f64) {
    let url = place.store.to_string();
    let options: SqliteConnectOptions = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let options = options.synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("a database");
    for table in TABLES {
        let create = format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&pool).await.expect("a table");
    }
    let write = {
        let pool = pool.clone();
        move |units| write_sqlite(pool.clone(), units)
    };
    let shared = per_second(1, UNITS, write.clone()).await;
    let lone = per_second(1, 1, write).await;
    for table in TABLES {
        let drop = format!("DROP TABLE {table}");
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&pool).await.expect("no table any more");
    }
    pool.close().await;
    (shared, lone)
}

async fn write_sqlite(pool: SqlitePool, units: usize) {
    let (ids, bodies) = rows(units);
    let rows = json!(ids.iter().zip(&bodies).collect::<Vec<_>>()).to_string();
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.expect("a transaction");
    for table in TABLES {
        let insert = format!("INSERT INTO {table} SELECT value ->> 0, value ->> 1 FROM json_each(?)");
        sqlx::query(sqlx::AssertSqlSafe(insert)).bind(&rows).execute(&mut *transaction).await.expect("rows");
    }
    transaction.commit().await.expect("a commit");
}

fn rows(units: usize) -> (Vec<Uuid>, Vec<String>) {
    let ids: Vec<_> = (0..units).map(|_| Uuid::now_v7()).collect();
    (ids, vec!["x".repeat(BODY); units])
}

/// Units a second, written by so many clients at the same time.
async fn per_second<F: Future<Output = ()> + Send + 'static>(
    clients: usize,
    units: usize,
    write: impl Fn(usize) -> F + Clone + Send + 'static,
) -> f64 {
    let (started, mut writing) = (Instant::now(), JoinSet::new());
    for _ in 0..clients {
        let write = write.clone();
        writing.spawn(async move {
            let mut written = 0;
            while started.elapsed() < TIME {
                write(units).await;
                written += units;
            }
            written
        });
    }
    let written: usize = writing.join_all().await.into_iter().sum();
    written as f64 / started.elapsed().as_secs_f64()
}

/// Messages a second: published with confirms, and consumed with acknowledgements.
async fn on_broker(url: &str) -> (f64, f64) {
    let queue = Queue::declare(url, "bench-ceiling").await;
    let publisher = Publisher::to(url).await;
    let (started, mut messages) = (Instant::now(), 0_u64);
    while started.elapsed() < TIME {
        for _ in 0..WINDOW {
            publisher.publish("", "bench-ceiling", persistent(), vec![b'x'; BODY]).await;
        }
        messages += WINDOW as u64;
    }
    publisher.confirmed().await;
    let published = messages as f64 / started.elapsed().as_secs_f64();
    let started = Instant::now();
    queue.consume(messages).await;
    let consumed = messages as f64 / started.elapsed().as_secs_f64();
    queue.delete().await;
    (published, consumed)
}
