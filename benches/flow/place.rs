//! The store and the bus of a run: new and empty each time, of whatever kind.

use std::sync::OnceLock;

use host::config::{BusUrl, StoreUrl};
use tempfile::TempDir;
use test_servers::{Postgres, Rabbit};

/// A kind of store and a kind of bus.
#[derive(Debug, Clone)]
pub(crate) struct Pairing {
    pub(crate) store: String,
    pub(crate) bus: String,
}

/// Where a run takes place.
pub(crate) struct Place {
    pub(crate) store: StoreUrl,
    pub(crate) bus: BusUrl,
    /// Where a file is kept.
    _folder: TempDir,
}

impl Pairing {
    /// `sqlite:`, `postgres:` and `rabbitmq:` alone mean new ones: a file in a temporary folder, a database and a virtual
    /// host of servers that end with this process. A whole URL is taken as it is.
    pub(crate) fn place(&self) -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = match self.store.as_str() {
            "sqlite:" => format!("sqlite://{}", folder.path().join("orders.db").display()),
            "postgres:" => postgres().database(),
            url => url.to_owned(),
        };
        let bus = match self.bus.as_str() {
            "rabbitmq:" => rabbit().vhost(),
            url => url.to_owned(),
        };
        let store = store.parse().unwrap_or_else(|error| panic!("--store {store}: {error}"));
        let bus = bus.parse().unwrap_or_else(|error| panic!("--bus {bus}: {error}"));
        Place { store, bus, _folder: folder }
    }

    /// Whether the flow runs on servers, and not in this process alone.
    pub(crate) fn has_servers(&self) -> bool {
        self.bus != "embedded:"
    }
}

/// The server of this process, as durable as in production.
pub(crate) fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

/// The broker of this process.
pub(crate) fn rabbit() -> &'static Rabbit {
    static BROKER: OnceLock<Rabbit> = OnceLock::new();
    BROKER.get_or_init(Rabbit::start)
}
