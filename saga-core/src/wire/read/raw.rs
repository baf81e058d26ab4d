//! A message without an envelope: what an envelope would say is in the delivery's headers.

use super::{Incoming, delivery_id, derived_id, guid, type_names};
use crate::message::{Body, Envelope};
use crate::wire::headers::{text, transport};

/// Reads a message that is the whole body.
pub(super) fn read(json: &str, incoming: &Incoming<'_>) -> Result<Envelope, String> {
    let body = Body::from_json(json.trim().to_owned()).map_err(|error| format!("the body is no JSON: {error}"))?;
    let headers = &incoming.headers;
    let named = text(headers, transport::MESSAGE_TYPE).unwrap_or_default();
    let mut types = type_names(named.split(';'));
    if types.is_empty() {
        let [only] = incoming.handles else { return Err(no_type(incoming)) };
        types.push((*only).into());
    }
    let id = |name| text(headers, name).and_then(guid);
    let address = |name| text(headers, name).map(str::to_owned);
    let message_id = delivery_id(incoming).unwrap_or_else(|| derived_id(incoming));
    let correlation = id(transport::CORRELATION_ID).or_else(|| incoming.correlation_id.and_then(guid));
    let mut envelope = Envelope::raw(message_id, "", body);
    envelope.message_type = types;
    envelope.request_id = id(transport::REQUEST_ID);
    envelope.correlation_id = correlation;
    envelope.conversation_id = id(transport::CONVERSATION_ID).or(Some(message_id));
    envelope.initiator_id = id(transport::INITIATOR_ID);
    envelope.source_address = address(transport::SOURCE_ADDRESS);
    envelope.response_address = address(transport::RESPONSE_ADDRESS);
    envelope.fault_address = address(transport::FAULT_ADDRESS);
    Ok(envelope)
}

fn no_type(incoming: &Incoming<'_>) -> String {
    let (endpoint, types) = (incoming.endpoint, incoming.handles.len());
    format!(
        "the body has no envelope, and {endpoint} handles {types} types of messages: name the type in the header {}, or \
         send an envelope",
        transport::MESSAGE_TYPE
    )
}
