//! The URLs of store and bus.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::keys::Refused;
use super::redact::redact_url;

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A SQLite file; it is made, with its folder, when it is not there.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which any number of hosts share.
    Postgres(ServerUrl),
    /// This process's memory: gone when it ends. For tests.
    Memory,
}

/// What carries the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusUrl {
    /// This process, durable through the store.
    Embedded,
    /// A RabbitMQ virtual host.
    RabbitMq(ServerUrl),
}

/// The URL of a server, with the password in it, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// The whole URL, for whoever connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl StoreUrl {
    pub(super) const EXPECTED: &'static str = "sqlite://PATH (sqlite:///PATH from the root), such as sqlite://data/orders.db, \
         postgres://USER:PASSWORD@HOST:PORT/DATABASE, or memory:";

    /// Reads a URL.
    ///
    /// # Errors
    /// When it names no store.
    pub(super) fn parse(url: &str) -> Result<Self, Refused> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(place) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) {
            let options = PgConnectOptions::from_str(url).map_err(|_| Refused::Unexpected)?;
            let named = !place.is_empty() && options.get_database().is_some_and(|name| !name.is_empty());
            return if named { Ok(Self::Postgres(ServerUrl(url.to_owned()))) } else { Err(Refused::Unexpected) };
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

    /// Whether several processes can use it at once.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        Self::parse(url).map_err(|_| format!("expected {}", Self::EXPECTED))
    }
}

impl FromStr for BusUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        Self::parse(url).map_err(|_| format!("expected {}", Self::EXPECTED))
    }
}

impl BusUrl {
    pub(super) const EXPECTED: &'static str = "embedded:, or amqp://USER:PASSWORD@HOST:PORT/VHOST (amqps:// over TLS)";

    /// Reads a URL.
    ///
    /// # Errors
    /// When it names no bus.
    pub(super) fn parse(url: &str) -> Result<Self, Refused> {
        if url == "embedded:" {
            return Ok(Self::Embedded);
        }
        let place = url.strip_prefix("amqp://").or_else(|| url.strip_prefix("amqps://")).ok_or(Refused::Unexpected)?;
        let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
        if host.is_empty() || host.starts_with([':', '/']) || url.contains(char::is_whitespace) {
            return Err(Refused::Unexpected);
        }
        Ok(Self::RabbitMq(ServerUrl(url.to_owned())))
    }

    /// Whether several processes can use it at once.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::RabbitMq(_))
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded:"),
            Self::RabbitMq(url) => url.fmt(f),
        }
    }
}
