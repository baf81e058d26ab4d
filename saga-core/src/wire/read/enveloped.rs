//! A message in an envelope.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime, Utc};
use uuid::Uuid;

use super::{Incoming, delivery_id, derived_id, guid, type_names};
use crate::message::{Body, Envelope, Headers};
use crate::wire::members::{Members, Text};

/// Whether an object is an envelope, where it may be a message as well: it has the two fields that every envelope has.
pub(super) fn is_meant(members: &Members<'_>) -> bool {
    members.some("messageType").is_some_and(|types| types.starts_with('[')) && members.get("message").is_some()
}

/// Reads an envelope.
pub(super) fn read(members: &Members<'_>, incoming: &Incoming<'_>) -> Result<Envelope, String> {
    let types = members.some("messageType").ok_or("the body is no envelope: it has no messageType")?;
    // Some write a single name without the list around it.
    let types: Result<Vec<Text<'_>>, _> = if types.starts_with('"') {
        serde_json::from_str(types).map(|it| vec![it])
    } else {
        serde_json::from_str(types)
    };
    let types = types.map_err(|_| "messageType is no list of names".to_owned())?;
    let types = type_names(types.iter().map(|Text(name)| &**name));
    if types.is_empty() {
        return Err("messageType names no type".to_owned());
    }
    let message = members.get("message").ok_or("the envelope has no message")?;
    let id = |name| read_id(members, name);
    let address = |name| text(members, name).map(|it| it.map(Cow::into_owned));
    let own_id = id("messageId")?.filter(|id| !id.is_nil());
    Ok(Envelope {
        message_id: own_id.or_else(|| delivery_id(incoming)).unwrap_or_else(|| derived_id(incoming)),
        request_id: id("requestId")?,
        correlation_id: id("correlationId")?.or_else(|| incoming.correlation_id.and_then(guid)),
        conversation_id: id("conversationId")?,
        initiator_id: id("initiatorId")?,
        source_address: address("sourceAddress")?,
        destination_address: address("destinationAddress")?,
        response_address: address("responseAddress")?,
        fault_address: address("faultAddress")?,
        message_type: types,
        message: Body::from_raw(message),
        sent_time: text(members, "sentTime").ok().flatten().and_then(|text| time(&text)),
        headers: read_headers(members)?,
    })
}

/// A member that is a text; an empty one is none.
fn text<'a>(members: &'a Members<'_>, name: &str) -> Result<Option<Cow<'a, str>>, String> {
    let Some(json) = members.some(name) else { return Ok(None) };
    let Text(text) = serde_json::from_str(json).map_err(|error| format!("{name} is no text: {error}"))?;
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A member that is an id. A malformed one fails the message: nobody may guess what it belongs to.
fn read_id(members: &Members<'_>, name: &str) -> Result<Option<Uuid>, String> {
    let Some(text) = text(members, name)? else { return Ok(None) };
    match guid(&text) {
        Some(id) => Ok(Some(id)),
        None => Err(format!("{name} is no id: `{}`", text.chars().take(64).collect::<String>().escape_debug())),
    }
}

fn read_headers(members: &Members<'_>) -> Result<Headers, String> {
    let Some(json) = members.some("headers") else { return Ok(Headers::new()) };
    serde_json::from_str(json).map_err(|error| format!("the headers can not be read: {error}"))
}

/// A time with an offset, or without one in UTC.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let with_offset = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    with_offset.or_else(|_| text.parse::<NaiveDateTime>().map(|time| time.and_utc())).ok()
}
