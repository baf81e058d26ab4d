//! A delivery as the broker gives it, and what it says.

use crate::message::{Envelope, Headers};

/// A delivery as the broker gives it.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// The body.
    pub body: &'a [u8],
    /// AMQP property `content_type`.
    pub content_type: Option<&'a str>,
    /// AMQP property `content_encoding`.
    pub content_encoding: Option<&'a str>,
    /// AMQP property `message_id`.
    pub message_id: Option<&'a str>,
    /// AMQP property `correlation_id`.
    pub correlation_id: Option<&'a str>,
    /// The AMQP headers as JSON values.
    pub headers: Headers,
    /// The endpoint that it was delivered to.
    pub endpoint: &'a str,
    /// The names of the message types that the endpoint handles; none: it takes whatever comes.
    pub handles: &'a [&'static str],
}

/// What a delivery says.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// A message that the endpoint handles.
    Message(Envelope),
    /// A message of a type that the endpoint does not handle: move the delivery to the endpoint's `_skipped` queue, its
    /// bytes as they came.
    Skipped(Envelope),
    /// Nobody can tell what it says: an envelope of the type [`UNDECODABLE`](super::UNDECODABLE), which the runtime makes
    /// a dead letter of. Hand it over like a message.
    Undecodable(Envelope),
}

/// Reads a delivery. Never panics, whatever the bytes are.
pub fn read(incoming: &Incoming<'_>) -> Read {
    let _ = incoming;
    unimplemented!()
}
