//! Tools for tests: of machines, of whole processes, and of adapters. Feature `testkit`.

mod clock;
mod crash;
mod explore;
mod given;
mod harness;

pub mod conformance;
pub mod sim;

pub use clock::ManualClock;
pub use crash::CrashAt;
pub use explore::{End, Explore, ExploreError, Explored, Sent, SentKind, Violation};
pub use given::{Given, Then, given};
pub use harness::{Harness, HarnessBuilder};
