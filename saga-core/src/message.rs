//! Messages, their envelope, and where their ids come from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::wire::destination_of;

/// A message type that can be stored and can travel.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message",
    label = "a message type is needed here",
    note = "derive `Serialize` and `Deserialize` for `{Self}`, and give it the name by which it is stored and sent: \
            `impl Message for {Self} {{ const NAME: &'static str = \"Namespace:{Self}\"; }}`"
)]
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The type's name on the wire and in storage, `Namespace:Name`: part of the durable contract.
    const NAME: &'static str;
}

/// An id derived from a cause and a name: the same cause and name give the same id, whenever it is asked.
///
/// A UUIDv8: the first 48 bits are the cause's, the rest is its UUIDv5. So what follows from a time-ordered id
/// (UUIDv7) has its time too, and the keys of one conversation lie side by side in an index instead of on a page each.
pub fn derive_id(cause: Uuid, name: &str) -> Uuid {
    let mut bytes = Uuid::new_v5(&cause, name.as_bytes()).into_bytes();
    bytes[..6].copy_from_slice(&cause.as_bytes()[..6]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The id of the `index`th message that `endpoint` produces while it handles the message `cause`, which was redriven so
/// many times: what [`Envelope::produced_id`] is, where the envelope itself is not at hand.
pub fn produced_id(cause: Uuid, redrives: u32, endpoint: &str, index: usize) -> Uuid {
    match redrives {
        0 => derive_id(cause, &format!("{endpoint}/{index}")),
        redrives => derive_id(cause, &format!("{endpoint}/{index}/{redrives}")),
    }
}

/// The names of the headers that this library writes and reads. Names that begin with `MT-` are MassTransit's.
pub mod header {
    /// How often the message was retried before this delivery; absent on the first.
    pub const REDELIVERY_COUNT: &str = "MT-Redelivery-Count";
    /// The token of the timer that fired; a message without it is no timer.
    pub const TIMER_TOKEN: &str = "MT-Scheduling-TokenId";
    /// How often the message was taken out of the dead letters by an operator.
    pub const REDRIVE_COUNT: &str = "MT-Redrive-Count";
    /// The saga on whose behalf the message was sent, by [`Saga::NAME`](crate::Saga::NAME).
    pub const SAGA: &str = "MT-Saga-Name";
    /// The types of the answers that a request can be answered with: an array of URNs.
    pub const ACCEPT_TYPE: &str = "MT-Request-AcceptType";
    /// The activity that sent the message, as W3C trace context writes it: `00-<trace>-<span>-<flags>`.
    pub const ACTIVITY_ID: &str = "MT-Activity-Id";
    /// How often the message of a `Fault` was retried; absent: never.
    pub const FAULT_REDELIVERY_COUNT: &str = "MT-Fault-RedeliveryCount";
    /// The user on whose behalf the conversation began; copied onto every message that follows.
    pub const USER: &str = "Saga-User";
}

/// A message body: JSON text, known to be valid JSON, not parsed until its type is known.
#[derive(Clone)]
pub struct Body(Box<RawValue>);

impl Body {
    /// Writes a value.
    ///
    /// # Panics
    /// When the type's `Serialize` fails, which is a defect of the type.
    pub fn of<T: Serialize>(value: &T) -> Self {
        serde_json::value::to_raw_value(value).map_or_else(|error| unwritable::<T>(&error), Self)
    }

    /// Takes JSON text as it is.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn from_json(json: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(json).map(Self)
    }

    /// Copies a value that was parsed before.
    pub(crate) fn from_raw(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Gives the JSON text away.
    pub fn into_string(self) -> String {
        Box::<str>::from(self.0).into()
    }

    /// Reads the body as a value of type `T`.
    ///
    /// # Errors
    /// When the body is not of that type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }
}

/// A value as JSON, with room for so many bytes from the beginning: a buffer that grows copies what is in it.
///
/// # Panics
/// When the type's `Serialize` fails, which is a defect of the type.
pub(crate) fn json<T: Serialize>(value: &T, room: usize) -> Vec<u8> {
    let mut json = Vec::with_capacity(room);
    serde_json::to_writer(&mut json, value).map_or_else(|error| unwritable::<T>(&error), |()| json)
}

fn unwritable<T>(error: &serde_json::Error) -> ! {
    panic!("{} can not be written as JSON: {error}", std::any::type_name::<T>())
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

/// Headers: name → JSON value.
pub type Headers = BTreeMap<Cow<'static, str>, Value>;

/// A message with everything that travels with it: MassTransit's envelope, field by field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The message's id: what the inbox knows it by.
    pub message_id: Uuid,
    /// The request that this answers or is, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Uuid>,
    /// The saga instance, or other unit, that the message belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// The conversation, from its first message to its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Uuid>,
    /// The correlation id of the message that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator_id: Option<Uuid>,
    /// The endpoint that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<String>,
    /// The endpoint or exchange that it was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_address: Option<String>,
    /// Where an answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_address: Option<String>,
    /// Where a `Fault` goes; absent: to the response address, else it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_address: Option<String>,
    /// The names of the message's type, the concrete one first. Written as URNs.
    #[serde(serialize_with = "write_urns", deserialize_with = "read_urns")]
    pub message_type: Vec<Cow<'static, str>>,
    /// The message itself.
    pub message: Body,
    /// When it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_time: Option<DateTime<Utc>>,
    /// Everything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: Headers,
}

const URN: &str = "urn:message:";

/// A message type's name without the prefix of its URN, in whichever case that is written.
pub(crate) fn strip_urn(urn: &str) -> &str {
    match urn.get(..URN.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(URN) => &urn[URN.len()..],
        _ => urn,
    }
}

/// A message type's URN.
pub(crate) fn urn(name: &str) -> String {
    [URN, name].concat()
}

fn write_urns<S: Serializer>(names: &[Cow<'static, str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| urn(name)))
}

fn read_urns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cow<'static, str>>, D::Error> {
    let urns = Vec::<String>::deserialize(deserializer)?;
    if urns.is_empty() {
        return Err(D::Error::custom("messageType names no type"));
    }
    Ok(urns.into_iter().map(|urn| Cow::Owned(strip_urn(&urn).to_owned())).collect())
}

impl Envelope {
    /// An envelope that begins a conversation.
    pub fn new<M: Message>(message_id: Uuid, message: &M) -> Self {
        Self::raw(message_id, M::NAME, Body::of(message))
    }

    /// An envelope around a body that is already written.
    pub fn raw(message_id: Uuid, name: impl Into<Cow<'static, str>>, body: Body) -> Self {
        Self {
            message_id,
            request_id: None,
            correlation_id: None,
            conversation_id: Some(message_id),
            initiator_id: None,
            source_address: None,
            destination_address: None,
            response_address: None,
            fault_address: None,
            message_type: vec![name.into()],
            message: body,
            sent_time: None,
            headers: Headers::new(),
        }
    }

    /// Names the user on whose behalf the conversation begins.
    #[must_use]
    pub fn for_user(mut self, user: impl Into<String>) -> Self {
        self.headers.insert(Cow::Borrowed(header::USER), Value::String(user.into()));
        self
    }

    /// Names the instance that the message belongs to.
    #[must_use]
    pub fn correlated(mut self, id: Uuid) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// The name of the concrete message type.
    pub fn name(&self) -> &str {
        self.message_type.first().map_or("", |name| name)
    }

    /// The conversation that the message belongs to; a message that names none begins one of its own.
    pub fn conversation(&self) -> Uuid {
        self.conversation_id.unwrap_or(self.message_id)
    }

    /// 1 on the first delivery, one more for each retry.
    pub fn attempt(&self) -> u32 {
        self.number(header::REDELIVERY_COUNT).saturating_add(1)
    }

    /// How often an operator has redriven the message.
    pub fn redrives(&self) -> u32 {
        self.number(header::REDRIVE_COUNT)
    }

    /// The user on whose behalf the conversation began.
    pub fn user(&self) -> Option<&str> {
        self.text(header::USER)
    }

    /// The saga on whose behalf the message was sent.
    pub fn saga(&self) -> Option<&str> {
        self.text(header::SAGA)
    }

    /// The token of the timer that fired, if the message is one.
    pub fn timer_token(&self) -> Option<Uuid> {
        self.text(header::TIMER_TOKEN).and_then(|token| token.parse().ok())
    }

    /// Where an answer goes, if an address was named, as an outbox row names it: an endpoint, or `exchange:NAME`.
    pub fn response_endpoint(&self) -> Option<Cow<'static, str>> {
        self.response_address.as_deref().map(destination_of)
    }

    /// Whether it goes to an address that vanishes with its owner, as that of somebody who waits for an answer: when there
    /// is no such place any more, nobody misses the message.
    pub fn is_to_temporary_address(&self) -> bool {
        let query = self.destination_address.as_deref().and_then(|address| address.split_once('?'));
        query.is_some_and(|(_, query)| query.split('&').any(|it| it == "temporary=true"))
    }

    /// The same message for another attempt. The id stays.
    #[must_use]
    pub fn with_attempt(&self, attempt: u32) -> Self {
        let mut again = self.clone();
        again.headers.remove(header::REDELIVERY_COUNT);
        if attempt > 1 {
            again.headers.insert(Cow::Borrowed(header::REDELIVERY_COUNT), (attempt - 1).into());
        }
        again
    }

    /// The same message, taken out of the dead letters once more: attempts count from 1 again. The id stays.
    #[must_use]
    pub fn redriven(&self) -> Self {
        let mut again = self.with_attempt(1);
        again.headers.insert(Cow::Borrowed(header::REDRIVE_COUNT), self.redrives().saturating_add(1).into());
        again
    }

    /// The id of the `index`th message that `endpoint` produces while handling this one: the same at each attempt,
    /// another after a redrive.
    pub fn produced_id(&self, endpoint: &str, index: usize) -> Uuid {
        produced_id(self.message_id, self.redrives(), endpoint, index)
    }

    /// An envelope caused by this one: same conversation and trace, this one's correlation as initiator, custom headers
    /// copied (those that begin with `MT-` are not).
    pub fn cause(&self, message_id: Uuid, name: impl Into<Cow<'static, str>>, body: Body, now: DateTime<Utc>) -> Self {
        let custom = self.headers.iter().filter(|(name, _)| !name.starts_with("MT-"));
        let mut headers: Headers = custom.map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(activity) = self.child_activity(message_id) {
            headers.insert(Cow::Borrowed(header::ACTIVITY_ID), Value::String(activity));
        }
        Self {
            conversation_id: Some(self.conversation()),
            correlation_id: self.correlation_id,
            initiator_id: self.correlation_id.or(self.request_id),
            sent_time: Some(now),
            headers,
            ..Self::raw(message_id, name, body)
        }
    }

    fn number(&self, header: &str) -> u32 {
        self.headers.get(header).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }

    pub(crate) fn text(&self, header: &str) -> Option<&str> {
        self.headers.get(header).and_then(Value::as_str)
    }
}
