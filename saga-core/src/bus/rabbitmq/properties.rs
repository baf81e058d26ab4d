//! Properties and headers, between amqprs and the wire format.

use std::collections::HashMap;

use amqprs::{BasicProperties, DELIVERY_MODE_PERSISTENT, FieldTable, FieldValue, ShortStr};
use serde_json::{Number, Value};

use super::destinations::Destination;
use crate::bus::Receipt;
use crate::message::Headers;
use crate::wire::{self, MAX_NAME, Outgoing};

/// The broker's own header: how often a quorum queue has delivered the message before.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// The same since RabbitMQ 4.3, where the other counts only what was handed back.
const ACQUIRED_COUNT: &str = "x-acquired-count";

/// A delivery that moves to another queue, as it came.
#[derive(Debug)]
pub(super) struct Moved {
    /// Where to: a `_skipped` queue, or that of the shard that it belongs to.
    pub(super) to: Destination,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
    /// What to acknowledge it by when it has moved.
    pub(super) receipt: Receipt,
}

/// How often the broker has delivered the message before, as far as it tells.
pub(super) fn redelivered(properties: &BasicProperties, flag: bool) -> u32 {
    let count = |name| properties.headers().and_then(|it| it.get(&short(name)?)).and_then(integer);
    let counts = [DELIVERY_COUNT, ACQUIRED_COUNT].map(|name| count(name).unwrap_or(0));
    let most = counts.into_iter().chain([i64::from(flag)]).max().unwrap_or(0);
    u32::try_from(most).unwrap_or(u32::MAX)
}

/// Headers as JSON. What the broker itself has added to count its deliveries is left out.
pub(super) fn headers(properties: &BasicProperties) -> Headers {
    let Some(table) = properties.headers() else { return Headers::new() };
    let fields = table.as_ref().iter().filter(|(name, _)| !is_count(name.as_ref()));
    fields.map(|(name, value)| (name.as_ref().clone().into(), json(value))).collect()
}

/// The properties of a message that is published.
///
/// # Errors
/// When AMQP can not hold one of them: says which.
pub(super) fn published(outgoing: &Outgoing) -> Result<BasicProperties, String> {
    let text = |what: &str, text: &Option<String>| match text {
        Some(it) if it.len() > MAX_NAME => Err(format!("its {what} is longer than {MAX_NAME} bytes")),
        _ => Ok(text.clone()),
    };
    let mut table = FieldTable::new();
    for (name, value) in &outgoing.headers {
        let Some(name) = short(name) else {
            return Err(format!("the name of its header {} is longer than {MAX_NAME} bytes", cut(name)));
        };
        if let Some(value) = field(value) {
            table.insert(name, value);
        }
    }
    Ok(BasicProperties::new(
        text("content type", &outgoing.content_type)?,
        text("content encoding", &outgoing.content_encoding)?,
        (!outgoing.headers.is_empty()).then_some(table),
        Some(DELIVERY_MODE_PERSISTENT),
        None,
        text("correlation id", &outgoing.correlation_id)?,
        None,
        None,
        text("message id", &outgoing.message_id)?,
        None,
        None,
        None,
        None,
        None,
    ))
}

/// The properties of a delivery that moves: as they came, and if it is put aside, with the headers that say so. It does not
/// expire any more, and it is not in the name of the user who sent it, which the broker would refuse.
pub(super) fn moved(moved: &Moved, host: &wire::HostInfo) -> BasicProperties {
    let properties = &moved.properties;
    let mut fields: HashMap<_, _> = properties.headers().map(|it| it.as_ref().clone()).unwrap_or_default();
    fields.retain(|name, _| !is_count(name.as_ref()));
    if let Destination::Skipped(_) = moved.to {
        let why = wire::skipped_headers(host);
        fields.extend(why.iter().filter_map(|(name, value)| Some((short(name)?, field(value)?))));
    }
    let table = table(fields);
    BasicProperties::new(
        properties.content_type().cloned(),
        properties.content_encoding().cloned(),
        Some(table),
        Some(DELIVERY_MODE_PERSISTENT),
        properties.priority(),
        properties.correlation_id().cloned(),
        properties.reply_to().cloned(),
        None,
        properties.message_id().cloned(),
        properties.timestamp(),
        properties.message_type().cloned(),
        None,
        properties.app_id().cloned(),
        None,
    )
}

fn is_count(name: &str) -> bool {
    [DELIVERY_COUNT, ACQUIRED_COUNT].contains(&name)
}

/// A table made anew. amqprs keeps its length as it came, although it drops a name that came twice, and what it then writes
/// is no frame.
fn table(fields: HashMap<ShortStr, FieldValue>) -> FieldTable {
    let mut table = FieldTable::new();
    for (name, value) in fields {
        let value = match value {
            FieldValue::F(inner) => FieldValue::F(self::table(inner.as_ref().clone())),
            other => other,
        };
        table.insert(name, value);
    }
    table
}

pub(super) fn short(name: &str) -> Option<ShortStr> {
    name.try_into().ok()
}

fn cut(name: &str) -> String {
    name.chars().take(32).chain(['…']).collect()
}

fn field(value: &Value) -> Option<FieldValue> {
    match value {
        Value::String(text) => text.as_str().try_into().ok().map(FieldValue::S),
        Value::Number(number) => number.as_i64().map(FieldValue::l).or_else(|| number.as_f64().map(FieldValue::d)),
        Value::Bool(it) => Some(FieldValue::t(*it)),
        // They exist in the envelope alone.
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn integer(value: &FieldValue) -> Option<i64> {
    Some(match value {
        FieldValue::b(it) => i64::from(*it),
        FieldValue::B(it) => i64::from(*it),
        FieldValue::s(it) => i64::from(*it),
        FieldValue::u(it) => i64::from(*it),
        FieldValue::I(it) => i64::from(*it),
        FieldValue::i(it) => i64::from(*it),
        FieldValue::l(it) => *it,
        _ => return None,
    })
}

fn json(value: &FieldValue) -> Value {
    let float = |it: f64| Number::from_f64(it).map_or(Value::Null, Value::Number);
    match value {
        FieldValue::t(it) => Value::Bool(*it),
        FieldValue::S(it) => Value::String(it.as_ref().clone()),
        FieldValue::f(it) => float(f64::from(*it)),
        FieldValue::d(it) => float(*it),
        FieldValue::T(seconds) => i64::try_from(*seconds)
            .ok()
            .and_then(|it| chrono::DateTime::from_timestamp(it, 0))
            .map_or(Value::Null, |at| Value::String(at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))),
        FieldValue::A(items) => Value::Array(Vec::from(items.clone()).iter().map(json).collect()),
        FieldValue::F(table) => {
            Value::Object(table.as_ref().iter().map(|(name, value)| (name.to_string(), json(value))).collect())
        }
        FieldValue::D(_) | FieldValue::x(_) => Value::String(value.to_string()),
        FieldValue::V => Value::Null,
        other => integer(other).map_or(Value::Null, Value::from),
    }
}
