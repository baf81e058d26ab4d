//! The servers start, stop, are killed and halted and start again, and do not outlive the process that started them.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]

mod postgres;
mod process;
mod proxy;
mod rabbit;
