//! Writers of domain rows: the application's part of a commit.

use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use sqlx::PgConnection;

use super::error::of_writer;
use crate::saga::Row;
use crate::store::StoreError;
use crate::store::sql::{self, panicked, typed};

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
pub(super) type Writers = sql::Writers<dyn WriteRows>;

/// Writes the rows of a commit, those of one type together.
pub(super) async fn write(
    writers: &Writers,
    connection: &mut PgConnection,
    rows: &[Arc<dyn Row>],
) -> Result<(), StoreError> {
    for (writer, rows) in writers.of(rows) {
        match AssertUnwindSafe(writer.write(connection, &rows)).catch_unwind().await {
            Ok(written) => written.map_err(|error| of_writer(&error))?,
            Err(panic) => return Err(panicked(&*panic)),
        }
    }
    Ok(())
}

/// A writer that is given its rows untyped.
#[async_trait]
pub(super) trait WriteRows: Send + Sync {
    async fn write(&self, connection: &mut PgConnection, rows: &[&Arc<dyn Row>]) -> Result<(), sqlx::Error>;
}

/// A writer that takes rows of any type, and writes those that are its own.
pub(super) fn erased<R: Row, W: PostgresWriter<R>>(writer: W) -> Arc<dyn WriteRows> {
    Arc::new(Typed(writer, PhantomData))
}

struct Typed<R, W>(W, PhantomData<fn() -> R>);

#[async_trait]
impl<R: Row, W: PostgresWriter<R>> WriteRows for Typed<R, W> {
    async fn write(&self, connection: &mut PgConnection, rows: &[&Arc<dyn Row>]) -> Result<(), sqlx::Error> {
        self.0.write(connection, &typed(rows)).await
    }
}
