//! What an error of PostgreSQL means to whoever asked. Its SQLSTATE decides, never its text.

use std::fmt::Display;

use crate::store::StoreError;

/// SQLSTATEs, as appendix A of PostgreSQL's manual lists them.
mod state {
    /// Two transactions could not both go on; nothing of this one stands.
    pub(super) const CONFLICTS: [&str; 4] = [SERIALIZATION_FAILURE, DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, ROLLED_BACK];
    const ROLLED_BACK: &str = "40000";
    const SERIALIZATION_FAILURE: &str = "40001";
    const DEADLOCK_DETECTED: &str = "40P01";
    const LOCK_NOT_AVAILABLE: &str = "55P03";

    pub(super) const UNIQUE_VIOLATION: &str = "23505";

    /// What the program expects in the database is not there yet.
    pub(super) const NOT_MIGRATED: [&str; 5] =
        [UNDEFINED_TABLE, UNDEFINED_COLUMN, UNDEFINED_FUNCTION, UNDEFINED_OBJECT, INVALID_SCHEMA];
    const UNDEFINED_TABLE: &str = "42P01";
    const UNDEFINED_COLUMN: &str = "42703";
    const UNDEFINED_FUNCTION: &str = "42883";
    const UNDEFINED_OBJECT: &str = "42704";
    const INVALID_SCHEMA: &str = "3F000";

    /// An earlier error of the same transaction was passed over.
    pub(super) const FAILED_TRANSACTION: &str = "25P02";
    pub(super) const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub(super) const CORRUPTED: [&str; 2] = ["XX001", "XX002"];

    /// The first two characters are the class: a value that does not fit, a violated constraint, SQL that is wrong.
    pub(super) const CARDINALITY: &str = "21";
    pub(super) const DATA: &str = "22";
    pub(super) const CONSTRAINT: &str = "23";
    pub(super) const CHECK_OPTION: &str = "44";
    pub(super) const SYNTAX_OR_ACCESS: &str = "42";
    /// More than a row, a statement or a table can hold.
    pub(super) const LIMIT: &str = "54";
    /// The connection is lost, the server is short of something, or somebody has ended what it did.
    pub(super) const AWAY: [&str; 3] = ["08", "53", "57"];
}

/// The error of one of the store's own statements.
///
/// A missing table is an error of the installation, not of a message: it is waited for, like a database that is away.
pub(super) fn of_statement(what: impl Display, error: &sqlx::Error) -> StoreError {
    let Some(code) = error.as_database_error().and_then(|it| it.code()) else {
        return of_client(what, error);
    };
    let (code, text) = (&*code, format!("{what}: {error} (SQLSTATE {code})"));
    match code.get(..2).unwrap_or_default() {
        _ if state::CONFLICTS.contains(&code) => StoreError::Conflict(text),
        _ if state::NOT_MIGRATED.contains(&code) => {
            StoreError::Unavailable(format!("{text}; are all migrations applied?"))
        }
        _ if code == state::INSUFFICIENT_PRIVILEGE => {
            StoreError::Unavailable(format!("{text}; role.sql beside the migrations grants what is needed"))
        }
        _ if code == state::FAILED_TRANSACTION => {
            StoreError::Rejected(format!("a writer of domain rows has passed over an error of the database; {text}"))
        }
        _ if state::CORRUPTED.contains(&code) => StoreError::Corrupt(text),
        state::CARDINALITY | state::DATA | state::CONSTRAINT | state::CHECK_OPTION | state::LIMIT => {
            StoreError::Rejected(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

/// The error of an INSERT whose keys nobody else may have; `what` says what it means that somebody has.
pub(super) fn of_insert(what: &str, error: &sqlx::Error) -> StoreError {
    match error.as_database_error().and_then(|it| it.code()) {
        Some(code) if code == state::UNIQUE_VIOLATION => StoreError::Conflict(format!("{what}: {error}")),
        _ => of_statement("new rows can not be written", error),
    }
}

/// The error of an application's writer of domain rows. SQL that PostgreSQL does not accept spoils the commit, too.
pub(super) fn of_writer(error: &sqlx::Error) -> StoreError {
    let what = "a domain row can not be written";
    match of_statement(what, error) {
        StoreError::Unavailable(text) if is_wrong_sql(error) => StoreError::Rejected(text),
        error => error,
    }
}

/// Whether the server could not go on, whatever the statement was.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|it| it.code());
    code.is_some_and(|code| state::AWAY.iter().any(|class| code.starts_with(class)))
}

fn is_wrong_sql(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|it| it.code());
    code.is_some_and(|code| {
        code.starts_with(state::SYNTAX_OR_ACCESS)
            && !state::NOT_MIGRATED.contains(&&*code)
            && code != state::INSUFFICIENT_PRIVILEGE
    })
}

/// What the server did not say, but the client noticed.
fn of_client(what: impl Display, error: &sqlx::Error) -> StoreError {
    use sqlx::Error::{ColumnDecode, ColumnNotFound, Decode, Encode, RowNotFound, TypeNotFound};
    match error {
        ColumnDecode { .. } | Decode(_) => StoreError::Corrupt(format!("{what}: {error}")),
        Encode(_) | RowNotFound | ColumnNotFound(_) | TypeNotFound { .. } => {
            StoreError::Rejected(format!("{what}: {error}"))
        }
        _ => StoreError::Unavailable(format!("{what}: {error}")),
    }
}
