//! Envelopes: as the stores keep them, and as a broker delivers them.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use order_saga::{Order, OrderSubmitted};
use saga_core::wire::{self, BusAddress, Destination, HostInfo, Incoming, MAX_BODY, MAX_DEPTH, MAX_NAME, Read};
use saga_core::{Body, Envelope, Headers, Machine, Message, Saga};
use uuid::Uuid;

use crate::{DEPTH, depth};

/// No message has more types.
const MAX_TYPES: usize = 64;

static MACHINE: LazyLock<Machine<Order>> = LazyLock::new(Machine::new);
static BASE: LazyLock<BusAddress> = LazyLock::new(|| BusAddress::new("mq", None, "shop"));

/// An envelope out of a database: an error, or an envelope that is written as it was read.
pub fn stored(data: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(data) else { return };
    let written = serde_json::to_string(&envelope).unwrap();
    assert_eq!(serde_json::from_str::<Envelope>(&written).unwrap(), envelope, "{written}");
    let headers = serde_json::to_string(&envelope.headers).unwrap();
    assert!(depth(&headers) <= DEPTH, "headers are read, and not deeper than a reader follows");
    used(&envelope);
}

/// A delivery: a message, what is to be skipped, or what nobody can decode; never a panic, and nothing beyond the limits.
///
/// The first byte says how it came: with which content type and encoding, with which properties, and to whom. The rest is the body.
pub fn wire(data: &[u8]) {
    let Some((how, body)) = data.split_first() else { return };
    let content_types = [Some(wire::ENVELOPE), Some(wire::RAW_JSON), None, Some("text/plain")];
    let handles: &[&'static str] = if how & 4 == 0 { &[OrderSubmitted::NAME] } else { &[] };
    let mut headers = Headers::new();
    if how & 8 != 0 {
        // A header may say anything, too.
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        headers.insert("MT-MessageType".into(), text.clone().into());
        headers.insert("MT-Redelivery-Count".into(), text.into());
    }
    let incoming = Incoming {
        body,
        content_type: content_types[usize::from(how & 3)],
        content_encoding: (how & 16 != 0).then_some("gzip"),
        message_id: (how & 32 != 0).then_some("7b0e0000-5d2a-0242-9c11-08dd31aa0001"),
        correlation_id: (how & 64 != 0).then_some("{7B0E0000-5D2A-0242-9C11-08DD31AA0001}"),
        headers,
        endpoint: Order::ENDPOINT,
        handles,
        base: &BASE,
    };
    let read = wire::read(&incoming);
    assert_eq!(wire::read(&incoming), read, "a redelivery is the same message");
    match read {
        Read::Message(envelope) | Read::Skipped(envelope) => within_limits(&envelope),
        Read::Undecodable(envelope) => {
            assert_eq!(envelope.as_raw().unwrap().bytes, body, "what nobody can decode is kept as it came");
            assert!(envelope.undecodable_reason().is_some_and(|reason| reason.len() <= 2_048));
            used(&envelope);
        }
    }
}

fn within_limits(envelope: &Envelope) {
    assert!(depth(envelope.message.as_str()) <= MAX_DEPTH, "deeper than is read");
    assert!((1..=MAX_TYPES).contains(&envelope.message_type.len()), "{:?}", envelope.message_type);
    for name in &envelope.message_type {
        assert!((1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control), "{name:?}");
    }
    assert!(!envelope.message_id.is_nil(), "an id of zeros is none");
    used(envelope);
    // What was read can be stored, and published again as the same message.
    let json = serde_json::to_string(envelope).unwrap();
    assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), *envelope);
    let Ok(out) = wire::write(envelope, &HostInfo::default(), &BASE) else { return };
    assert!(out.body.len() <= MAX_BODY);
    let again = wire::read(&Incoming {
        body: &out.body,
        content_type: out.content_type.as_deref(),
        content_encoding: out.content_encoding.as_deref(),
        message_id: out.message_id.as_deref(),
        correlation_id: out.correlation_id.as_deref(),
        headers: out.headers,
        endpoint: Order::ENDPOINT,
        handles: &[],
        base: &BASE,
    });
    let Read::Message(again) = again else { panic!("what was written is not read: {again:?}") };
    assert_eq!((again.message_id, &again.message_type), (envelope.message_id, &envelope.message_type));
    let value = |body: &Body| body.read::<serde_json::Value>().ok();
    assert_eq!(value(&again.message), value(&envelope.message));
}

/// Everything that is asked of an envelope on its way.
fn used(envelope: &Envelope) {
    let _ = (envelope.name(), envelope.conversation(), envelope.user(), envelope.saga(), envelope.timer_token());
    let _ = (envelope.undecodable_reason(), envelope.as_raw(), envelope.produced_id("order-saga", 0));
    assert!(envelope.attempt() >= 1);
    let again = envelope.with_attempt(envelope.attempt().saturating_add(1)).redriven();
    assert_eq!((again.attempt(), again.message_id), (1, envelope.message_id), "a redrive counts from 1 again");
    let now = DateTime::<Utc>::UNIX_EPOCH;
    let caused = envelope.cause(Uuid::from_u128(1), OrderSubmitted::NAME, Body::of(&()), now);
    assert_eq!(caused.conversation_id, Some(envelope.conversation()));
    if let Some(endpoint) = envelope.response_endpoint() {
        // A name that no exchange can have is an error, and never more than a name can hold.
        assert!(Destination::of(&endpoint).exchange().ok().is_none_or(|name| name.len() <= MAX_NAME));
    }
    if let Ok(out) = wire::write(envelope, &HostInfo::default(), &BASE) {
        assert!(envelope.as_raw().is_some() || out.body.len() <= MAX_BODY);
    }
    // The saga finds its instance, or says what is wrong.
    if let Err(failure) = MACHINE.read(envelope) {
        assert!(!failure.message().is_empty());
    }
}
