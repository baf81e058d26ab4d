//! Writers of domain rows: the application's part of a commit.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use sqlx::SqliteConnection;

use super::error;
use crate::commit::Commit;
use crate::failure::Failure;
use crate::saga::Row;
use crate::store::StoreError;

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
    /// [`StoreError::Rejected`]; a database that is busy, full or away makes it [`StoreError::Unavailable`].
    async fn write(&self, connection: &mut SqliteConnection, rows: &[&R]) -> Result<(), sqlx::Error>;
}

/// The registered writers, by the type of their rows.
#[derive(Default)]
pub(super) struct Writers(HashMap<TypeId, Arc<dyn Erased>>);

impl Writers {
    pub(super) fn add<R: Row, W: SqliteWriter<R>>(&mut self, writer: W) {
        self.0.insert(TypeId::of::<R>(), Arc::new(Typed(writer, PhantomData)));
    }

    pub(super) fn contains(&self, row: TypeId) -> bool {
        self.0.contains_key(&row)
    }

    /// Whether each row of the commit has a writer.
    pub(super) fn check(&self, commit: &Commit) -> Result<(), StoreError> {
        match commit.rows.iter().position(|row| !self.contains(type_of(row))) {
            None => Ok(()),
            Some(index) => Err(StoreError::Rejected(format!(
                "no writer is registered for the type of domain row {index}; register one when the store is built"
            ))),
        }
    }

    /// Writes the rows of all commits, those of one type together.
    pub(super) async fn write(
        &self,
        connection: &mut SqliteConnection,
        rows: impl Iterator<Item = &Arc<dyn Row>> + Send,
    ) -> Result<(), StoreError> {
        for (row_type, rows) in by_type(rows) {
            let Some(writer) = self.0.get(&row_type) else { continue };
            match AssertUnwindSafe(writer.write(connection, &rows)).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error::of_writer(&error)),
                Err(panic) => return Err(StoreError::Rejected(Failure::panicked(&*panic).to_string())),
            }
        }
        Ok(())
    }
}

/// The rows by type; the types in the order in which they first occur.
fn by_type<'a>(rows: impl Iterator<Item = &'a Arc<dyn Row>>) -> Vec<(TypeId, Vec<&'a Arc<dyn Row>>)> {
    let mut types: Vec<(TypeId, Vec<&Arc<dyn Row>>)> = Vec::new();
    for row in rows {
        let row_type = type_of(row);
        match types.iter_mut().find(|(known, _)| *known == row_type) {
            Some((_, rows)) => rows.push(row),
            None => types.push((row_type, vec![row])),
        }
    }
    types
}

fn type_of(row: &Arc<dyn Row>) -> TypeId {
    let row: &dyn Any = &**row;
    row.type_id()
}

#[async_trait]
trait Erased: Send + Sync {
    async fn write(&self, connection: &mut SqliteConnection, rows: &[&Arc<dyn Row>]) -> Result<(), sqlx::Error>;
}

struct Typed<R, W>(W, PhantomData<fn() -> R>);

#[async_trait]
impl<R: Row, W: SqliteWriter<R>> Erased for Typed<R, W> {
    async fn write(&self, connection: &mut SqliteConnection, rows: &[&Arc<dyn Row>]) -> Result<(), sqlx::Error> {
        let rows: Vec<&R> = rows.iter().filter_map(|row| (&***row as &dyn Any).downcast_ref()).collect();
        self.0.write(connection, &rows).await
    }
}
