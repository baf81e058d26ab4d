//! Headers, as they travel beside a body and inside an envelope.

use std::borrow::Cow;

use serde_json::Value;

use super::MAX_NAME;
use crate::message::{Headers, header};

/// No message has more headers: they are copied onto everything that follows from it.
pub(super) const MAX_HEADERS: usize = 128;
/// The headers of a message are no larger, names and values together: AMQP sends them in one frame, of 128 KiB if nobody
/// said otherwise, and they are in the envelope besides.
pub(super) const MAX_HEADERS_SIZE: usize = 64 * 1024;

/// What MassTransit's raw serializer says of a message in headers, because there is no envelope to say it.
pub(super) mod transport {
    pub(in crate::wire) const MESSAGE_ID: &str = "MessageId";
    pub(in crate::wire) const CORRELATION_ID: &str = "CorrelationId";
    pub(in crate::wire) const CONVERSATION_ID: &str = "ConversationId";
    pub(in crate::wire) const REQUEST_ID: &str = "RequestId";
    pub(in crate::wire) const INITIATOR_ID: &str = "MT-InitiatorId";
    pub(in crate::wire) const SOURCE_ADDRESS: &str = "MT-Source-Address";
    pub(in crate::wire) const RESPONSE_ADDRESS: &str = "MT-Response-Address";
    pub(in crate::wire) const FAULT_ADDRESS: &str = "MT-Fault-Address";
    pub(in crate::wire) const MESSAGE_TYPE: &str = "MT-MessageType";
    pub(in crate::wire) const HOST_INFO: &str = "MT-Host-Info";
    pub(super) const ALL: [&str; 10] = [
        MESSAGE_ID,
        CORRELATION_ID,
        CONVERSATION_ID,
        REQUEST_ID,
        INITIATOR_ID,
        SOURCE_ADDRESS,
        RESPONSE_ADDRESS,
        FAULT_ADDRESS,
        MESSAGE_TYPE,
        HOST_INFO,
    ];
}

/// Headers between a broker and its clients. They are said of one delivery and must not be said of another: a
/// `x-delivery-count` that travelled on would count against a message that was never delivered, and a text in `CC` closes
/// the channel.
const BROKERS: [&str; 14] = [
    "CC",
    "BCC",
    "x-death",
    "x-delay",
    "x-delivery-count",
    "x-acquired-count",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-stream-offset",
    "x-opt-deaths",
];

/// Those of our headers by whose names we look for them.
const KNOWN: [&str; 6] = [
    header::REDELIVERY_COUNT,
    header::TIMER_TOKEN,
    header::REDRIVE_COUNT,
    header::SAGA,
    header::USER,
    header::ACTIVITY_ID,
];

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// The text of a header, without regard to the case of its name.
pub(super) fn text<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let exact = headers.get(name);
    let found = exact.or_else(|| headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// The headers of a message: those of its delivery, and over them those of its envelope.
///
/// # Errors
/// When they are too many, too long, or nothing that a database can keep.
pub(super) fn merged(delivery: &Headers, envelope: Headers) -> Result<Headers, String> {
    let mut headers = Headers::new();
    for (name, value) in envelope {
        let name = known(name);
        if !headers.contains_key(&name) {
            headers.retain(|it, _| !it.eq_ignore_ascii_case(&name));
        }
        headers.insert(name, value);
    }
    // Almost all of them are in the envelope, too.
    let is_new = |name: &str| !headers.contains_key(name) && !headers.keys().any(|it| it.eq_ignore_ascii_case(name));
    let only_beside: Vec<_> = delivery
        .iter()
        .filter(|(name, value)| !value.is_null() && is_new(name))
        .filter(|(name, _)| !is_one_of(&transport::ALL, name) && !is_one_of(&BROKERS, name))
        .map(|(name, value)| (known(name.clone()), value.clone()))
        .collect();
    headers.extend(only_beside);
    check(&headers)?;
    Ok(headers)
}

/// A name of ours as we write it; any other as it is.
fn known(name: Cow<'static, str>) -> Cow<'static, str> {
    KNOWN.iter().find(|it| it.eq_ignore_ascii_case(&name)).map_or(name, |known| Cow::Borrowed(known))
}

fn check(headers: &Headers) -> Result<(), String> {
    if headers.len() > MAX_HEADERS {
        return Err(format!("the message has {} headers; no more than {MAX_HEADERS} are read", headers.len()));
    }
    if let Some(name) = headers.keys().find(|name| name.is_empty() || name.len() > MAX_NAME) {
        let length = name.len();
        return Err(format!("a header's name is {length} bytes long; it must have 1 to {MAX_NAME}"));
    }
    let size: usize = headers.iter().map(|(name, value)| name.len() + size(value)).sum();
    if size > MAX_HEADERS_SIZE {
        return Err(format!("the headers are {size} bytes long; no more than {MAX_HEADERS_SIZE} are read"));
    }
    // PostgreSQL keeps no such character in a text.
    if let Some((name, _)) = headers.iter().find(|(name, value)| name.contains('\0') || has_nul(value)) {
        return Err(format!("the header {} has a character of code 0", name.escape_default()));
    }
    Ok(())
}

/// About how long a value is when written.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|it| 1 + size(it)).sum(),
        Value::Object(members) => members.iter().map(|(name, it)| 2 + name.len() + size(it)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, it)| name.contains('\0') || has_nul(it)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The headers of an envelope as AMQP headers: texts and numbers; `true` is the text `True`, `false` is not said. Arrays
/// and objects are in the envelope alone. Answers how long they are, too.
pub(super) fn to_amqp(headers: &Headers) -> (Headers, usize) {
    let fits = |name: &str| !name.is_empty() && name.len() <= MAX_NAME && !is_one_of(&BROKERS, name);
    let amqp: Headers = headers
        .iter()
        .filter(|(name, _)| fits(name))
        .filter_map(|(name, value)| match value {
            Value::String(_) | Value::Number(_) => Some((name.clone(), value.clone())),
            Value::Bool(true) => Some((name.clone(), Value::from("True"))),
            Value::Null | Value::Bool(false) | Value::Array(_) | Value::Object(_) => None,
        })
        .collect();
    let size = amqp.iter().map(|(name, value)| name.len() + size(value)).sum();
    (amqp, size)
}

/// The headers of a delivery that goes on as it came: without the broker's own.
pub(super) fn without_brokers(mut headers: Headers) -> Headers {
    headers.retain(|name, _| !is_one_of(&BROKERS, name));
    headers
}
