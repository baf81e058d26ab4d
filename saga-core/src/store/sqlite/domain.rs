//! Writers of domain rows: the application's part of a commit.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::Connection;

use super::error::of_writer;
use crate::saga::Row;
use crate::store::StoreError;
use crate::store::sql::{self, panicked, typed};

/// Writes domain rows of one type, inside the transaction of the commit that carries them.
pub trait SqliteWriter<R: Row>: Send + Sync + 'static {
    /// Writes the rows, which are in the order of their commit, each with a statement that stays prepared:
    /// [`Connection::prepare_cached`].
    ///
    /// It is called on the thread that everybody's commits wait for, so it does nothing but execute statements. It must
    /// neither begin nor end a transaction. It may be called more than once with the same rows, when the first
    /// transaction was rolled back.
    ///
    /// # Errors
    /// Whatever SQLite says. A violated constraint, and SQL that SQLite does not accept, make the commit
    /// [`StoreError::Rejected`](crate::StoreError::Rejected); a database that is busy, full or away makes it
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable).
    fn write(&self, connection: &Connection, rows: &[&R]) -> rusqlite::Result<()>;
}

/// The registered writers, by the type of their rows.
pub(super) type Writers = sql::Writers<dyn WriteRows>;

/// Writes the rows of a commit, those of one type together.
pub(super) fn write(writers: &Writers, connection: &Connection, rows: &[Arc<dyn Row>]) -> Result<(), StoreError> {
    for (writer, rows) in writers.of(rows) {
        match catch_unwind(AssertUnwindSafe(|| writer.write(connection, &rows))) {
            Ok(written) => written.map_err(|error| of_writer(&error))?,
            Err(panic) => return Err(panicked(&*panic)),
        }
    }
    if connection.is_autocommit() {
        // After some errors SQLite has rolled back by itself; a writer that passes over one must not go unnoticed.
        return Err(StoreError::Unavailable(
            "a domain row could not be written, and the transaction is gone".to_owned(),
        ));
    }
    Ok(())
}

/// A writer that is given its rows untyped.
pub(super) trait WriteRows: Send + Sync {
    fn write(&self, connection: &Connection, rows: &[&Arc<dyn Row>]) -> rusqlite::Result<()>;
}

/// A writer that takes rows of any type, and writes those that are its own.
pub(super) fn erased<R: Row, W: SqliteWriter<R>>(writer: W) -> Arc<dyn WriteRows> {
    Arc::new(Typed(writer, PhantomData))
}

struct Typed<R, W>(W, PhantomData<fn() -> R>);

impl<R: Row, W: SqliteWriter<R>> WriteRows for Typed<R, W> {
    fn write(&self, connection: &Connection, rows: &[&Arc<dyn Row>]) -> rusqlite::Result<()> {
        self.0.write(connection, &typed(rows))
    }
}
