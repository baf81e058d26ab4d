//! Tests of the PostgreSQL store, against real servers.

mod cancelled;
mod commits;
mod contention;
mod failover;
mod faults;
mod fixture;
mod hosts;
mod migrations;
mod plans;
mod role;
mod secrets;

pub(crate) use self::fixture::Database;
pub use self::fixture::PATIENCE_VARIABLE;

saga_core::store_conformance!(Database::new());
