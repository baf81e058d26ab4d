//! Tests of saga-core, a module for each file they test.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]

mod alphabet;
mod bus_embedded;
mod by_hand;
mod compile_fail;
mod crash;
mod deliver;
mod effect;
mod explore;
mod foreign;
mod given;
mod graph;
mod handlers;
mod history;
mod join;
mod lamp;
mod ledger;
mod machine;
mod memory;
mod message;
mod mutations;
mod patience;
mod postgres;
mod rabbitmq;
mod relay;
mod replay;
mod report;
mod requests;
mod retry;
mod runtime;
mod settle;
mod shards;
mod shutdown;
mod sqlite;
mod tally;
mod trip;
mod unreadable;
mod upgrade;
mod wire;
