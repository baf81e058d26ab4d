//! Tests of order-saga: a module for each source file that it tests.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]

mod activities;
mod crash;
mod expiry;
mod explore;
mod fixture;
mod flow;
mod gateway;
mod messages;
mod notifier;
mod order;
mod plans;
mod process;
mod shop;
mod store;
mod submission;
