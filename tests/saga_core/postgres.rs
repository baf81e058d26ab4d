//! Tests of the PostgreSQL store, against real servers.

mod cancelled;
mod fixture;

use self::fixture::Database;

saga_core::store_conformance!(Database::new());
