//! Servers that stop, connections that are lost, transactions that meet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use saga_core::{Commit, Point, PostgresStore, Probe, Row, Store, StoreError};
use sqlx::{Connection, PgConnection};
use test_servers::{Postgres, PostgresOptions, Proxy, Way};
use tokio::task::JoinSet;

use super::fixture::{
    Database, at, commit, commit_patiently, eventually, id, inbox, instance, is_handled, migrator, outbox, sending,
};

const WRITERS: u128 = 4;

/// Writes until it is told to stop, each message once, as the runtime does: what is not known to stand is committed
/// again. Answers the messages that were acknowledged.
async fn write_until(stop: &AtomicBool, store: &PostgresStore, writer: u128) -> Vec<u128> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let message = writer * 1_000_000 + acknowledged.len() as u128;
        let work = commit(|it| {
            (it.inbox, it.instances) = (vec![inbox(message)], vec![instance(message, 0)]);
            it.outbox = vec![outbox(message)];
        });
        match commit_patiently(store, &work).await {
            // A conflict in the inbox: an earlier try stands, whose answer was lost.
            Ok(_) | Err(StoreError::Conflict(_)) => acknowledged.push(message),
            Err(error) => panic!("{message}: {error}"),
        }
    }
    acknowledged
}

/// What writers were told is there, once each, and nothing else is.
async fn assert_written(connection: &mut PgConnection, acknowledged: &[u128]) {
    for query in [
        "SELECT message_id FROM saga_inbox ORDER BY 1",
        "SELECT id FROM saga_instances ORDER BY 1",
        "SELECT message_id FROM saga_outbox ORDER BY 1",
    ] {
        let written: Vec<uuid::Uuid> = sqlx::query_scalar(query).fetch_all(&mut *connection).await.unwrap();
        let expected: BTreeSet<_> = acknowledged.iter().map(|message| id(*message)).collect();
        assert_eq!(written.len(), expected.len(), "{query}");
        assert!(written.iter().eq(&expected), "{query}");
    }
}

/// Lets writers write while `trouble` goes on; then what they were told must be there.
pub(super) async fn write_through(database: &Database, trouble: impl AsyncFnOnce(&PostgresStore)) {
    let store = database.host().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 1..=WRITERS {
        let (stop, store) = (stop.clone(), store.clone());
        writers.spawn(async move { write_until(&stop, &store, writer).await });
    }
    trouble(&store).await;
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    assert_written(&mut database.connect().await, &acknowledged).await;
    store.ping().await.unwrap();
}

/// Waits until so many more messages were handled.
pub(super) async fn until_handled(database: &Database, more: i64) {
    let count = async || {
        let mut connection = database.connect().await;
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM saga_inbox").fetch_one(&mut connection).await.unwrap();
        count
    };
    let before = count().await;
    eventually("messages to be handled", async || (count().await >= before + more).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_that_stops_at_once_in_the_middle_of_commits_when_it_starts_again_then_nothing_is_lost() {
    let server = Arc::new(Postgres::start());
    let database = Database::on(&server);
    write_through(&database, async |_| {
        for stop in [Postgres::stop_immediate, Postgres::kill9, Postgres::stop_fast] {
            until_handled(&database, 20).await;
            let server = server.clone();
            let restarting = move || {
                stop(&server);
                server.start_again();
            };
            tokio::task::spawn_blocking(restarting).await.unwrap();
        }
        until_handled(&database, 20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_backends_that_are_killed_again_and_again_when_commits_go_on_then_nothing_is_lost() {
    let database = Database::new();
    let mut beside = database.connect().await;
    write_through(&database, async |_| {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'saga'";
        let mut killed = 0;
        while killed < 60 {
            until_handled(&database, 5).await;
            let now: i64 = sqlx::query_scalar(kill).fetch_one(&mut beside).await.unwrap();
            killed += now;
        }
    })
    .await;
}

/// Cuts the way back from the server when the instances are written, once.
struct CutAnswers {
    proxy: Proxy,
    is_armed: AtomicBool,
}

#[async_trait]
impl Probe for CutAnswers {
    async fn reached(&self, point: Point) {
        if point == Point::InstanceWritten && self.is_armed.swap(false, Ordering::SeqCst) {
            self.proxy.half_open(Way::ToClient);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_commit_whose_answer_is_lost_when_it_is_repeated_then_the_inbox_knows_it() {
    let database = Database::new();
    database.host().await.close().await;
    let proxy = Proxy::to(&database.url);
    let url = proxy.url(&database.url);
    let probe = Arc::new(CutAnswers { proxy, is_armed: AtomicBool::new(true) });
    let store = PostgresStore::builder(&url).probe(probe.clone()).open().await.unwrap();
    let work = commit(|it| (it.inbox, it.instances) = (vec![inbox(1)], vec![instance(1, 0)]));
    let committing = tokio::spawn({
        let (store, work) = (store.clone(), work.clone());
        async move { store.commit(work).await }
    });
    // The COMMIT was forwarded and done, and its answer is held back.
    let mut beside = database.connect().await;
    eventually("the commit to stand", async || {
        let there = sqlx::query("SELECT FROM saga_inbox").fetch_optional(&mut beside).await.unwrap();
        there.map(drop)
    })
    .await;
    assert!(!committing.is_finished());
    probe.proxy.cut();
    probe.proxy.resume();
    let unsure = committing.await.unwrap();
    assert!(matches!(&unsure, Err(StoreError::Unavailable(text)) if text.contains("it may stand")), "{unsure:?}");

    let again = commit_patiently(&store, &work).await;
    assert!(matches!(&again, Err(StoreError::Conflict(text)) if text.contains("handled before")), "{again:?}");
    assert!(is_handled(&store, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_transactions_that_lock_each_other_out_when_the_server_ends_one_then_it_is_a_conflict() {
    let database = Database::of_superuser();
    let store = database.host().await;
    store.commit(commit(|it| it.instances = vec![instance(1, 0), instance(2, 0)])).await.unwrap();
    let lock = "UPDATE saga_instances SET fault = NULL WHERE id = $1";
    let mut beside = database.connect().await;
    // The other does not look for deadlocks, so that it is the commit that is ended.
    sqlx::query("SET deadlock_timeout = '1h'").execute(&mut beside).await.unwrap();
    let mut other = beside.begin().await.unwrap();
    sqlx::query(lock).bind(id(2)).execute(&mut *other).await.unwrap();
    // It has the first and waits for the second; then the other wants the first.
    let both = commit(|it| it.instances = vec![instance(2, 1), instance(1, 1)]);
    let committing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(both).await }
    });
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND datname = current_database())";
    let mut watcher = database.connect().await;
    eventually("the commit to wait", async || {
        let waiting: bool = sqlx::query_scalar(waiting).fetch_one(&mut watcher).await.unwrap();
        waiting.then_some(())
    })
    .await;
    sqlx::query(lock).bind(id(1)).execute(&mut *other).await.unwrap();
    let ended = committing.await.unwrap();
    // On a slow machine it may look too early, and give up the wait instead.
    let says = |text: &str| text.contains("40P01") || text.contains("55P03");
    assert!(matches!(&ended, Err(StoreError::Conflict(text)) if says(text)), "{ended:?}");
    other.rollback().await.unwrap();
}

#[tokio::test]
async fn given_a_row_that_another_transaction_keeps_when_it_is_waited_for_too_long_then_it_is_a_conflict() {
    let database = Database::new();
    let store = database.host().await;
    store.commit(commit(|it| it.instances = vec![instance(1, 0)])).await.unwrap();
    let mut beside = database.connect().await;
    let mut other = beside.begin().await.unwrap();
    sqlx::query("SELECT FROM saga_instances FOR UPDATE").execute(&mut *other).await.unwrap();
    let waited = store.commit(commit(|it| it.instances = vec![instance(1, 1)])).await;
    assert!(matches!(&waited, Err(StoreError::Conflict(text)) if text.contains("55P03")), "{waited:?}");
    other.rollback().await.unwrap();
    store.commit(commit(|it| it.instances = vec![instance(1, 1)])).await.unwrap();
}

/// Says with which SQLSTATE PostgreSQL fails.
#[derive(Debug)]
struct Raise(&'static str);

struct Raises;

#[async_trait]
impl saga_core::PostgresWriter<Raise> for Raises {
    async fn write(&self, connection: &mut PgConnection, rows: &[&Raise]) -> Result<(), sqlx::Error> {
        let raise = sqlx::query("SELECT raise($1)").bind(rows[0].0);
        raise.execute(connection).await.map(drop)
    }
}

#[tokio::test]
async fn given_any_error_of_the_server_when_a_commit_meets_it_then_its_sqlstate_says_what_to_do() {
    let database = Database::new();
    let store = database.builder().writer::<Raise, _>(Raises).open().await.unwrap();
    store.migrate(&migrator()).await.unwrap();
    let raise = "CREATE FUNCTION raise(state text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'it is said in another language' USING ERRCODE = state; END $$";
    sqlx::query(raise).execute(&mut database.connect().await).await.unwrap();
    let conflicts = ["40001", "40P01", "55P03"];
    let rejected = ["22003", "22021", "22P02", "23502", "23503", "23505", "23514", "21000", "42601", "44000"];
    let unavailable =
        ["08006", "25006", "26000", "0A000", "42501", "42P01", "42703", "53100", "53200", "53300", "57014", "57P01"];
    let kinds = conflicts.map(|it| (it, 'C')).into_iter().chain(rejected.map(|it| (it, 'R')));
    let kinds = kinds.chain(unavailable.map(|it| (it, 'U'))).chain([("58030", 'U'), ("XX001", 'X'), ("XX002", 'X')]);
    for (state, kind) in kinds {
        let row: Arc<dyn Row> = Arc::new(Raise(state));
        let met = store.commit(Arc::new(Commit { rows: vec![row], ..Commit::new(at(0)) })).await;
        let (met, text) = match met {
            Err(StoreError::Conflict(text)) => ('C', text),
            Err(StoreError::Rejected(text)) => ('R', text),
            Err(StoreError::Unavailable(text)) => ('U', text),
            Err(StoreError::Corrupt(text)) => ('X', text),
            other => panic!("{state}: {other:?}"),
        };
        assert_eq!(met, kind, "{state}: {text}");
        assert!(text.contains(&format!("SQLSTATE {state}")), "{text}");
    }
    store.commit(sending(0..1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn given_all_connections_in_use_when_more_is_asked_then_the_wait_is_bounded_and_ends_well() {
    let database = Database::new();
    let store = database.builder().connections(2).open().await.unwrap();
    store.migrate(&migrator()).await.unwrap();
    store.commit(commit(|it| it.instances = vec![instance(1, 0)])).await.unwrap();
    // More at once than there are connections: each waits for its turn.
    let many = join_all((100..150).map(|n| store.commit(commit(|it| it.inbox = vec![inbox(n)])))).await;
    assert!(many.iter().all(Result::is_ok), "{many:?}");

    let mut beside = database.connect().await;
    let mut other = beside.begin().await.unwrap();
    sqlx::query("SELECT FROM saga_instances FOR UPDATE").execute(&mut *other).await.unwrap();
    let mut stuck = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        stuck.spawn(async move { store.commit(commit(|it| it.instances = vec![instance(1, 1)])).await });
    }
    let started = Instant::now();
    for outcome in stuck.join_all().await {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains("55P03") || text.contains("all 2 connections are busy"), "{text}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    other.rollback().await.unwrap();
    store.commit(commit(|it| it.instances = vec![instance(1, 1)])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_that_is_away_when_the_store_is_asked_then_it_says_so_in_time_and_works_when_it_is_back() {
    let server = Arc::new(Postgres::start_with(PostgresOptions { durable: false }));
    let database = Database::on(&server);
    let store = database.host().await;
    store.commit(commit(|it| it.inbox = vec![inbox(1)])).await.unwrap();
    let away = server.clone();
    tokio::task::spawn_blocking(move || away.stop_immediate()).await.unwrap();
    let started = Instant::now();
    let mut said = String::new();
    for refused in [
        store.ping().await,
        store.commit(commit(|it| it.inbox = vec![inbox(2)])).await.map(drop),
        store.outbox(0, 10).await.map(drop),
        store.migrate(&migrator()).await,
    ] {
        match refused {
            Err(StoreError::Unavailable(text)) => said = text,
            other => panic!("expected a store that is not available, got {other:?}"),
        }
    }
    assert!(said.contains("127.0.0.1") && said.contains("Connection refused"), "it says which server, and why: {said}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let back = server.clone();
    tokio::task::spawn_blocking(move || back.start_again()).await.unwrap();
    eventually("the store to be back", async || store.ping().await.ok()).await;
    commit_patiently(&store, &commit(|it| it.inbox = vec![inbox(2)])).await.unwrap();
    assert!(is_handled(&store, 2).await);
}
