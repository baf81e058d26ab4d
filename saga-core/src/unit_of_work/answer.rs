//! What the sender of a message is told: the answer to a command, the fault of a message that was given up.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::commit::{Name, OutboxRow};
use crate::effect::Outgoing;
use crate::failure::Failure;
use crate::fault::{ExceptionInfo, Fault, ReceiveFault, fault_name, is_fault};
use crate::message::{Body, Envelope, Message, header, urn};
use crate::wire::{address_of, destination_of};

/// The answer to a command: sent to whoever asked, published where nobody is named.
pub(crate) fn respond(
    envelope: &Envelope,
    endpoint: &str,
    id: Uuid,
    answer: Outgoing,
    now: DateTime<Utc>,
) -> OutboxRow {
    let mut out = envelope.cause(id, answer.name, answer.body, now);
    out.source_address = Some(address_of(endpoint));
    out.request_id = envelope.request_id;
    out.destination_address.clone_from(&envelope.response_address);
    OutboxRow { destination: envelope.response_endpoint(), envelope: Arc::new(out) }
}

/// The `Fault` of a message, in MassTransit's shape: sent to the fault address, else to whoever asked, else published.
/// `None`: the message is itself a fault. A fault of a fault, and of that one, would never end.
///
/// A saga that called an activity has asked for the activity's own failure message, and may have no column for a
/// `Fault`; to a saga it is published, so that it hears it only if it subscribed.
pub(super) fn fault(envelope: &Envelope, endpoint: &str, failure: &Failure, now: DateTime<Utc>) -> Option<OutboxRow> {
    if is_fault(envelope) {
        return None;
    }
    let asked = envelope.response_address.as_deref().filter(|_| envelope.saga().is_none());
    let to = envelope.fault_address.as_deref().or(asked);
    let id = envelope.produced_id(&format!("{endpoint}/fault"), 0);
    let (names, body) = match envelope.undecodable_reason() {
        None => fault_of(envelope, id, exception(endpoint, failure), now),
        Some(_) => receive_fault_of(envelope, id, exception(endpoint, failure), now),
    };
    let mut out = envelope.cause(id, "", body, now);
    out.message_type = names;
    out.source_address = Some(address_of(endpoint));
    out.request_id = envelope.request_id;
    out.destination_address = to.map(str::to_owned);
    if envelope.attempt() > 1 {
        out.headers.insert(header::FAULT_REDELIVERY_COUNT.into(), (envelope.attempt() - 1).into());
    }
    Some(OutboxRow { destination: to.map(destination_of), envelope: Arc::new(out) })
}

fn exception(endpoint: &str, failure: &Failure) -> ExceptionInfo {
    ExceptionInfo {
        exception_type: Some(failure.kind().name().to_owned()),
        message: Some(failure.message().to_owned()),
        source: Some(endpoint.to_owned()),
        ..ExceptionInfo::default()
    }
}

fn fault_of(envelope: &Envelope, id: Uuid, exception: ExceptionInfo, now: DateTime<Utc>) -> (Vec<Name>, Body) {
    let fault = Fault {
        fault_id: id,
        faulted_message_id: Some(envelope.message_id),
        timestamp: now,
        exceptions: Some(vec![exception]),
        host: None,
        fault_message_types: Some(envelope.message_type.iter().map(|name| urn(name)).collect()),
        message: envelope.message.clone(),
    };
    let mut names: Vec<Name> = envelope.message_type.iter().map(|name| fault_name(name).into()).collect();
    names.push(<Fault>::NAME.into());
    (names, Body::of(&fault))
}

/// What nobody could decode has no type to name; its id is the sender's, if the sender gave one.
fn receive_fault_of(envelope: &Envelope, id: Uuid, exception: ExceptionInfo, now: DateTime<Utc>) -> (Vec<Name>, Body) {
    let raw = envelope.as_raw().unwrap_or_default();
    let fault = ReceiveFault {
        fault_id: id,
        faulted_message_id: raw.message_id.and_then(|id| id.parse().ok()).or(Some(envelope.message_id)),
        timestamp: now,
        exceptions: Some(vec![exception]),
        host: None,
        fault_message_types: None,
        content_type: raw.content_type,
    };
    (vec![ReceiveFault::NAME.into()], Body::of(&fault))
}
