//! Tools for tests: of machines, of whole processes, and of adapters. Feature `testkit`.

mod clock;
mod harness;

pub mod conformance;

pub use clock::ManualClock;
pub use harness::{Harness, HarnessBuilder};
