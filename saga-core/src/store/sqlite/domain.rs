//! Writers of domain rows: the application's part of a commit.

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqliteConnection;

use crate::saga::Row;
use crate::store::sql::{WriteRows, typed};

/// Writes domain rows of one type, inside the transaction of the commit that carries them.
#[async_trait]
pub trait SqliteWriter<R: Row>: Send + Sync + 'static {
    /// Writes the rows, which are in the order of their commits; a few statements over many rows are best.
    ///
    /// It must neither begin nor end a transaction. It may be called more than once with the same rows, when the first
    /// transaction was rolled back.
    ///
    /// # Errors
    /// Whatever SQLite says. A violated constraint, and SQL that SQLite does not accept, make the commit
    /// [`StoreError::Rejected`](crate::StoreError::Rejected); a database that is busy, full or away makes it
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable).
    async fn write(&self, connection: &mut SqliteConnection, rows: &[&R]) -> Result<(), sqlx::Error>;
}

/// The registered writers, by the type of their rows.
pub(super) type Writers = crate::store::sql::Writers<SqliteConnection>;

/// A writer that takes rows of any type, and writes those that are its own.
pub(super) fn erased<R: Row, W: SqliteWriter<R>>(writer: W) -> Arc<dyn WriteRows<SqliteConnection>> {
    Arc::new(Typed(writer, PhantomData))
}

struct Typed<R, W>(W, PhantomData<fn() -> R>);

#[async_trait]
impl<R: Row, W: SqliteWriter<R>> WriteRows<SqliteConnection> for Typed<R, W> {
    async fn write(&self, connection: &mut SqliteConnection, rows: &[&Arc<dyn Row>]) -> Result<(), sqlx::Error> {
        self.0.write(connection, &typed(rows)).await
    }
}
