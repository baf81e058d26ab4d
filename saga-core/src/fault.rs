//! `Fault`: what is sent when a message was given up.

use std::str::from_utf8;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::message::{Body, Envelope, Message};
use crate::wire::{HostInfo, MAX_NAME};

/// A message of type `M` was given up, after its last attempt: MassTransit's `Fault<M>`.
///
/// It goes to the fault address of the message, else to whoever asked, else it is published. A consumer or a saga hears
/// of the faults of one type by `Fault<M>`, and of all by `Fault`, whose message is JSON of whatever type.
///
/// ```
/// use saga_core::{Fault, Message};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct ChargeCard;
/// # impl Message for ChargeCard { const NAME: &'static str = "Shop:ChargeCard"; }
/// assert_eq!(Fault::<ChargeCard>::NAME, "MassTransit:Fault[[Shop:ChargeCard]]");
/// assert_eq!(<Fault>::NAME, "MassTransit:Fault");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "M: DeserializeOwned"))]
pub struct Fault<M = Body> {
    /// The fault's own id.
    pub fault_id: Uuid,
    /// The id of the message that was given up.
    pub faulted_message_id: Option<Uuid>,
    /// When it was.
    pub timestamp: DateTime<Utc>,
    /// What was wrong, at the last attempt.
    #[serde(default)]
    pub exceptions: Option<Vec<ExceptionInfo>>,
    /// Where; filled in when the fault leaves the process.
    #[serde(default)]
    pub host: Option<HostInfo>,
    /// The URNs of the message's types.
    #[serde(default)]
    pub fault_message_types: Option<Vec<String>>,
    /// The message itself.
    pub message: M,
}

/// A delivery was given up because nobody could decode it: MassTransit's `ReceiveFault`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiveFault {
    /// The fault's own id.
    pub fault_id: Uuid,
    /// The id of what was given up.
    pub faulted_message_id: Option<Uuid>,
    /// When it was.
    pub timestamp: DateTime<Utc>,
    /// What was wrong.
    #[serde(default)]
    pub exceptions: Option<Vec<ExceptionInfo>>,
    /// Where; filled in when the fault leaves the process.
    #[serde(default)]
    pub host: Option<HostInfo>,
    /// The URNs of its types, where they could be told.
    #[serde(default)]
    pub fault_message_types: Option<Vec<String>>,
    /// What its body was said to be.
    #[serde(default)]
    pub content_type: Option<String>,
}

/// What was wrong, as .NET describes an exception.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExceptionInfo {
    /// The exception's type; of ours, the name of the [`FailureKind`](crate::FailureKind).
    pub exception_type: Option<String>,
    /// What caused it.
    pub inner_exception: Option<Box<ExceptionInfo>>,
    /// Where in the program; ours have none.
    pub stack_trace: Option<String>,
    /// What was wrong, for people.
    pub message: Option<String>,
    /// Which part of the program; of ours, the endpoint.
    pub source: Option<String>,
    /// More, by name.
    pub data: Option<Value>,
}

impl<M> Fault<M> {
    /// What was wrong, for people; empty where the fault does not say.
    pub fn reason(&self) -> &str {
        let first = self.exceptions.iter().flatten().next();
        first.and_then(|it| it.message.as_deref()).unwrap_or_default()
    }
}

impl Message for Fault<Body> {
    const NAME: &'static str = "MassTransit:Fault";
}

impl<M: Message> Message for Fault<M> {
    const NAME: &'static str = match from_utf8(Self::WRITTEN.split_at(Self::LENGTH).0) {
        Ok(name) => name,
        Err(_) => panic!("the name of a message and ASCII around it are UTF-8"),
    };
}

impl Message for ReceiveFault {
    const NAME: &'static str = "MassTransit:ReceiveFault";
}

const BEFORE: &str = "MassTransit:Fault[[";
const AFTER: &str = "]]";

/// The name, put together while the program is compiled. A name that no exchange can have does not compile.
impl<M: Message> Fault<M> {
    const LENGTH: usize = BEFORE.len() + M::NAME.len() + AFTER.len();
    const WRITTEN: &'static [u8] = &written([BEFORE, M::NAME, AFTER]);
}

const fn written(parts: [&str; 3]) -> [u8; MAX_NAME] {
    let mut name = [0; MAX_NAME];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        assert!(at + bytes.len() <= MAX_NAME, "the name of the message is too long for its fault to have an exchange");
        let mut byte = 0;
        while byte < bytes.len() {
            name[at] = bytes[byte];
            (byte, at) = (byte + 1, at + 1);
        }
        part += 1;
    }
    name
}

/// The name of the fault of a message type.
pub(crate) fn fault_name(name: &str) -> String {
    format!("{BEFORE}{name}{AFTER}")
}

/// Whether a message is itself a fault.
pub(crate) fn is_fault(envelope: &Envelope) -> bool {
    let name = envelope.name();
    name.starts_with(BEFORE) || name == <Fault>::NAME || name == ReceiveFault::NAME
}
