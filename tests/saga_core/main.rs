//! Tests of saga-core, a module for each file they test.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]

mod bus_embedded;
mod compile_fail;
mod crash;
mod explore;
mod lamp;
mod memory;
mod replay;
mod runtime;
mod sqlite;
mod trip;
