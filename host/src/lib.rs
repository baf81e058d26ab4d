//! The order service.
pub mod config;
