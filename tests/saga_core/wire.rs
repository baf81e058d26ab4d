//! MassTransit's wire format: what others write is read, and what we write is pinned.

mod content;
mod faults;
mod foreign;
mod golden;
mod names;
mod property;
mod undecodable;

use saga_core::wire::{BusAddress, ENVELOPE, HostInfo, Incoming, Outgoing, Read, read};
use saga_core::{Envelope, Headers};
use serde_json::Value;

/// What the endpoint of these tests handles, unless a test says otherwise.
const HANDLES: &[&str] = &["Shop.Contracts:OrderPlaced", "Shop.Contracts:OrderPaid"];

fn base() -> BusAddress {
    BusAddress::new("mq", None, "shop")
}

fn host() -> HostInfo {
    HostInfo {
        machine_name: Some("web1".to_owned()),
        process_name: Some("saga-host".to_owned()),
        process_id: Some(17),
        assembly: Some("saga-host".to_owned()),
        assembly_version: Some("0.1.0".to_owned()),
        framework_version: Some("saga-core 0.1.0".to_owned()),
        mass_transit_version: None,
        operating_system_version: Some("linux".to_owned()),
    }
}

fn headers<const N: usize>(headers: [(&'static str, Value); N]) -> Headers {
    headers.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

/// A delivery of a body that is said to be an envelope.
fn delivery<'a>(body: &'a [u8], base: &'a BusAddress) -> Incoming<'a> {
    Incoming {
        body,
        content_type: Some(ENVELOPE),
        content_encoding: None,
        message_id: None,
        correlation_id: None,
        headers: Headers::new(),
        endpoint: "order-saga",
        handles: HANDLES,
        base,
    }
}

/// A delivery of what we write.
fn delivery_of<'a>(written: &'a Outgoing, base: &'a BusAddress) -> Incoming<'a> {
    Incoming {
        body: &written.body,
        content_type: written.content_type.as_deref(),
        content_encoding: written.content_encoding.as_deref(),
        message_id: written.message_id.as_deref(),
        correlation_id: written.correlation_id.as_deref(),
        headers: written.headers.clone(),
        endpoint: "order-saga",
        handles: &[],
        base,
    }
}

fn message(incoming: &Incoming<'_>) -> Envelope {
    match read(incoming) {
        Read::Message(envelope) => envelope,
        other => panic!("{other:?}"),
    }
}

fn reason(incoming: &Incoming<'_>) -> String {
    match read(incoming) {
        Read::Undecodable(envelope) => envelope.undecodable_reason().unwrap(),
        other => panic!("{other:?}"),
    }
}
