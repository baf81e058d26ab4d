//! The order service.
pub mod config;
pub mod auth;
pub mod telemetry;
pub mod api { pub mod problem; }
