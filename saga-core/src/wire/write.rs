//! An envelope as it is published.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use super::headers::{self, MAX_HEADERS_SIZE};
use super::members::Members;
use super::{BusAddress, ENVELOPE, HostInfo, MAX_BODY, Raw, WireError};
use crate::fault::is_fault;
use crate::message::{Body, Envelope, Headers, json, urn};

/// About what an envelope takes around its message, with a few headers.
const AROUND: usize = 1_536;

/// A message as it is published: persistent (`delivery_mode` 2), with these properties and no others.
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
    /// The AMQP headers. Of an envelope they are texts and numbers; of what nobody could decode, whatever came.
    pub headers: Headers,
}

/// MassTransit's envelope: every field is there, `null` where it says nothing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    message_id: Uuid,
    request_id: Option<Uuid>,
    correlation_id: Option<Uuid>,
    conversation_id: Option<Uuid>,
    initiator_id: Option<Uuid>,
    source_address: Option<Cow<'a, str>>,
    destination_address: Option<Cow<'a, str>>,
    response_address: Option<Cow<'a, str>>,
    fault_address: Option<Cow<'a, str>>,
    message_type: Vec<String>,
    message: &'a Body,
    expiration_time: Option<DateTime<Utc>>,
    sent_time: Option<DateTime<Utc>>,
    headers: &'a Headers,
    host: &'a HostInfo,
}

/// Writes an envelope as MassTransit does, its addresses made absolute; a fault is told which host it happened at. What
/// nobody could decode is written as it came.
///
/// # Errors
/// [`WireError::TooLarge`] and [`WireError::Headers`].
pub fn write(envelope: &Envelope, host: &HostInfo, base: &BusAddress) -> Result<Outgoing, WireError> {
    if let Some(raw) = envelope.as_raw() {
        return Ok(as_it_came(raw));
    }
    let (headers, size) = headers::to_amqp(&envelope.headers);
    if size > MAX_HEADERS_SIZE {
        return Err(WireError::Headers(size));
    }
    let absolute =
        |address: &'_ Option<String>| address.as_deref().map(|address| base.absolute(address).into_owned().into());
    let message = if is_fault(envelope) { with_host(&envelope.message, host) } else { None };
    let written = Written {
        message_id: envelope.message_id,
        request_id: envelope.request_id,
        correlation_id: envelope.correlation_id,
        conversation_id: envelope.conversation_id,
        initiator_id: envelope.initiator_id,
        source_address: absolute(&envelope.source_address),
        destination_address: absolute(&envelope.destination_address),
        response_address: absolute(&envelope.response_address),
        fault_address: absolute(&envelope.fault_address),
        message_type: envelope.message_type.iter().map(|name| urn(name)).collect(),
        message: message.as_ref().unwrap_or(&envelope.message),
        expiration_time: None,
        sent_time: envelope.sent_time,
        headers: &envelope.headers,
        host,
    };
    let body = json(&written, envelope.message.as_str().len() + AROUND);
    if body.len() > MAX_BODY {
        return Err(WireError::TooLarge(body.len()));
    }
    Ok(Outgoing {
        body,
        content_type: Some(ENVELOPE.to_owned()),
        content_encoding: None,
        message_id: Some(envelope.message_id.to_string()),
        correlation_id: envelope.correlation_id.map(|id| id.to_string()),
        headers,
    })
}

/// The headers to add to a delivery that moves to a `_skipped` queue, its body and other headers as they came.
pub fn skipped_headers(host: &HostInfo) -> Headers {
    let mut headers = host.headers();
    headers.insert("MT-Reason".into(), "dead-letter".into());
    headers
}

fn as_it_came(raw: Raw) -> Outgoing {
    Outgoing {
        body: raw.bytes,
        content_type: raw.content_type,
        content_encoding: raw.content_encoding,
        message_id: raw.message_id,
        correlation_id: raw.correlation_id,
        headers: headers::without_brokers(raw.headers),
    }
}

/// A fault that names no host, with this one. What makes faults is pure and knows of none; a fault that came from
/// elsewhere names its own.
fn with_host(fault: &Body, host: &HostInfo) -> Option<Body> {
    let mut members: Members<'_> = serde_json::from_str(fault.as_str()).ok()?;
    if members.get("host")?.get() != "null" {
        return None;
    }
    members.replace("host", to_raw_value(host).ok()?);
    Some(Body::of(&members))
}
