//! What an error of SQLite means to whoever asked. Its code decides, never its text.

use std::fmt::Display;

use crate::store::StoreError;

/// Primary result codes, as <https://www.sqlite.org/rescode.html> numbers them.
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const TOO_BIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const RANGE: i32 = 25;
    pub(super) const NOT_A_DATABASE: i32 = 26;
    /// An extended code carries its primary code in the lowest byte.
    pub(super) const PRIMARY: i32 = 0xff;
}

/// The error of one of the store's own statements; `constraint` says what a violated constraint means there.
///
/// A missing table is an error of the installation, not of a message: it is waited for, like a database that is away.
pub(super) fn of_statement(
    what: impl Display,
    error: &sqlx::Error,
    constraint: fn(String) -> StoreError,
) -> StoreError {
    let text = format!("{what}: {error}");
    match primary_code(error) {
        Some(code::CONSTRAINT) => constraint(text),
        Some(code::TOO_BIG | code::MISMATCH | code::RANGE) => StoreError::Rejected(text),
        Some(code::CORRUPT | code::NOT_A_DATABASE) => StoreError::Corrupt(text),
        Some(code::ERROR) => StoreError::Unavailable(format!("{text}; are all migrations applied?")),
        Some(_) => StoreError::Unavailable(text),
        None if is_connection(error) => StoreError::Unavailable(text),
        None => StoreError::Rejected(text),
    }
}

/// The error of a query.
pub(super) fn of_query(what: impl Display, error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(format!("{what}: {error}")),
        _ => of_statement(what, error, StoreError::Unavailable),
    }
}

/// The error of an application's writer of domain rows. SQL that SQLite does not accept spoils the commit, too.
pub(super) fn of_writer(error: &sqlx::Error) -> StoreError {
    let what = "a domain row can not be written";
    match primary_code(error) {
        Some(code::ERROR) => StoreError::Rejected(format!("{what}: {error}")),
        _ => of_statement(what, error, StoreError::Rejected),
    }
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<i32>().ok().map(|code| code & code::PRIMARY)
}

fn is_connection(error: &sqlx::Error) -> bool {
    use sqlx::Error::{BeginFailed, Io, PoolClosed, PoolTimedOut, WorkerCrashed};
    matches!(error, Io(_) | PoolClosed | PoolTimedOut | WorkerCrashed | BeginFailed)
}
