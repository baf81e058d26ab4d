//! Stored rows that can not be read: they block no other, and stay for an operator.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use saga_core::testkit::ManualClock;
use saga_core::{
    Clock, Commit, EmbeddedBus, Envelope, OutboxRow, Point, Probe, Runtime, Saga, SqliteStore, Store, TimerKind,
    TimerRow,
};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::lamp::{Lamp, Pushed};

const HOUR: Duration = Duration::from_secs(3_600);

fn lamp(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn pushed(n: u128) -> Arc<Envelope> {
    Arc::new(Envelope::new(lamp(n), &Pushed::of(lamp(n))))
}

fn timer(n: u128, due: DateTime<Utc>) -> TimerRow {
    let (token, endpoint) = (lamp(n), Lamp::ENDPOINT.into());
    TimerRow { token, endpoint, kind: TimerKind::Redelivery, due, envelope: pushed(n) }
}

async fn open(url: &str) -> SqliteStore {
    let store = SqliteStore::builder(url).open().await.unwrap();
    store.migrate(&SqliteStore::migrator()).await.unwrap();
    store
}

/// A database with what `commit` writes, in which `sql` has then been at work.
async fn spoiled(folder: &TempDir, commit: Commit, sql: &'static str) -> SqliteStore {
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let store = open(&url).await;
    store.commit(Arc::new(commit)).await.unwrap();
    store.close().await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    open(&url).await
}

#[derive(Default)]
struct Acknowledged(Notify);

#[async_trait]
impl Probe for Acknowledged {
    async fn reached(&self, point: Point) {
        if point == Point::Acknowledged {
            self.0.notify_one();
        }
    }
}

/// Runs until `steps` are done: at each the clock goes on, and the lamps named are to be pushed.
async fn run(store: &SqliteStore, clock: &Arc<ManualClock>, steps: &[(Duration, &[u128])]) {
    let probe = Arc::new(Acknowledged::default());
    let runtime = Runtime::builder(Arc::new(store.clone()), Arc::new(EmbeddedBus::new()));
    let runtime = runtime.clock(clock.clone()).probe(probe.clone()).saga::<Lamp>().build().unwrap();
    let done = async {
        for (by, lamps) in steps {
            clock.advance(*by);
            for n in *lamps {
                while store.instance(Lamp::NAME, lamp(*n)).await.unwrap().is_none() {
                    probe.0.notified().await;
                }
            }
        }
    };
    runtime.run(done).await.unwrap();
}

#[tokio::test]
async fn given_outbox_rows_that_can_not_be_read_when_it_starts_then_the_others_are_sent_and_those_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut commit = Commit::new(DateTime::UNIX_EPOCH);
    let row = |n| OutboxRow { destination: Some(Lamp::ENDPOINT.into()), envelope: pushed(n) };
    commit.outbox = (1..=4).map(row).collect();
    let store = spoiled(&folder, commit, "UPDATE saga_outbox SET envelope = '{' WHERE id IN (1, 3)").await;
    run(&store, &Arc::default(), &[(Duration::ZERO, &[2, 4])]).await;
    let page = store.outbox(0, 1).await.unwrap();
    let keys: Vec<_> = page.unreadable.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys[0], "1", "{page:?}");
    assert!(page.unreadable[0].reason.contains("saga_outbox holds \"{\""), "{page:?}");
    assert_eq!(store.instance(Lamp::NAME, lamp(1)).await.unwrap(), None);
}

#[tokio::test]
async fn given_timers_that_can_not_be_read_when_they_are_due_then_the_others_fire_and_so_do_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let mut commit = Commit::new(DateTime::UNIX_EPOCH);
    commit.timers = (1..=4).map(|n| timer(n, clock.now() - HOUR)).collect();
    commit.timers.push(timer(5, clock.now() + HOUR));
    let spoil = "UPDATE saga_timers SET kind = 'unheard', envelope = '{' WHERE token LIKE '%1' OR token LIKE '%3'";
    let store = spoiled(&folder, commit, spoil).await;
    run(&store, &clock, &[(Duration::ZERO, &[2, 4]), (HOUR, &[5])]).await;
    let due = store.due_timers(clock.now(), 1).await.unwrap();
    assert_eq!((due.rows, due.unreadable.len()), (vec![], 2));
    assert_eq!(store.backlog().await.unwrap().timers, 2);
}
