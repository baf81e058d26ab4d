//! Another service at the same broker, which knows nothing of saga-core, and recordings of what such services send.
//!
//! - [`Peer`]: speaks AMQP through amqprs alone, and declares what MassTransit declares
//! - [`Recording`]: one message as it went over the wire, kept in `tests/foreign/recorded`
//!
//! The recordings are of libraries that nobody here wrote. `tests/foreign/record` makes them again.

mod peer;
mod recording;

pub use peer::{Peer, Received};
pub use recording::Recording;
