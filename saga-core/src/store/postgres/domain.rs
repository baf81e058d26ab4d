//! Writers of domain rows: the application's part of a commit.

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgConnection;

use crate::saga::Row;
use crate::store::sql::{WriteRows, typed};

/// Writes domain rows of one type, inside the transaction of the commit that carries them.
#[async_trait]
pub trait PostgresWriter<R: Row>: Send + Sync + 'static {
    /// Writes the rows, which are in the order of their commit; one statement over all of them is best:
    /// `INSERT … SELECT … FROM unnest($1::uuid[], $2::text[])`.
    ///
    /// It must neither begin nor end a transaction. It may be called more than once with the same rows, when the first
    /// transaction was rolled back. Plans are made once and never scan a table: rows are found by an index.
    ///
    /// # Errors
    /// Whatever PostgreSQL says, by its SQLSTATE: a value that does not fit, a violated constraint, and SQL that is wrong
    /// make the commit [`StoreError::Rejected`](crate::StoreError::Rejected); a deadlock makes it
    /// [`StoreError::Conflict`](crate::StoreError::Conflict); a database that is busy, full or away, or a table that is
    /// not there yet, makes it [`StoreError::Unavailable`](crate::StoreError::Unavailable).
    async fn write(&self, connection: &mut PgConnection, rows: &[&R]) -> Result<(), sqlx::Error>;
}

/// The registered writers, by the type of their rows.
pub(super) type Writers = crate::store::sql::Writers<PgConnection>;

/// A writer that takes rows of any type, and writes those that are its own.
pub(super) fn erased<R: Row, W: PostgresWriter<R>>(writer: W) -> Arc<dyn WriteRows<PgConnection>> {
    Arc::new(Typed(writer, PhantomData))
}

struct Typed<R, W>(W, PhantomData<fn() -> R>);

#[async_trait]
impl<R: Row, W: PostgresWriter<R>> WriteRows<PgConnection> for Typed<R, W> {
    async fn write(&self, connection: &mut PgConnection, rows: &[&Arc<dyn Row>]) -> Result<(), sqlx::Error> {
        self.0.write(connection, &typed(rows)).await
    }
}
