//! What a commit writes, what spoils it, and under which settings it is made.

use std::sync::Arc;

use async_trait::async_trait;
use saga_core::{
    Commit, DeadLetterRow, Envelope, FailureKind, FaultMark, InboxRow, JournalOutcome, JournalRow, LoadQuery, Mark,
    OutboxRow, Point, PostgresStore, PostgresWriter, Probe, Store, StoreError, TimerRow,
};
use sqlx::{PgConnection, Row as _};
use tokio::sync::{Mutex, Notify};

use super::fixture::{Database, at, commit, id, inbox, instance, is_handled, migrator, outbox, sending, timer};

fn rejected<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Rejected(text)) => text,
        other => panic!("expected a rejection, got {other:?}"),
    }
}

#[tokio::test]
async fn given_texts_with_nul_when_they_are_written_then_they_come_back_as_they_were() {
    let database = Database::new();
    let store = database.host().await;
    for (n, odd) in (1..).zip(["\0", "a\0b", "␀", "␀0\0␀", "\0\0␀␀"]) {
        let name = || odd.to_owned().into();
        let letter = Arc::new(Envelope {
            source_address: Some(odd.to_owned()),
            message_type: vec![name()],
            ..Envelope::raw(id(n), "", saga_core::Body::of(&odd)).for_user(odd)
        });
        let line = JournalRow {
            saga: name(),
            id: id(n),
            version: Some(1),
            endpoint: name(),
            message_id: id(n),
            message_type: name(),
            message: letter.message.clone(),
            conversation_id: id(n),
            initiator_id: None,
            user: Some(odd.to_owned()),
            attempt: 1,
            outcome: JournalOutcome::Faulted,
            from: Some(name()),
            to: Some(name()),
            effects: Vec::new(),
            error: Some(odd.to_owned()),
            at: at(0),
        };
        let out = OutboxRow { destination: Some(name()), envelope: letter.clone() };
        let late = TimerRow { endpoint: name(), envelope: letter.clone(), ..timer(n, at(0)) };
        let dead = DeadLetterRow::new(&letter, name(), FailureKind::Panic, odd, at(0));
        let mark = Mark { saga: "saga".into(), id: id(n), retries: 1, fault: FaultMark::Set(odd.to_owned()) };
        let written = commit(|it| {
            it.inbox = vec![InboxRow { endpoint: name(), message_id: id(n) }];
            it.instances = vec![instance(n, 0)];
            it.marks = vec![mark];
            it.journal = vec![line.clone()];
            it.outbox = vec![out.clone()];
            it.timers = vec![late.clone()];
            it.dead_letters = vec![dead.clone()];
        });
        let sent = store.commit(written).await.unwrap();
        assert_eq!(store.journal(odd, id(n)).await.unwrap(), [line]);
        assert_eq!(store.instance("saga", id(n)).await.unwrap().unwrap().fault.as_deref(), Some(odd));
        let lane = saga_core::Lane::of(&out);
        assert_eq!(store.outbox_lane(&lane, 0, 10).await.unwrap().rows, [(sent[0], out)]);
        assert_eq!(store.due_timers(at(0), 10).await.unwrap().rows, [late]);
        assert_eq!(store.dead_letter(dead.id).await.unwrap(), Some(dead));
        let messages = [id(n)];
        let query = LoadQuery { endpoint: odd, messages: &messages, saga: "", instances: &[] };
        assert_eq!(store.load(&query).await.unwrap().handled, [id(n)].into());
        store.commit(commit(|it| (it.settled, it.cancelled) = (sent, vec![id(n)]))).await.unwrap();
    }
}

/// Tells when a point is reached, and never returns from it.
struct StopAt(Point, Notify);

#[async_trait]
impl Probe for StopAt {
    async fn reached(&self, point: Point) {
        if point == self.0 {
            self.1.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[test]
fn given_a_process_that_ends_inside_a_transaction_when_another_looks_then_nothing_was_written() {
    for point in [Point::InboxWritten, Point::InstanceWritten] {
        let database = Database::new();
        let survivor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let other = survivor.block_on(database.host());
        let process = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let step = || commit(|it| (it.inbox, it.instances) = (vec![inbox(1)], vec![instance(1, 0)]));
        process.block_on(async {
            let probe = Arc::new(StopAt(point, Notify::new()));
            let store = database.builder().probe(probe.clone()).open().await.unwrap();
            let writing = tokio::spawn(async move { store.commit(step()).await });
            probe.1.notified().await;
            assert!(!writing.is_finished());
        });
        survivor.block_on(async {
            assert!(!is_handled(&other, 1).await, "what is not committed is not seen");
            process.shutdown_background();
            // It waits for nobody: the server has rolled back when it noticed that the connection is gone.
            other.commit(step()).await.unwrap();
            assert!(is_handled(&other, 1).await);
        });
    }
}

#[tokio::test]
async fn given_no_tables_when_something_is_committed_then_the_store_is_not_available() {
    let database = Database::new();
    let store = database.builder().open().await.unwrap();
    for work in [commit(|it| it.inbox = vec![inbox(1)]), sending(0..1)] {
        let refused = store.commit(work).await;
        assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("migrations")), "{refused:?}");
    }
    store.migrate(&migrator()).await.unwrap();
    store.commit(commit(|it| it.inbox = vec![inbox(1)])).await.unwrap();
    store.commit(sending(0..1)).await.unwrap();
}

/// A domain row that says what its writer does.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Panics,
    PassesOver,
    Runs(&'static str),
    NestsTransaction,
}

#[derive(Default)]
struct Doer(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl PostgresWriter<Deed> for Doer {
    async fn write(&self, connection: &mut PgConnection, rows: &[&Deed]) -> Result<(), sqlx::Error> {
        for row in rows {
            match row {
                Deed::Panics => panic!("boom"),
                Deed::PassesOver => drop(sqlx::query("SELECT 1 / 0").execute(&mut *connection).await),
                Deed::Runs(sql) => {
                    let rows = sqlx::query(*sql).fetch_all(&mut *connection).await?;
                    self.0.lock().await.extend(rows.iter().map(|row| row.get(0)));
                }
                Deed::NestsTransaction => {
                    let mut nested = sqlx::Connection::begin(&mut *connection).await?;
                    let insert = "INSERT INTO test_rows (text) VALUES ('nested')";
                    sqlx::query(insert).execute(&mut *nested).await?;
                    nested.commit().await?;
                }
            }
        }
        Ok(())
    }
}

/// The store, and what its writer has read.
async fn doing(database: &Database) -> (PostgresStore, Arc<Mutex<Vec<String>>>) {
    let doer = Doer::default();
    let read = doer.0.clone();
    let store = database.builder().writer::<Deed, _>(doer).open().await.unwrap();
    store.migrate(&migrator()).await.unwrap();
    (store, read)
}

fn deed(n: u128, deed: Deed) -> Commit {
    Commit { inbox: vec![inbox(n)], rows: vec![Arc::new(deed)], ..Commit::new(at(0)) }
}

#[tokio::test]
async fn given_a_writer_that_fails_when_it_is_met_then_its_commit_is_refused_and_the_next_is_written() {
    let database = Database::new();
    let (store, _) = doing(&database).await;
    let bad: [(Deed, &str); 5] = [
        (Deed::Panics, "boom"),
        (Deed::Runs("SELECT 1 / 0"), "22012"),
        (Deed::Runs("INSERT INTO test_rows (text) VALUES (NULL) RETURNING text"), "23502"),
        (Deed::Runs("SELEC 1"), "42601"),
        (Deed::PassesOver, "has passed over an error"),
    ];
    for (n, (it, says)) in (1..).zip(bad) {
        let text = rejected(store.commit(Arc::new(deed(n, it))).await);
        assert!(text.contains(says), "{text}");
        assert!(!is_handled(&store, n).await, "{it:?} has written");
    }
    // Whatever is written behind the writer that passed over an error, nothing is.
    let passed_over = Commit { outbox: vec![outbox(1)], ..deed(9, Deed::PassesOver) };
    rejected(store.commit(Arc::new(passed_over)).await);
    assert!(!is_handled(&store, 9).await);

    let missing = store.commit(Arc::new(deed(10, Deed::Runs("SELECT 1 FROM not_yet_there")))).await;
    assert!(matches!(&missing, Err(StoreError::Unavailable(text)) if text.contains("migrations")), "{missing:?}");
    store.commit(Arc::new(deed(11, Deed::Runs("SELECT 'well'")))).await.unwrap();
    assert!(is_handled(&store, 11).await);
}

#[tokio::test]
async fn given_a_writer_that_begins_a_transaction_when_the_commit_fails_then_that_is_rolled_back_too() {
    let database = Database::new();
    let (store, _) = doing(&database).await;
    let spoiled = Commit { fired: vec![id(404)], ..deed(1, Deed::NestsTransaction) };
    assert!(matches!(store.commit(Arc::new(spoiled)).await, Err(StoreError::Conflict(_))));
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM test_rows").fetch_one(&store.reader()).await.unwrap();
    assert_eq!(rows, 0);
    store.commit(Arc::new(deed(1, Deed::NestsTransaction))).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM test_rows").fetch_one(&store.reader()).await.unwrap();
    assert_eq!(rows, 1);
}

const SETTINGS: &str = "SELECT current_setting(name) FROM unnest(ARRAY['transaction_isolation', 'synchronous_commit',
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_read_only',
    'application_name']) WITH ORDINALITY AS asked (name, n) ORDER BY n";

#[tokio::test]
async fn given_a_database_with_other_defaults_when_the_settings_are_read_then_they_are_what_is_promised() {
    let database = Database::new();
    let mut beside = database.connect().await;
    let defaults = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
        EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$";
    sqlx::query(defaults).execute(&mut beside).await.unwrap();
    let (store, read) = doing(&database).await;
    store.commit(Arc::new(deed(1, Deed::Runs(SETTINGS)))).await.unwrap();
    assert_eq!(*read.lock().await, ["read committed", "on", "10s", "3s", "10s", "off", "saga"]);
    let reader: Vec<String> = sqlx::query_scalar(SETTINGS).fetch_all(&store.reader()).await.unwrap();
    assert_eq!(reader[2..], ["10s", "3s", "10s", "on", "saga"]);
    let written = sqlx::query("DELETE FROM saga_inbox").execute(&store.reader()).await;
    assert!(written.is_err(), "a reader can not write");
}
