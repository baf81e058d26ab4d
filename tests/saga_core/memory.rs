//! Tests of the memory store.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use saga_core::testkit::conformance::store::{StoreFactory, TestRow};
use saga_core::{MemoryStore, MemoryWriter, Store};

#[derive(Clone, Default)]
struct Rows(Arc<Mutex<Vec<TestRow>>>);

impl Rows {
    fn add(&self, rows: &[&TestRow]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(rows.iter().copied().cloned());
    }
}

impl MemoryWriter<TestRow> for Rows {
    fn check(&self, rows: &[&TestRow]) -> Result<(), String> {
        if rows.iter().any(|row| row.spoiled) { Err("a row is spoiled".to_owned()) } else { Ok(()) }
    }

    fn write(&self, rows: &[&TestRow]) {
        self.add(rows);
    }
}

#[async_trait]
impl StoreFactory for Rows {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::builder().writer::<TestRow, _>(self.clone()).build())
    }

    async fn reopen(&self, _: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        None
    }

    async fn rows(&self) -> Vec<TestRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

saga_core::store_conformance!(Rows::default());
