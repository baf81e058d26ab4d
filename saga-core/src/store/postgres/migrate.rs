//! The schema, and how it gets into the database.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, SqlSafeStr};

use super::error::{is_away, of_statement};
use super::open::{Database, is_sound, millis};
use crate::store::StoreError;

/// How long a host waits for another one that migrates: a large table may be rewritten.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a migration waits for a table that is in use; whoever comes after it waits behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon the server ends the statement of a migrator that is gone.
const ORPHAN_CHECK: Duration = Duration::from_secs(1);

/// The tables of saga-core and nothing else. An application that brings tables of its own keeps a copy of this file
/// beside its own migrations, under the same number.
pub(super) fn migrator() -> Migrator {
    let sql = include_str!("../../../../migrations/postgres/0001_saga.sql");
    let saga = Migration::new(1, Cow::Borrowed("saga"), MigrationType::Simple, sql.into_sql_str(), false);
    Migrator::with_migrations(vec![saga])
}

/// Applies what is missing, on a connection of its own: with it ends the lock, whatever has happened. Where nothing is
/// missing, it only reads.
pub(super) async fn run(database: &Database, migrator: &Migrator) -> Result<(), StoreError> {
    let mut connection = database.connect().await?;
    let outcome = run_with(migrator, &mut connection).await;
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the migrator's connection was not closed properly; the server ends it");
    }
    outcome
}

async fn run_with(migrator: &Migrator, connection: &mut PgConnection) -> Result<(), StoreError> {
    if missing(migrator, &applied(migrator, connection).await?)?.is_empty() {
        return Ok(());
    }
    // A migration takes as long as it takes; who waits for it does so for a limited time.
    set(connection, "statement_timeout", Duration::ZERO).await?;
    set(connection, "client_connection_check_interval", ORPHAN_CHECK).await?;
    set(connection, "lock_timeout", PATIENCE).await?;
    connection.lock().await.map_err(|error| asked("other migrators can not be waited for", error))?;
    set(connection, "lock_timeout", LOCK_TIMEOUT).await?;
    // It takes the same lock once more, and looks again at what is missing.
    migrator.run_direct(None, connection, false).await.map_err(failed)
}

/// The versions that the migrator knows and the database does not have.
pub(super) async fn pending(database: &Database, migrator: &Migrator) -> Result<Vec<i64>, StoreError> {
    let mut lent = database.take("the applied migrations can not be read").await?;
    let applied = applied(migrator, &mut lent.connection).await;
    lent.give_back(is_sound(&applied));
    let applied = applied?;
    Ok(wanted(migrator).map(|it| it.version).filter(|it| !applied.iter().any(|has| has.version == *it)).collect())
}

/// What was applied to the database.
async fn applied(migrator: &Migrator, connection: &mut PgConnection) -> Result<Vec<AppliedMigration>, StoreError> {
    let table = &*migrator.table_name;
    let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(&mut *connection).await;
    let there: bool = there.map_err(|error| of_statement("the schema can not be read", &error))?;
    if !there {
        return Ok(Vec::new());
    }
    let unread = |error| asked("the applied migrations can not be read", error);
    if let Some(version) = connection.dirty_version(table).await.map_err(unread)? {
        return Err(failed(MigrateError::Dirty(version)));
    }
    connection.list_applied_migrations(table).await.map_err(unread)
}

/// The versions that are still to be applied.
///
/// # Errors
/// When what was applied is not what the migrator holds.
fn missing(migrator: &Migrator, applied: &[AppliedMigration]) -> Result<Vec<i64>, StoreError> {
    let unknown = applied.iter().find(|it| !migrator.version_exists(it.version));
    if let Some(unknown) = unknown.filter(|_| !migrator.ignore_missing) {
        return Err(failed(MigrateError::VersionMissing(unknown.version)));
    }
    let mut missing = Vec::new();
    for migration in wanted(migrator) {
        match applied.iter().find(|it| it.version == migration.version) {
            None => missing.push(migration.version),
            Some(it) if it.checksum != migration.checksum => {
                return Err(failed(MigrateError::VersionMismatch(migration.version)));
            }
            Some(_) => {}
        }
    }
    Ok(missing)
}

fn wanted(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator.iter().filter(|it| !it.migration_type.is_down_migration())
}

/// Sets a parameter of the session, if this server knows it.
async fn set(connection: &mut PgConnection, parameter: &str, value: Duration) -> Result<(), StoreError> {
    let set = sqlx::query("SELECT set_config(name, $2, false) FROM pg_settings WHERE name = $1");
    let set = set.bind(parameter).bind(millis(value)).execute(connection).await;
    set.map(drop).map_err(|error| of_statement("the migration can not be prepared", &error))
}

/// The error of a statement beside the migrations, which may do better when it is repeated.
fn asked(what: &str, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => of_statement(what, &error),
        error => failed(error),
    }
}

fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            match of_statement("a migration failed and was rolled back", &error) {
                // The statement is the migration's own: it will not do better when it is repeated, unless it was the server
                // that ended it.
                StoreError::Unavailable(text) if error.as_database_error().is_some() && !is_away(&error) => {
                    StoreError::Rejected(text)
                }
                error => error,
            }
        }
        MigrateError::VersionMismatch(version) => StoreError::Corrupt(format!(
            "migration {version} was changed after it was applied; restore its file, and put the change into a new one"
        )),
        MigrateError::VersionMissing(version) => StoreError::Corrupt(format!(
            "migration {version} was applied by a newer program; use that one, or a backup from before"
        )),
        MigrateError::Dirty(version) => StoreError::Corrupt(format!(
            "migration {version} was begun without a transaction and has not ended; undo it by hand, and delete its row"
        )),
        error => StoreError::Corrupt(format!("the migrations can not be applied: {error}")),
    }
}
