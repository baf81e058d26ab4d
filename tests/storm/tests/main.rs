//! Tests of the storm: its judge, and a small storm.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]

mod judge;
mod storm;
