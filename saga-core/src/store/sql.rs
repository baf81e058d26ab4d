//! What the stores on SQL databases share: the writers of domain rows, and how a row that can not be read is passed over.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use crate::commit::Commit;
use crate::failure::Failure;
use crate::saga::Row;
use crate::store::{Page, StoreError, Unreadable};

/// The registered writers, by the type of their rows; `W` is what a backend asks of them.
pub(super) struct Writers<W: ?Sized>(HashMap<TypeId, Arc<W>>);

impl<W: ?Sized> Default for Writers<W> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<W: ?Sized> Writers<W> {
    /// Registers the writer of the rows of type `R`.
    pub(super) fn add<R: Row>(&mut self, writer: Arc<W>) {
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

    /// Each writer with the rows that are its own, in the order in which their types first occur.
    pub(super) fn of<'a>(&self, rows: &'a [Arc<dyn Row>]) -> Vec<(&W, Vec<&'a Arc<dyn Row>>)> {
        let with_writer = by_type(rows).into_iter();
        with_writer.filter_map(|(row_type, rows)| Some((&**self.0.get(&row_type)?, rows))).collect()
    }
}

/// What is said of a writer that panicked: its commit is at fault.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    StoreError::Rejected(Failure::panicked(panic).to_string())
}

/// The rows as what they are; a writer is only given rows of its own type.
pub(super) fn typed<'a, R: Row>(rows: &[&'a Arc<dyn Row>]) -> Vec<&'a R> {
    rows.iter().filter_map(|row| (&***row as &dyn Any).downcast_ref()).collect()
}

/// The rows by type; the types in the order in which they first occur.
fn by_type(rows: &[Arc<dyn Row>]) -> Vec<(TypeId, Vec<&Arc<dyn Row>>)> {
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
