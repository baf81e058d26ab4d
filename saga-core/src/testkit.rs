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

use crate::commit::StoredInstance;
use crate::failure::Failure;
use crate::saga::{Instance, Saga};
use crate::unit_of_work::Live;

/// A stored instance as the runtime reads it, or why it can not.
///
/// # Errors
/// The failure of the message that would need the instance.
pub fn restored<S: Saga>(stored: &StoredInstance) -> Result<Instance<S>, Failure> {
    Live::load(stored.id, Some(stored)).map(|live| live.instance)
}
