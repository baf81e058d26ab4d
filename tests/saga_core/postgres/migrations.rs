//! How the tables get into the database.

use std::path::Path;

use futures_util::future::join_all;
use saga_core::{PostgresStore, StoreError};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr};

use super::fixture::{Database, eventually, migrator, with};

const TEST_ROWS: &str = "CREATE TABLE test_rows (seq int)";

/// Waits until no session holds such a lock: the server ends a session a moment after it was closed.
async fn until_unlocked(connection: &mut PgConnection) {
    eventually("the lock to go", async || (locks(connection).await == 0).then_some(())).await;
}

/// How many sessions hold a lock of the kind that migrations take.
async fn locks(connection: &mut PgConnection) -> i64 {
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    sqlx::query_scalar(locks).fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_hosts_that_start_at_once_when_all_have_migrated_then_each_migration_was_applied_once() {
    let database = Database::new();
    let hosts = join_all((0..6).map(|_| database.builder().open())).await;
    let hosts: Vec<PostgresStore> = hosts.into_iter().map(Result::unwrap).collect();
    assert_eq!(hosts[0].pending_migrations(&migrator()).await.unwrap(), [1, 2]);
    let all = migrator();
    let results = join_all(hosts.iter().map(|host| host.migrate(&all))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for host in &hosts {
        assert!(host.pending_migrations(&all).await.unwrap().is_empty());
    }
    let mut beside = database.connect().await;
    let applied: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(&mut beside).await.unwrap();
    assert_eq!(applied, [1, 2]);
    until_unlocked(&mut beside).await;

    let newer = hosts[0].migrate(&PostgresStore::migrator()).await;
    assert!(matches!(&newer, Err(StoreError::Corrupt(text)) if text.contains("newer program")), "{newer:?}");
    let other = Migration::new(1, "saga".into(), MigrationType::Simple, "SELECT 1".into_sql_str(), false);
    let changed = Migrator::with_migrations(vec![other, all.iter().nth(1).unwrap().clone()]);
    let changed = hosts[0].migrate(&changed).await;
    assert!(matches!(&changed, Err(StoreError::Corrupt(text)) if text.contains("was changed")), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_backend_that_is_killed_when_migrations_are_read_or_applied_then_the_database_is_only_away() {
    let database = Database::new();
    let host = database.host().await;
    let mut beside = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE").execute(&mut beside).await.unwrap();
    let reading = tokio::spawn({
        let host = host.clone();
        async move { host.pending_migrations(&migrator()).await }
    });
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("somebody to wait for the table", async || {
        let killed: i64 = sqlx::query_scalar(kill).fetch_one(&mut beside).await.unwrap();
        (killed > 0).then_some(())
    })
    .await;
    let read = reading.await.unwrap();
    assert!(matches!(&read, Err(StoreError::Unavailable(text)) if text.contains("can not be read")), "{read:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut beside).await.unwrap();
    assert!(host.pending_migrations(&migrator()).await.unwrap().is_empty());

    let second = migrator().iter().nth(1).unwrap().sql.as_str().to_owned().leak();
    let ended = with(&[(2, second), (3, "SELECT pg_terminate_backend(pg_backend_pid())")]);
    let ended = host.migrate(&ended).await;
    assert!(matches!(&ended, Err(StoreError::Unavailable(_))), "{ended:?}");
}

#[tokio::test]
async fn given_a_migration_that_fails_when_it_is_mended_then_another_host_applies_it() {
    let database = Database::new();
    let host = database.host().await;
    let third = |sql| with(&[(2, migrator().iter().nth(1).unwrap().sql.as_str().to_owned().leak()), (3, sql)]);
    let failed = host.migrate(&third("CREATE TABLE third (id int); CREATE TABLE third (id int)")).await;
    assert!(matches!(&failed, Err(StoreError::Rejected(text)) if text.contains("42P07")), "{failed:?}");
    let mut beside = database.connect().await;
    until_unlocked(&mut beside).await;
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('third') IS NOT NULL").fetch_one(&mut beside).await.unwrap();
    assert!(!there, "half of a migration is applied");

    let other = database.builder().open().await.unwrap();
    let mended = third("CREATE TABLE third (id int)");
    assert_eq!(other.pending_migrations(&mended).await.unwrap(), [3]);
    other.migrate(&mended).await.unwrap();
    assert!(host.pending_migrations(&mended).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_migrator_that_is_gone_in_the_middle_when_another_migrates_then_it_need_not_wait_for_long() {
    let database = Database::new();
    let host = database.builder().open().await.unwrap();
    let endless = with(&[(2, "CREATE TABLE half (id int); SELECT pg_sleep(3600)")]);
    let migrating = tokio::spawn(async move { host.migrate(&endless).await });
    let mut beside = database.connect().await;
    let sleeping = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'
        AND datname = current_database())";
    eventually("the migration to sleep", async || {
        let sleeping: bool = sqlx::query_scalar(sleeping).fetch_one(&mut beside).await.unwrap();
        sleeping.then_some(())
    })
    .await;
    assert_eq!(locks(&mut beside).await, 1);
    migrating.abort();
    assert!(migrating.await.unwrap_err().is_cancelled());

    let other = database.builder().open().await.unwrap();
    other.migrate(&with(&[(2, TEST_ROWS)])).await.unwrap();
    until_unlocked(&mut beside).await;
}

#[tokio::test]
async fn given_the_migrations_of_the_repository_when_they_are_compared_then_the_first_is_the_embedded_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let folder = Migrator::new(folder).await.unwrap();
    let (ours, theirs) = (PostgresStore::migrator(), folder.iter().next().unwrap());
    let ours = ours.iter().next().unwrap();
    assert_eq!(
        (ours.version, &ours.description, &ours.checksum),
        (theirs.version, &theirs.description, &theirs.checksum)
    );
    assert_eq!(folder.iter().map(|it| it.version).collect::<Vec<_>>(), [1, 2], "the role's file is no migration");
}
