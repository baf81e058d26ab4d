//! Tests of the SQLite store.

mod riders;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use saga_core::testkit::conformance::store::{StoreFactory, TestRow};
use saga_core::{
    Body, Commit, Envelope, InboxRow, InstanceRow, LoadQuery, Point, Probe, SqliteStore, SqliteStoreBuilder,
    SqliteWriter, Store, StoreError, TimerKind, TimerRow,
};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqlSafeStr, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::{Mutex, Notify};
use uuid::Uuid;

saga_core::store_conformance!(Folder::new());

/// A database in a folder of its own, and the store that has it open.
struct Folder {
    folder: TempDir,
    store: Mutex<Option<SqliteStore>>,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: Mutex::new(None) }
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("data/test.db").display())
    }

    fn builder(&self) -> SqliteStoreBuilder {
        SqliteStore::builder(&self.url()).writer::<TestRow, _>(TestRows)
    }

    /// Opens the store without a second handle on it.
    async fn alone(&self) -> SqliteStore {
        let store = self.builder().open().await.unwrap();
        store.migrate(&migrator()).await.unwrap();
        store
    }
}

#[async_trait]
impl StoreFactory for Folder {
    async fn open(&self) -> Arc<dyn Store> {
        let store = self.alone().await;
        *self.store.lock().await = Some(store.clone());
        Arc::new(store)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(store);
        let store = self.store.lock().await.take();
        store.unwrap().close().await;
        Some(self.open().await)
    }

    async fn rows(&self) -> Vec<TestRow> {
        let store = self.store.lock().await;
        let reader = store.as_ref().unwrap().reader();
        let rows = sqlx::query_scalar("SELECT text FROM test_rows ORDER BY seq").fetch_all(&reader).await.unwrap();
        rows.into_iter().map(|text| TestRow { text, spoiled: false }).collect()
    }
}

struct TestRows;

impl SqliteWriter<TestRow> for TestRows {
    fn write(&self, connection: &Connection, rows: &[&TestRow]) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached("INSERT INTO test_rows (text, spoiled) VALUES (?, ?)")?;
        for row in rows {
            insert.execute(params![row.text, row.spoiled])?;
        }
        Ok(())
    }
}

/// The schema of saga-core and a table of the application's own.
fn migrator() -> Migrator {
    let sql =
        "CREATE TABLE test_rows (seq INTEGER PRIMARY KEY, text TEXT NOT NULL, spoiled INTEGER CHECK (NOT spoiled))";
    let mut migrations: Vec<Migration> = SqliteStore::migrator().iter().cloned().collect();
    migrations.push(Migration::new(2, "test rows".into(), MigrationType::Simple, sql.into_sql_str(), false));
    Migrator::with_migrations(migrations)
}

fn at(micros: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::microseconds(micros)
}

fn inbox(message: u128) -> InboxRow {
    InboxRow { endpoint: "endpoint".into(), message_id: Uuid::from_u128(message) }
}

fn commit(fill: impl FnOnce(&mut Commit)) -> Arc<Commit> {
    let mut commit = Commit::new(at(0));
    fill(&mut commit);
    Arc::new(commit)
}

async fn is_handled(store: &SqliteStore, message: u128) -> bool {
    let messages = [Uuid::from_u128(message)];
    let query = LoadQuery { endpoint: "endpoint", messages: &messages, saga: "", instances: &[] };
    !store.load(&query).await.unwrap().handled.is_empty()
}

fn unavailable(result: Result<SqliteStore, StoreError>) -> String {
    match result.map(drop) {
        Err(StoreError::Unavailable(text)) => text,
        other => panic!("expected a store that is not available, got {other:?}"),
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

#[tokio::test]
async fn given_an_open_store_when_another_opens_it_then_it_is_refused_until_the_first_is_closed() {
    let folder = Folder::new();
    let first = folder.alone().await;
    let text = unavailable(folder.builder().open().await);
    assert!(text.contains("test.db is in use by another process"), "{text}");
    assert!(text.contains("stop the other one, or use another file"), "{text}");

    first.close().await;
    let refused = first.commit(commit(|it| it.inbox = vec![inbox(1)])).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(first.ping().await.is_err());
    let second = folder.builder().open().await.unwrap();
    second.ping().await.unwrap();
    assert!(second.pending_migrations(&migrator()).await.unwrap().is_empty());
}

#[tokio::test]
async fn given_a_store_stopped_inside_a_transaction_when_it_is_dropped_then_nothing_was_written() {
    for point in [Point::InboxWritten, Point::InstanceWritten] {
        let folder = Folder::new();
        folder.alone().await.close().await;
        let probe = Arc::new(StopAt(point, Notify::new()));
        let store = folder.builder().probe(probe.clone()).open().await.unwrap();
        let writing = tokio::spawn({
            let store = store.clone();
            let row = InstanceRow {
                saga: "saga",
                id: Uuid::from_u128(1),
                expected: 0,
                version: 1,
                state: "Begun",
                data: "{}".to_owned(),
                timers: "{}".to_owned(),
            };
            async move { store.commit(commit(|it| (it.inbox, it.instances) = (vec![inbox(1)], vec![row]))).await }
        });
        probe.1.notified().await;
        assert!(!is_handled(&store, 1).await, "what is not committed is not seen");
        writing.abort();
        assert!(writing.await.unwrap_err().is_cancelled());
        drop(store);

        let store = folder.alone().await;
        assert!(!is_handled(&store, 1).await);
        assert_eq!(store.instance("saga", Uuid::from_u128(1)).await.unwrap(), None);
        store.commit(commit(|it| it.inbox = vec![inbox(1)])).await.unwrap();
        assert!(is_handled(&store, 1).await);
    }
}

#[tokio::test]
async fn given_commits_that_undo_each_other_when_they_wait_together_then_they_are_applied_in_their_order() {
    let folder = Folder::new();
    let store = folder.alone().await;
    let handle = || commit(|it| it.inbox = vec![inbox(1)]);
    let forget = || commit(|it| it.forgotten = vec![inbox(1)]);
    let timer = |micros| TimerRow {
        token: Uuid::from_u128(2),
        endpoint: "endpoint".into(),
        kind: TimerKind::Timer,
        due: at(micros),
        envelope: Arc::new(Envelope::raw(Uuid::from_u128(2), "Test:Late", Body::of(&()))),
    };
    let schedule = |micros| commit(move |it| it.timers = vec![timer(micros)]);
    let cancel = || commit(|it| it.cancelled = vec![Uuid::from_u128(2)]);
    for commits in [vec![handle(), forget()], vec![schedule(1), cancel(), schedule(2), schedule(3)]] {
        for result in join_all(commits.into_iter().map(|commit| store.commit(commit))).await {
            result.unwrap();
        }
    }
    assert!(!is_handled(&store, 1).await);
    assert_eq!(store.due_timers(at(10), 10).await.unwrap().rows, [timer(3)]);
}

#[tokio::test]
async fn given_two_migrations_at_once_when_both_have_ended_then_each_was_applied_once() {
    let folder = Folder::new();
    let store = folder.builder().open().await.unwrap();
    assert_eq!(store.pending_migrations(&migrator()).await.unwrap(), [1, 2]);
    let (own, all) = (SqliteStore::migrator(), migrator());
    let results = join_all([store.migrate(&own), store.migrate(&all), store.migrate(&all)]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(store.pending_migrations(&all).await.unwrap().is_empty());

    let newer = store.migrate(&own).await;
    assert!(matches!(&newer, Err(StoreError::Corrupt(text)) if text.contains("newer program")), "{newer:?}");
    let other = Migration::new(1, "saga".into(), MigrationType::Simple, "SELECT 1".into_sql_str(), false);
    let changed = store.migrate(&Migrator::with_migrations(vec![other, all.iter().nth(1).unwrap().clone()])).await;
    assert!(matches!(&changed, Err(StoreError::Corrupt(text)) if text.contains("was changed")), "{changed:?}");
}

#[tokio::test]
async fn given_a_migration_that_fails_when_it_is_mended_then_it_is_applied() {
    let folder = Folder::new();
    let store = folder.alone().await;
    let third = |sql: &'static str| {
        let mut migrations: Vec<Migration> = migrator().iter().cloned().collect();
        migrations.push(Migration::new(3, "third".into(), MigrationType::Simple, sql.into_sql_str(), false));
        Migrator::with_migrations(migrations)
    };
    assert!(store.migrate(&third("CREATE TABLE third (id); CREATE TABLE third (id)")).await.is_err());
    let mended = third("CREATE TABLE third (id)");
    assert_eq!(store.pending_migrations(&mended).await.unwrap(), [3]);
    store.migrate(&mended).await.unwrap();
    assert!(store.pending_migrations(&mended).await.unwrap().is_empty());
}

#[tokio::test]
async fn given_the_migrations_of_the_repository_when_they_are_compared_then_the_first_is_the_embedded_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let folder = Migrator::new(folder).await.unwrap();
    let (ours, theirs) = (SqliteStore::migrator(), folder.iter().next().unwrap());
    let ours = ours.iter().next().unwrap();
    assert_eq!(
        (ours.version, &ours.description, &ours.checksum),
        (theirs.version, &theirs.description, &theirs.checksum)
    );
}

#[tokio::test]
async fn given_no_tables_when_something_is_committed_then_the_store_is_not_available() {
    let folder = Folder::new();
    let store = folder.builder().open().await.unwrap();
    let refused = store.commit(commit(|it| it.inbox = vec![inbox(1)])).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("migrations")), "{refused:?}");
    store.migrate(&migrator()).await.unwrap();
    store.commit(commit(|it| it.inbox = vec![inbox(1)])).await.unwrap();
}

/// Reads settings of the connection that it is given.
#[derive(Default)]
struct Settings(Arc<std::sync::Mutex<Vec<String>>>);

#[derive(Debug)]
struct Look;

impl SqliteWriter<Look> for Settings {
    fn write(&self, connection: &Connection, _: &[&Look]) -> rusqlite::Result<()> {
        let text = |value: Value| match value {
            Value::Text(text) => text,
            Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        let settings = SETTINGS.iter().map(|pragma| connection.query_row(pragma, [], |row| row.get(0)).map(text));
        *self.0.lock().unwrap() = settings.collect::<Result<_, _>>()?;
        Ok(())
    }
}

const SETTINGS: [&str; 4] = ["PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA foreign_keys", "PRAGMA busy_timeout"];

async fn settings(connection: &mut SqliteConnection) -> Vec<String> {
    let mut found = Vec::new();
    for pragma in SETTINGS {
        let row = sqlx::query(pragma).fetch_one(&mut *connection).await.unwrap();
        found.push(row.try_get(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string()));
    }
    found
}

#[tokio::test]
async fn given_a_store_when_its_settings_are_read_then_they_are_what_is_promised() {
    const PROMISED: [&str; 4] = ["wal", "2", "1", "5000"];
    let folder = Folder::new();
    let writer = Arc::new(std::sync::Mutex::default());
    let store = folder.builder().writer::<Look, _>(Settings(writer.clone())).open().await.unwrap();
    store.migrate(&migrator()).await.unwrap();
    store.commit(commit(|it| it.rows = vec![Arc::new(Look)])).await.unwrap();
    assert_eq!(*writer.lock().unwrap(), PROMISED);
    let mut reader = store.reader().acquire().await.unwrap();
    assert_eq!(settings(&mut reader).await, PROMISED);
    let written = sqlx::query("DELETE FROM saga_inbox").execute(&mut *reader).await;
    assert!(written.is_err(), "a reader can not write");
}

#[tokio::test]
async fn given_another_program_that_writes_when_something_is_committed_then_it_waits_for_its_turn() {
    let folder = Folder::new();
    let store = folder.alone().await;
    let file = folder.folder.path().join("data/test.db");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    for (message, end) in [(1, "COMMIT"), (2, "ROLLBACK")] {
        for statement in ["BEGIN IMMEDIATE", "UPDATE test_rows SET text = text"] {
            sqlx::query(statement).execute(&mut other).await.unwrap();
        }
        let waiting = store.commit(commit(|it| it.inbox = vec![inbox(message)]));
        tokio::pin!(waiting);
        // Reads go on meanwhile, and the commit has not ended.
        tokio::select! {
            biased;
            done = &mut waiting => panic!("it did not wait: {done:?}"),
            backlog = store.backlog() => drop(backlog.unwrap()),
        }
        sqlx::query(end).execute(&mut other).await.unwrap();
        waiting.await.unwrap();
    }
    other.close().await.unwrap();
}

#[tokio::test]
async fn given_a_file_that_is_no_database_when_it_is_opened_then_the_error_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.db");
    std::fs::write(&file, "these are notes and no database\n".repeat(100)).unwrap();
    match SqliteStore::builder(&format!("sqlite://{}", file.display())).open().await.map(drop) {
        Err(StoreError::Corrupt(text)) => {
            assert!(text.contains("notes.db") && text.contains("not a database"), "{text}");
        }
        other => panic!("expected a corrupt file, got {other:?}"),
    }
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("these are notes"), "it is left as it was");
}

#[tokio::test]
async fn given_a_url_of_something_else_when_it_is_opened_then_the_error_names_it_and_what_is_expected() {
    for url in [
        "postgres://localhost/orders",
        "sqlite::memory:",
        "sqlite://x.db?mode=memory",
        "sqlite://x.db?mod=ro",
        "sqlite://x.db?mode=ro",
        "sqlite:",
        "",
    ] {
        let text = unavailable(SqliteStore::builder(url).open().await);
        assert!(text.contains(&format!("{url:?}")) && text.contains("expected sqlite://folder/file.db"), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let below = format!("sqlite://{}/file/orders.db", folder.path().display());
    let text = unavailable(SqliteStore::builder(&below).open().await);
    assert!(text.contains("folder can not be made"), "{text}");
}

#[tokio::test]
async fn given_a_writer_that_panics_when_it_is_met_then_its_commit_is_refused_and_the_next_is_written() {
    #[derive(Debug)]
    struct Grenade;
    struct Thrower;
    impl SqliteWriter<Grenade> for Thrower {
        fn write(&self, _: &Connection, _: &[&Grenade]) -> rusqlite::Result<()> {
            panic!("boom")
        }
    }
    let folder = Folder::new();
    let store = folder.builder().writer::<Grenade, _>(Thrower).open().await.unwrap();
    store.migrate(&migrator()).await.unwrap();
    let spoiled = commit(|it| {
        it.inbox = vec![inbox(1)];
        it.rows = vec![Arc::new(Grenade)];
    });
    let refused = store.commit(spoiled).await;
    assert!(matches!(&refused, Err(StoreError::Rejected(text)) if text.contains("boom")), "{refused:?}");
    store.commit(commit(|it| it.inbox = vec![inbox(1)])).await.unwrap();
}
