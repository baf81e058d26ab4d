//! The order service: takes orders over REST and runs the order process.
//!
//! Layout
//! - the command line: [`cli`]; `demo` runs orders through a service of its own, `health` asks one that runs, [`check`]
//!   says whether what is stored is sound
//! - the configuration: [`config`]; who may come in: [`auth`]; logs and metrics: [`telemetry`]
//! - the service: [`serve`] wires store, bus, runtime and expiry job to the REST interface, [`api`]
//! - a client for it: [`rest`]

pub mod api;
pub mod auth;
mod bus;
pub mod check;
pub mod cli;
pub mod config;
mod demo;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod health;
pub mod rest;
pub mod serve;
mod server;
mod stores;
pub mod telemetry;

/// The allocator of every program that this crate is linked into, the benchmarks included: a message is made on one
/// thread and freed on another, and its texts are many and small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
