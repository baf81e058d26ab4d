//! The store that the configuration names, opened.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use order_saga::{
    MemoryOrders, Notification, OrderRow, Orders, PostgresOrderRows, PostgresOrders, SqliteOrderRows, SqliteOrders,
};
use saga_core::{MemoryStore, PostgresStore, Probe, SqliteStore, Store, StoreError};
use sqlx::migrate::Migrator;

use crate::api::Migrations;
use crate::config::{Config, ServerUrl, StoreUrl};

static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");

/// A store with its orders, and whether its tables are there.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) orders: Arc<dyn Orders>,
    pub(crate) migrations: Arc<dyn Migrations>,
    database: Database,
}

/// What is to be closed at the end.
enum Database {
    Memory,
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Opened {
    /// Writes what was handed over and gives to other processes what they can go on with.
    pub(crate) async fn close(self) {
        match self.database {
            Database::Memory => {}
            Database::Sqlite(store) => store.close().await,
            Database::Postgres(store) => store.close().await,
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

struct InPostgres(PostgresStore);

#[async_trait]
impl Migrations for InPostgres {
    async fn pending(&self) -> Result<usize, StoreError> {
        Ok(self.0.pending_migrations(&POSTGRES).await?.len())
    }
}

/// Opens the store; file, folder and tables are made if they are not there.
///
/// # Errors
/// When it can not be opened, another process works on it, or its tables are another version's.
pub(crate) async fn open(config: &Config, probe: Option<Arc<dyn Probe>>) -> anyhow::Result<Opened> {
    let url = &config.store;
    match url {
        StoreUrl::Memory => {
            let rows = MemoryOrders::default();
            let mut builder =
                MemoryStore::builder().writer::<OrderRow, _>(rows.clone()).writer::<Notification, _>(rows.clone());
            if let Some(probe) = probe {
                builder = builder.probe(probe);
            }
            let (migrations, database) = (Arc::new(InMemory), Database::Memory);
            Ok(Opened { store: Arc::new(builder.build()), orders: Arc::new(rows), migrations, database })
        }
        StoreUrl::Sqlite(_) => {
            let store = sqlite(url, probe).await?;
            store.migrate(&SQLITE).await.with_context(|| no_tables(url))?;
            Ok(Opened {
                orders: Arc::new(SqliteOrders::new(store.reader())),
                migrations: Arc::new(InSqlite(store.clone())),
                store: Arc::new(store.clone()),
                database: Database::Sqlite(store),
            })
        }
        StoreUrl::Postgres(server) => {
            let store = postgres(server, config.connections, probe).await?;
            // A host whose tables are there needs no right to make any.
            if !store.pending_migrations(&POSTGRES).await.with_context(|| unreadable(url))?.is_empty() {
                store.migrate(&POSTGRES).await.with_context(|| no_tables(url))?;
            }
            Ok(Opened {
                orders: Arc::new(PostgresOrders::new(store.reader())),
                migrations: Arc::new(InPostgres(store.clone())),
                store: Arc::new(store.clone()),
                database: Database::Postgres(store),
            })
        }
    }
}

/// Makes the tables, and says which were missing.
///
/// # Errors
/// As [`open`].
pub(crate) async fn migrate(config: &Config) -> anyhow::Result<Vec<i64>> {
    let url = &config.store;
    match url {
        StoreUrl::Memory => Ok(Vec::new()),
        StoreUrl::Sqlite(_) => {
            let store = sqlite(url, None).await?;
            let pending = store.pending_migrations(&SQLITE).await.with_context(|| unreadable(url))?;
            store.migrate(&SQLITE).await.with_context(|| no_tables(url))?;
            store.close().await;
            Ok(pending)
        }
        StoreUrl::Postgres(server) => {
            let store = postgres(server, config.connections, None).await?;
            let pending = store.pending_migrations(&POSTGRES).await.with_context(|| unreadable(url))?;
            store.migrate(&POSTGRES).await.with_context(|| no_tables(url))?;
            store.close().await;
            Ok(pending)
        }
    }
}

async fn sqlite(url: &StoreUrl, probe: Option<Arc<dyn Probe>>) -> anyhow::Result<SqliteStore> {
    let mut builder = SqliteStore::builder(&url.to_string())
        .writer::<OrderRow, _>(SqliteOrderRows)
        .writer::<Notification, _>(SqliteOrderRows);
    if let Some(probe) = probe {
        builder = builder.probe(probe);
    }
    builder.open().await.with_context(|| format!("store.url {url} can not be opened"))
}

async fn postgres(url: &ServerUrl, connections: u32, probe: Option<Arc<dyn Probe>>) -> anyhow::Result<PostgresStore> {
    let mut builder = PostgresStore::builder(url.expose())
        .name("saga-host")
        .connections(connections)
        .writer::<OrderRow, _>(PostgresOrderRows)
        .writer::<Notification, _>(PostgresOrderRows);
    if let Some(probe) = probe {
        builder = builder.probe(probe);
    }
    builder.open().await.with_context(|| format!("store.url {url} can not be opened"))
}

fn unreadable(url: &StoreUrl) -> String {
    format!("the tables of {url} can not be read")
}

fn no_tables(url: &StoreUrl) -> String {
    format!("the tables of {url} can not be made")
}
