//! Tools for tests: sagas are tried without a store, a bus or a clock that runs by itself.

mod explore;
mod given;

pub use explore::{End, Explore, ExploreError, Explored, Sent, SentKind, Violation};
pub use given::{Given, Then, given};
