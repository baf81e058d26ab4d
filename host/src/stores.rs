//! The store that the configuration names, opened.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use order_saga::{MemoryOrders, Notification, OrderRow, Orders, SqliteOrderRows, SqliteOrders};
use saga_core::{MemoryStore, Probe, SqliteStore, Store, StoreError};
use sqlx::migrate::Migrator;

use crate::api::Migrations;
use crate::config::StoreUrl;

static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");

/// A store with its orders, and whether its tables are there.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) orders: Arc<dyn Orders>,
    pub(crate) migrations: Arc<dyn Migrations>,
    sqlite: Option<SqliteStore>,
}

impl Opened {
    /// Writes what was handed over and gives the database back to other processes.
    pub(crate) async fn close(self) {
        if let Some(sqlite) = self.sqlite {
            sqlite.close().await;
        }
    }
}

struct InMemory;

#[async_trait]
impl Migrations for InMemory {
    async fn pending(&self) -> Result<usize, StoreError> {
        Ok(0)
    }
}

struct InSqlite(SqliteStore);

#[async_trait]
impl Migrations for InSqlite {
    async fn pending(&self) -> Result<usize, StoreError> {
        Ok(self.0.pending_migrations(&SQLITE).await?.len())
    }
}

/// Opens the store; file, folder and tables are made if they are not there.
///
/// # Errors
/// When it can not be opened, another process works on it, or its tables are another version's.
pub(crate) async fn open(url: &StoreUrl, probe: Option<Arc<dyn Probe>>) -> anyhow::Result<Opened> {
    match url {
        StoreUrl::Memory => {
            let rows = MemoryOrders::default();
            let mut builder =
                MemoryStore::builder().writer::<OrderRow, _>(rows.clone()).writer::<Notification, _>(rows.clone());
            if let Some(probe) = probe {
                builder = builder.probe(probe);
            }
            let migrations = Arc::new(InMemory);
            Ok(Opened { store: Arc::new(builder.build()), orders: Arc::new(rows), migrations, sqlite: None })
        }
        StoreUrl::Sqlite(_) => {
            let mut builder = SqliteStore::builder(&url.to_string())
                .writer::<OrderRow, _>(SqliteOrderRows)
                .writer::<Notification, _>(SqliteOrderRows);
            if let Some(probe) = probe {
                builder = builder.probe(probe);
            }
            let store = builder.open().await.with_context(|| format!("store.url {url} can not be opened"))?;
            store.migrate(&SQLITE).await.with_context(|| format!("the tables of {url} can not be made"))?;
            Ok(Opened {
                orders: Arc::new(SqliteOrders::new(store.reader())),
                migrations: Arc::new(InSqlite(store.clone())),
                store: Arc::new(store.clone()),
                sqlite: Some(store),
            })
        }
    }
}

/// Makes the tables, and says which were missing.
///
/// # Errors
/// As [`open`].
pub(crate) async fn migrate(url: &StoreUrl) -> anyhow::Result<Vec<i64>> {
    if matches!(url, StoreUrl::Memory) {
        return Ok(Vec::new());
    }
    let store = SqliteStore::builder(&url.to_string()).open().await;
    let store = store.with_context(|| format!("store.url {url} can not be opened"))?;
    let pending = store.pending_migrations(&SQLITE).await.context("the applied migrations can not be read")?;
    store.migrate(&SQLITE).await.with_context(|| format!("the tables of {url} can not be made"))?;
    store.close().await;
    Ok(pending)
}
