//! The suites that every adapter passes.

pub mod bus;
pub mod store;
