//! An envelope as it is published.

use super::{BusAddress, HostInfo, WireError};
use crate::message::{Envelope, Headers};

/// A message as it is published: persistent (`delivery_mode` 2), with these properties.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The body.
    pub body: Vec<u8>,
    /// AMQP property `content_type`.
    pub content_type: Option<String>,
    /// AMQP property `content_encoding`.
    pub content_encoding: Option<String>,
    /// AMQP property `message_id`.
    pub message_id: Option<String>,
    /// AMQP property `correlation_id`.
    pub correlation_id: Option<String>,
    /// AMQP headers: names no longer than [`MAX_NAME`](super::MAX_NAME), values texts and numbers alone.
    pub headers: Headers,
}

/// Writes an envelope as MassTransit does, its addresses made absolute. What nobody could decode is written as it came.
///
/// # Errors
/// [`WireError::TooLarge`] and [`WireError::Headers`].
pub fn write(envelope: &Envelope, host: &HostInfo, base: &BusAddress) -> Result<Outgoing, WireError> {
    let _ = (envelope, host, base);
    unimplemented!()
}

/// The headers to add to a delivery that moves to a `_skipped` queue, its body and other headers as they came.
pub fn skipped_headers(host: &HostInfo) -> Headers {
    let _ = host;
    unimplemented!()
}
