//! What an error of SQLite means to whoever asked. Its code decides, never its text.

use std::error::Error as _;
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
pub(super) fn of_statement(
    what: impl Display,
    error: &rusqlite::Error,
    constraint: fn(String) -> StoreError,
) -> StoreError {
    of_code(code_of(error), format!("{what}: {error}"), constraint)
}

/// The error of an application's writer of domain rows. SQL that SQLite does not accept spoils the commit, too.
pub(super) fn of_writer(error: &rusqlite::Error) -> StoreError {
    let text = format!("a domain row can not be written: {error}");
    match code_of(error) {
        Some(code::ERROR) => StoreError::Rejected(text),
        code => of_code(code, text, StoreError::Rejected),
    }
}

/// The error of a migration; what it may not do spoils it.
pub(super) fn of_migration(what: impl Display, error: &sqlx::Error) -> StoreError {
    of_sqlx(what, error, StoreError::Rejected)
}

/// The error of a query.
pub(super) fn of_query(what: impl Display, error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(format!("{what}: {error}")),
        _ => of_sqlx(what, error, StoreError::Unavailable),
    }
}

fn of_sqlx(what: impl Display, error: &sqlx::Error, constraint: fn(String) -> StoreError) -> StoreError {
    let text = format!("{what}: {error}");
    let code = error.as_database_error().and_then(|it| it.code()).and_then(|code| code.parse::<i32>().ok());
    match code {
        None if is_connection(error) => StoreError::Unavailable(text),
        code => of_code(code.map(|code| code & code::PRIMARY), text, constraint),
    }
}

/// A missing table is an error of the installation, not of a message: it is waited for, like a database that is away.
fn of_code(code: Option<i32>, text: String, constraint: fn(String) -> StoreError) -> StoreError {
    match code {
        Some(code::CONSTRAINT) => constraint(text),
        None | Some(code::TOO_BIG | code::MISMATCH | code::RANGE) => StoreError::Rejected(text),
        Some(code::CORRUPT | code::NOT_A_DATABASE) => StoreError::Corrupt(text),
        Some(code::ERROR) => StoreError::Unavailable(format!("{text}; are all migrations applied?")),
        Some(_) => StoreError::Unavailable(text),
    }
}

/// Of any kind of error that carries one: a feature of rusqlite that the application has turned on must not change what an
/// error means.
fn code_of(error: &rusqlite::Error) -> Option<i32> {
    let source = error.source()?.downcast_ref::<rusqlite::ffi::Error>()?;
    Some(source.extended_code & code::PRIMARY)
}

fn is_connection(error: &sqlx::Error) -> bool {
    use sqlx::Error::{BeginFailed, Io, PoolClosed, PoolTimedOut, WorkerCrashed};
    matches!(error, Io(_) | PoolClosed | PoolTimedOut | WorkerCrashed | BeginFailed)
}
