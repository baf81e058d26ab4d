//! The order service.
pub mod api;
pub mod auth;
pub mod config;
pub mod telemetry;
