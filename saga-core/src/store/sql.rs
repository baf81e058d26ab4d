//! What the stores on SQL databases share: the writers of domain rows, and how a row that can not be read is passed over.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;

use crate::commit::Commit;
use crate::failure::Failure;
use crate::saga::Row;
use crate::store::{Page, StoreError, Unreadable};

/// A writer of rows of one type, which it is given untyped; `C` is the connection that it writes on.
#[async_trait]
pub(super) trait WriteRows<C>: Send + Sync {
    async fn write(&self, connection: &mut C, rows: &[&Arc<dyn Row>]) -> Result<(), sqlx::Error>;
}

/// The registered writers, by the type of their rows.
pub(super) struct Writers<C>(HashMap<TypeId, Arc<dyn WriteRows<C>>>);

impl<C> Default for Writers<C> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<C: Send> Writers<C> {
    /// Registers the writer of the rows of type `R`.
    pub(super) fn add<R: Row>(&mut self, writer: Arc<dyn WriteRows<C>>) {
        self.0.insert(TypeId::of::<R>(), writer);
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

    /// Writes the rows of all commits, those of one type together; `error` says what a database's error means.
    pub(super) async fn write(
        &self,
        connection: &mut C,
        rows: impl Iterator<Item = &Arc<dyn Row>> + Send,
        error: fn(&sqlx::Error) -> StoreError,
    ) -> Result<(), StoreError> {
        for (row_type, rows) in by_type(rows) {
            let Some(writer) = self.0.get(&row_type) else { continue };
            match AssertUnwindSafe(writer.write(connection, &rows)).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(refused)) => return Err(error(&refused)),
                Err(panic) => return Err(StoreError::Rejected(Failure::panicked(&*panic).to_string())),
            }
        }
        Ok(())
    }
}

/// The rows as what they are; a writer is only given rows of its own type.
pub(super) fn typed<'a, R: Row>(rows: &[&'a Arc<dyn Row>]) -> Vec<&'a R> {
    rows.iter().filter_map(|row| (&***row as &dyn Any).downcast_ref()).collect()
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

/// Puts a row on its page; one that can not be read is told of by its key, and passed over.
pub(super) fn add<T>(page: &mut Page<T>, key: String, row: Result<T, StoreError>) {
    match row {
        Ok(row) => page.rows.push(row),
        Err(error) => page.unreadable.push(Unreadable { key, reason: error.to_string() }),
    }
}

/// What is said of a value that nobody but an editor by hand can have written.
pub(super) fn corrupt(place: &str, value: &str, error: &dyn Display) -> StoreError {
    const SHOWN: usize = 80;
    let shown: String = value.chars().take(SHOWN).collect();
    StoreError::Corrupt(format!("{place} holds {shown:?}: {error}"))
}
