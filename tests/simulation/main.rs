//! The simulation of the whole: the order process and a saga with timers, on several hosts, under one seed each.
//!
//! `SIM_SEEDS=100000 SIM_FROM=1 cargo test --release --test simulation` tries as many seeds as are wanted.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]

mod bank;
mod errand;
mod mutations;
mod seeds;
mod shop;
mod teeth;
