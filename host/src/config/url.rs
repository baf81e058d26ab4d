//! The URLs of store and bus.

use std::path::PathBuf;

use super::keys::Refused;

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A SQLite file; it is made, with its folder, when it is not there.
    Sqlite(PathBuf),
    /// This process's memory: gone when it ends. For tests.
    Memory,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusUrl {
    /// This process, durable through the store.
    Embedded,
}

impl StoreUrl {
    pub(super) const EXPECTED: &'static str =
        "sqlite://PATH (sqlite:///PATH from the root), such as sqlite://data/orders.db, or memory:";

    pub(super) fn parse(url: &str) -> Result<Self, Refused> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Err(Refused::because("PostgreSQL is not yet supported in this version"));
        }
        let path = url.strip_prefix("sqlite://").ok_or(Refused::Unexpected)?;
        if path.contains(['?', '#']) {
            return Err(Refused::because("options after the path are not supported"));
        }
        if path.is_empty() || path.ends_with('/') || path.contains('\0') || path.starts_with(':') {
            return Err(Refused::Unexpected);
        }
        Ok(Self::Sqlite(path.into()))
    }
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl BusUrl {
    pub(super) const EXPECTED: &'static str = "embedded:";

    pub(super) fn parse(url: &str) -> Result<Self, Refused> {
        match url {
            "embedded:" => Ok(Self::Embedded),
            _ if url.starts_with("amqp:") || url.starts_with("amqps:") => {
                Err(Refused::because("RabbitMQ is not yet supported in this version"))
            }
            _ => Err(Refused::Unexpected),
        }
    }
}
