//! Tests of the PostgreSQL store, against real servers.

mod cancelled;
mod commits;
mod faults;
mod fixture;
mod hosts;
mod migrations;

use self::fixture::Database;

saga_core::store_conformance!(Database::new());
