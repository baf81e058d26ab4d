//! Rows of a database: instances, histories, messages, as the store decodes them.

use std::cell::RefCell;

use order_saga::Order;
use saga_core::testkit::restored;
use saga_core::{Audit, DeadLetterPage, Machine, Saga, SqliteAudit, SqliteStore};
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Stands between two columns.
const BETWEEN: u8 = 0;
const ID: Uuid = Uuid::from_u128(7);

struct Database {
    runtime: Runtime,
    writer: SqliteConnection,
    audit: SqliteAudit,
    _folder: TempDir,
}

thread_local! {
    static DATABASE: RefCell<Database> = RefCell::new(Database::new());
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("fuzzed.db").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (writer, audit) = runtime.block_on(async {
            let store = SqliteStore::builder(&url).open().await.unwrap();
            store.migrate(&SqliteStore::migrator()).await.unwrap();
            store.close().await;
            let mut writer = SqliteConnection::connect(&url).await.unwrap();
            writer.execute("PRAGMA synchronous = OFF").await.unwrap();
            (writer, SqliteAudit::open(&url).await.unwrap())
        });
        Self { runtime, writer, audit, _folder: folder }
    }
}

/// The columns of the rows, one behind the other: each row is read, or is one that can not be read. What is read is used.
pub fn rows(data: &[u8]) {
    DATABASE.with_borrow_mut(|database| {
        let Database { runtime, writer, audit, .. } = database;
        runtime.block_on(async {
            write(writer, data).await;
            audit.refresh().await.unwrap();
            let instances = audit.instances(Order::NAME, &[ID]).await.unwrap();
            let journals = audit.journals(Order::NAME, &[ID]).await.unwrap();
            let outbox = audit.outbox(0, 10).await.unwrap();
            let letters = audit.dead_letters(&DeadLetterPage { before: None, limit: 10 }).await.unwrap();
            let counts = [
                (instances.rows.len(), &instances.unreadable),
                (journals.rows.len(), &journals.unreadable),
                (outbox.rows.len(), &outbox.unreadable),
                (letters.rows.len(), &letters.unreadable),
            ];
            for (read, unreadable) in counts {
                assert_eq!(read + unreadable.len(), 1, "each row is read, or told of");
                assert!(unreadable.iter().all(|it| it.reason.len() < 2_048), "{unreadable:?}");
            }
            let machine = Machine::<Order>::new();
            let instance = instances.rows.first();
            if let Some(Err(failure)) = instance.map(restored::<Order>) {
                assert!(!failure.message().is_empty());
            }
            let found = machine.check(instance, &journals.rows);
            assert!(found.iter().all(|it| !it.to_string().is_empty()));
            for (_, row) in &outbox.rows {
                assert!(
                    machine.read(&row.envelope).is_ok_and(|it| it.id != Uuid::nil()) || row.envelope.attempt() >= 1
                );
            }
            machine.check_messages(ID, instance, &journals.rows, outbox.rows.iter().map(|(_, row)| &*row.envelope));
        });
    });
}

async fn write(writer: &mut SqliteConnection, data: &[u8]) {
    let columns: Vec<_> = data.split(|byte| *byte == BETWEEN).map(String::from_utf8_lossy).collect();
    let text = |index: usize| columns.get(index).map_or("", |it| it);
    let number = |index: usize| text(index).parse::<i64>().unwrap_or(i64::try_from(text(index).len()).unwrap_or(0));
    writer.execute("BEGIN").await.unwrap();
    for table in ["saga_instances", "saga_journal", "saga_outbox", "saga_dead_letters"] {
        writer.execute(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).await.unwrap();
    }
    let id = ID.to_string();
    let instance = "INSERT INTO saga_instances (id, saga, version, state, data, timers, retry_count, fault, created_at,
        updated_at) VALUES (?, 'order', ?, ?, ?, ?, ?, ?, ?, ?)";
    let instance = sqlx::query(instance).bind(&id).bind(number(0)).bind(text(1)).bind(text(2)).bind(text(3));
    let instance = instance.bind(number(4)).bind(text(5)).bind(text(6)).bind(text(7));
    instance.execute(&mut *writer).await.unwrap();
    let journal = "INSERT INTO saga_journal (instance_id, saga, version, endpoint, message_id, message_type, message,
        conversation_id, initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at)
        VALUES (?, 'order', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let journal = sqlx::query(journal).bind(&id).bind(number(8)).bind(text(9)).bind(text(10)).bind(text(11));
    let journal = journal.bind(text(12)).bind(text(13)).bind(text(14)).bind(text(15)).bind(number(16)).bind(text(17));
    let journal = journal.bind(text(18)).bind(text(19)).bind(text(20)).bind(text(21)).bind(text(22));
    journal.execute(&mut *writer).await.unwrap();
    let outbox = "INSERT INTO saga_outbox (id, message_id, message_type, destination, envelope, created_at)
        VALUES (1, ?, ?, ?, ?, ?)";
    let outbox = sqlx::query(outbox).bind(text(10)).bind(text(11)).bind(text(23)).bind(text(24)).bind(text(6));
    outbox.execute(&mut *writer).await.unwrap();
    let letter = "INSERT INTO saga_dead_letters (id, endpoint, saga, reason, error, attempts, message_id, message_type,
        envelope, at) VALUES (?, ?, 'order', ?, ?, ?, ?, ?, ?, ?)";
    let letter = sqlx::query(letter).bind(text(10)).bind(text(9)).bind(text(25)).bind(text(21)).bind(number(26));
    let letter = letter.bind(text(10)).bind(text(11)).bind(text(24)).bind(text(22));
    letter.execute(&mut *writer).await.unwrap();
    writer.execute("COMMIT").await.unwrap();
}
