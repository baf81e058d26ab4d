//! Tests of the host: a module for each source file that it tests.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]

mod abuse;
mod auth;
mod check;
mod cli;
mod config;
mod dead_letters;
mod disk;
#[cfg(feature = "failpoints")]
mod failpoints;
mod faulty;
mod foreign;
mod health;
mod history;
#[cfg(feature = "failpoints")]
mod kill;
mod openapi;
mod orders;
mod pairings;
mod serve;
mod submit;
mod support;
mod upgrade;
