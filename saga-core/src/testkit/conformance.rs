//! What every adapter of a port must do, as tests that an adapter runs on itself.

pub mod store;
