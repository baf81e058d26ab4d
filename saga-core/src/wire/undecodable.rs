//! What nobody could decode, kept with its bytes as they came.

use std::fmt::Display;

use uuid::Uuid;

use crate::message::{Envelope, Headers};

/// The name of the reserved type of an envelope around what nobody could decode.
pub const UNDECODABLE: &str = "SagaCore:Undecodable";

/// A delivery that nobody could decode, as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Raw {
    /// The body.
    pub bytes: Vec<u8>,
    /// AMQP property `content_type`.
    pub content_type: Option<String>,
    /// AMQP property `content_encoding`.
    pub content_encoding: Option<String>,
    /// AMQP property `message_id`.
    pub message_id: Option<String>,
    /// AMQP property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The AMQP headers.
    pub headers: Headers,
}

impl Envelope {
    /// An envelope around a delivery that nobody could decode, and why.
    pub fn undecodable(message_id: Uuid, raw: &Raw, reason: impl Display) -> Self {
        let _ = (message_id, raw, reason.to_string());
        unimplemented!()
    }

    /// Why nobody could decode it; of any other message, `None`.
    pub fn undecodable_reason(&self) -> Option<String> {
        unimplemented!()
    }

    /// The delivery that nobody could decode, as it came; of any other message, `None`. A redrive publishes it so.
    pub fn as_raw(&self) -> Option<Raw> {
        unimplemented!()
    }
}
