//! The schema, and how it gets into the database.

use std::borrow::Cow;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqliteConnection};

use super::error::{of_migration, of_query};
use crate::store::StoreError;

/// The tables of saga-core and nothing else. An application that brings tables of its own keeps a copy of this file
/// beside its own migrations, under the same number.
pub(super) fn migrator() -> Migrator {
    let sql = include_str!("../../../../migrations/sqlite/0001_saga.sql");
    let saga = Migration::new(1, Cow::Borrowed("saga"), MigrationType::Simple, sql.into_sql_str(), false);
    Migrator::with_migrations(vec![saga])
}

/// Applies what is missing. The caller holds the database's lock: SQLite has none for migrations.
pub(super) async fn run(migrator: &Migrator, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    migrator.run_direct(None, connection, false).await.map_err(failed)
}

/// The versions that the migrator knows and the database does not have.
pub(super) async fn pending(migrator: &Migrator, connection: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    let table = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'");
    let table = table.fetch_optional(&mut *connection).await;
    let there = table.map_err(|error| of_query("the schema can not be read", &error))?.is_some();
    let applied =
        if there { connection.list_applied_migrations("_sqlx_migrations").await.map_err(failed)? } else { Vec::new() };
    let wanted = migrator.iter().filter(|it| !it.migration_type.is_down_migration()).map(|it| it.version);
    Ok(wanted.filter(|version| !applied.iter().any(|it| it.version == *version)).collect())
}

fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            of_migration("a migration failed and was rolled back", &error)
        }
        MigrateError::VersionMismatch(version) => StoreError::Corrupt(format!(
            "migration {version} was changed after it was applied; restore its file, and put the change into a new one"
        )),
        MigrateError::VersionMissing(version) => StoreError::Corrupt(format!(
            "migration {version} was applied by a newer program; use that one, or a backup from before"
        )),
        error => StoreError::Corrupt(format!("the migrations can not be applied: {error}")),
    }
}
