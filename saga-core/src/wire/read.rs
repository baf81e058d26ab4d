//! A delivery as the broker gives it, and what it says.

mod content;
mod enveloped;
mod raw;

use std::borrow::Cow;

use uuid::Uuid;

use super::headers::{self, transport};
use super::members::Members;
use super::tidy::{is_flat, tidy};
use super::{BusAddress, MAX_NAME, Raw, UNDECODABLE};
use crate::message::{Envelope, Headers, header, strip_urn};
use content::Form;

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
    /// The broker that it came from: addresses there are kept in their short form.
    pub base: &'a BusAddress,
}

/// What a delivery says.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// A message that the endpoint handles.
    Message(Envelope),
    /// A message of a type that the endpoint does not handle: move the delivery to the endpoint's `_skipped` queue, its
    /// bytes as they came.
    Skipped(Envelope),
    /// Nobody can tell what it says: an envelope of the type [`UNDECODABLE`], which the runtime makes a dead letter of.
    /// Hand it over like a message.
    Undecodable(Envelope),
}

/// No message has more types: its own, and those it can be taken for.
const MAX_TYPES: usize = 64;
/// No address is longer: a name of a virtual host, a name of an exchange and a few options.
const MAX_ADDRESS: usize = 2_048;
/// The place of the ids that are derived from what came, for what came without an id. Part of the durable contract: a
/// redelivery must get the same id from the next version.
const NAMESPACE: Uuid = Uuid::from_u128(0x5f1d_6b0a_2c77_4b8e_9a43_d0c6_51e8_7b90);

/// Reads a delivery. Never panics, whatever the bytes are; what it can not read is kept as it came.
///
/// Read as MassTransit reads it: names without regard to case, `null` for what is absent, comments and trailing commas,
/// unknown fields passed over, ids in any of .NET's spellings, and of an envelope no more than `messageType` and
/// `message`. A `sentTime` that is no time is left out, `expirationTime` and `host` are not kept, and numbers in headers
/// have 64 bits or are floats. Where the content type is [`ENVELOPE`](super::ENVELOPE) the body is an envelope; where it
/// is [`RAW_JSON`](super::RAW_JSON), or none is said, it is one if it has the two fields of one, and else the message
/// itself, of the type that the header `MT-MessageType` names or that alone is handled.
///
/// A message without an id takes it from the AMQP property `message_id` or the header `MessageId`. If there is no id in
/// them, the id is derived from them and the body, so that a redelivery has the same. **Two messages that say the same
/// and have no id are therefore one message, and are handled once**: who sends must give ids.
pub fn read(incoming: &Incoming<'_>) -> Read {
    match decode(incoming) {
        Ok((envelope, true)) => Read::Message(envelope),
        Ok((envelope, false)) => Read::Skipped(envelope),
        Err(reason) => Read::Undecodable(undecodable(incoming, &reason)),
    }
}

/// The message, and whether the endpoint handles it.
fn decode(incoming: &Incoming<'_>) -> Result<(Envelope, bool), String> {
    let form = content::form(incoming.content_type, incoming.content_encoding)?;
    let text = content::text(incoming.body)?;
    // Almost all of them are JSON as the standard has it.
    let read: Option<Members<'_>> = if is_flat(text) { serde_json::from_str(text).ok() } else { None };
    let json = if read.is_some() { Cow::Borrowed(text) } else { tidy(text)? };
    let members = read.map_or_else(|| serde_json::from_str(&json), Ok);
    let mut envelope = match (form, members) {
        (Form::Envelope, Ok(members)) => enveloped::read(&members, incoming)?,
        (Form::Envelope, Err(error)) => return Err(format!("the body is no envelope: {error}")),
        (Form::Json, Ok(members)) if enveloped::is_meant(&members) => enveloped::read(&members, incoming)?,
        (Form::Json, _) => raw::read(&json, incoming)?,
    };
    envelope.headers = headers::merged(&incoming.headers, envelope.headers)?;
    check_addresses(&mut envelope, incoming.base)?;
    let handled = name_types(&mut envelope, incoming.handles)?;
    Ok((envelope, handled))
}

/// Writes the type names as the endpoint does, and says whether it handles one of them.
fn name_types(envelope: &mut Envelope, handles: &[&'static str]) -> Result<bool, String> {
    let types = &mut envelope.message_type;
    if types.len() > MAX_TYPES {
        return Err(format!("messageType names {} types; no more than {MAX_TYPES} are read", types.len()));
    }
    let mut handled = handles.is_empty();
    for name in types {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let shown: String = name.chars().take(64).collect();
            let shown = shown.escape_debug();
            return Err(format!(
                "messageType names `{shown}`: a type's name has 1 to {MAX_NAME} bytes and no control characters"
            ));
        }
        if name.eq_ignore_ascii_case(UNDECODABLE) {
            return Err(format!("the type {UNDECODABLE} is reserved for what nobody can decode"));
        }
        if let Some(known) = handles.iter().find(|it| it.eq_ignore_ascii_case(name)) {
            *name = Cow::Borrowed(known);
            handled = true;
        }
    }
    Ok(handled)
}

/// Shortens the addresses at our own broker, and refuses what is none.
fn check_addresses(envelope: &mut Envelope, base: &BusAddress) -> Result<(), String> {
    for (name, address) in [
        ("sourceAddress", &mut envelope.source_address),
        ("destinationAddress", &mut envelope.destination_address),
        ("responseAddress", &mut envelope.response_address),
        ("faultAddress", &mut envelope.fault_address),
    ] {
        let Some(address) = address else { continue };
        if address.len() > MAX_ADDRESS || address.chars().any(char::is_control) {
            return Err(format!("{name} is no address: it has more than {MAX_ADDRESS} bytes, or a control character"));
        }
        if let Some(short) = base.short(address) {
            *address = short;
        }
    }
    Ok(())
}

/// The names in a list of type URNs, or of names without the prefix.
fn type_names<'a>(urns: impl Iterator<Item = &'a str>) -> Vec<Cow<'static, str>> {
    let names = urns.map(|urn| strip_urn(urn.trim())).filter(|name| !name.is_empty());
    names.map(|name| Cow::Owned(name.to_owned())).collect()
}

/// An id in any of .NET's spellings: with or without dashes, braces or brackets, in either case.
fn guid(text: &str) -> Option<Uuid> {
    let text = text.trim();
    let bare = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    Uuid::try_parse(bare).ok()
}

/// The id that the delivery itself has; an id of zeros is none, or all who leave it so would send one message.
fn delivery_id(incoming: &Incoming<'_>) -> Option<Uuid> {
    let named = [incoming.message_id, headers::text(&incoming.headers, transport::MESSAGE_ID)];
    named.into_iter().flatten().find_map(guid).filter(|id| !id.is_nil())
}

/// The id of what came without one: the same whenever the same is delivered, to whichever endpoint.
fn derived_id(incoming: &Incoming<'_>) -> Uuid {
    let types = headers::text(&incoming.headers, transport::MESSAGE_TYPE);
    let named = [incoming.message_id, headers::text(&incoming.headers, transport::MESSAGE_ID), types];
    let mut content = Vec::with_capacity(incoming.body.len() + 128);
    for text in named {
        let text = text.unwrap_or_default();
        content.extend_from_slice(&text.len().to_be_bytes());
        content.extend_from_slice(text.as_bytes());
    }
    content.extend_from_slice(incoming.body);
    Uuid::new_v5(&NAMESPACE, &content)
}

/// An envelope around what nobody can decode. Its id is derived even where the delivery has one: what was sent broken
/// may be sent again whole, under the same id, and must not be taken for handled.
fn undecodable(incoming: &Incoming<'_>, reason: &str) -> Envelope {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let kept = Raw {
        bytes: incoming.body.to_vec(),
        content_type: owned(incoming.content_type),
        content_encoding: owned(incoming.content_encoding),
        message_id: owned(incoming.message_id),
        correlation_id: owned(incoming.correlation_id),
        headers: incoming.headers.clone(),
    };
    let mut envelope = Envelope::undecodable(derived_id(incoming), &kept, reason);
    // How often it was redriven tells its dead letters apart.
    if let Some(redrives) = incoming.headers.get(header::REDRIVE_COUNT).filter(|count| count.is_u64()) {
        envelope.headers.insert(Cow::Borrowed(header::REDRIVE_COUNT), redrives.clone());
    }
    envelope
}
