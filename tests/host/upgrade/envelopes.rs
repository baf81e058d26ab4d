//! An envelope of each message, as each version has stored and published it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use order_saga::{
    OrderCompleted, OrderCreated, OrderExpired, OrderItem, OrderOverdue, OrderSubmitted, PaymentApproved,
    PaymentDeclined, PaymentFailed, PaymentRefunded, ProcessPayment, RefundFailed, RefundPayment,
};
use saga_core::wire::{self, BusAddress, HostInfo, Incoming, Outgoing, Read};
use saga_core::{Envelope, Fault, Headers, Message, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::versions;

/// A message, as it is stored and as it is published.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Golden {
    stored: Value,
    content_type: String,
    message_id: String,
    correlation_id: String,
    headers: Headers,
    body: Value,
}

/// A message's name, and how its body is read and written again.
type Known = (&'static str, fn(&Envelope) -> Value);

/// Every message of the process.
const MESSAGES: [Known; 13] = [
    (OrderSubmitted::NAME, again::<OrderSubmitted>),
    (OrderCreated::NAME, again::<OrderCreated>),
    (ProcessPayment::NAME, again::<ProcessPayment>),
    (PaymentApproved::NAME, again::<PaymentApproved>),
    (PaymentDeclined::NAME, again::<PaymentDeclined>),
    (PaymentFailed::NAME, again::<PaymentFailed>),
    (OrderOverdue::NAME, again::<OrderOverdue>),
    (OrderCompleted::NAME, again::<OrderCompleted>),
    (OrderExpired::NAME, again::<OrderExpired>),
    (RefundPayment::NAME, again::<RefundPayment>),
    (PaymentRefunded::NAME, again::<PaymentRefunded>),
    (RefundFailed::NAME, again::<RefundFailed>),
    ("MassTransit:Fault[[Orders:ProcessPayment]]", again::<Fault<ProcessPayment>>),
];

/// The body as the message's type reads and writes it.
fn again<M: Message>(envelope: &Envelope) -> Value {
    serde_json::to_value(envelope.message.read::<M>().unwrap()).unwrap()
}

/// The envelopes of this version, one a line.
pub(super) fn written() -> String {
    let (order_id, user_id) = (Uuid::from_u128(7), "ann".to_owned());
    let total = "99.80".parse().unwrap();
    let since: DateTime<Utc> = "2026-11-23T12:00:00.123456Z".parse().unwrap();
    let (reference, error) = ("charge-1".to_owned(), "the gateway is away".to_owned());
    let items = vec![OrderItem { product_id: "tea".to_owned(), quantity: 2, price: "49.90".parse().unwrap() }];
    let submitted = OrderSubmitted { order_id, user_id: user_id.clone(), items, total, fingerprint: "f".to_owned() };
    let payment = ProcessPayment { order_id, amount: total };
    let fault = Fault::<ProcessPayment> {
        fault_id: Uuid::from_u128(9),
        faulted_message_id: Some(Uuid::from_u128(8)),
        timestamp: since,
        exceptions: None,
        host: None,
        fault_message_types: Some(vec![format!("urn:message:{}", ProcessPayment::NAME)]),
        message: payment.clone(),
    };
    let envelopes = [
        of(&submitted),
        of(&OrderCreated { order_id, user_id: user_id.clone(), total }),
        of(&payment),
        of(&PaymentApproved { order_id, amount: total, reference: reference.clone() }),
        of(&PaymentDeclined { order_id, reason: "no funds".to_owned() }),
        of(&PaymentFailed { order_id, error: error.clone() }),
        of(&OrderOverdue { order_id, since }),
        of(&OrderCompleted { order_id, user_id: user_id.clone(), total }),
        of(&OrderExpired { order_id, user_id, total, since }),
        of(&RefundPayment { order_id, amount: total, reference }),
        of(&PaymentRefunded { order_id, amount: total }),
        of(&RefundFailed { order_id, error }),
        of(&fault),
    ];
    let (host, base) = (HostInfo { machine_name: Some("here".to_owned()), ..HostInfo::default() }, base());
    let lines = envelopes.iter().map(|envelope| {
        let Outgoing { body, content_type, message_id, correlation_id, headers, .. } =
            wire::write(envelope, &host, &base).unwrap();
        let golden = Golden {
            stored: serde_json::to_value(envelope).unwrap(),
            content_type: content_type.unwrap(),
            message_id: message_id.unwrap(),
            correlation_id: correlation_id.unwrap(),
            headers,
            body: serde_json::from_slice(&body).unwrap(),
        };
        format!("{}\n", serde_json::to_string(&golden).unwrap())
    });
    lines.collect()
}

/// An envelope in which everything is said that can be said.
fn of<M: Message>(message: &M) -> Envelope {
    let mut envelope = Envelope::new(Uuid::from_u128(8), message).correlated(Uuid::from_u128(7)).for_user("ann");
    envelope.request_id = Some(Uuid::from_u128(1));
    envelope.conversation_id = Some(Uuid::from_u128(2));
    envelope.initiator_id = Some(Uuid::from_u128(3));
    envelope.source_address = Some("queue:order-saga".to_owned());
    envelope.destination_address = Some("queue:order-payment".to_owned());
    envelope.response_address = Some("queue:order-saga".to_owned());
    envelope.fault_address = Some("exchange:faults".to_owned());
    envelope.sent_time = Some("2026-11-23T12:00:01.5Z".parse().unwrap());
    envelope.headers.insert(header::SAGA.into(), json!("order"));
    envelope.headers.insert("tenant".into(), json!({ "name": "north", "level": 3 }));
    envelope.with_attempt(3)
}

fn base() -> BusAddress {
    BusAddress::new("mq", None, "shop")
}

/// Whether everything that `old` says is said by `new`; a later version may say more.
fn says(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(name, old)| old.is_null() || new.get(name).is_some_and(|new| says(new, old)))
        }
        (new, old) => new == old,
    }
}

#[test]
fn given_each_message_as_each_version_has_stored_and_published_it_when_read_then_it_says_the_same() {
    let names: Vec<&'static str> = MESSAGES.iter().map(|(name, _)| *name).collect();
    for folder in versions() {
        let text = std::fs::read_to_string(folder.join("envelopes.jsonl")).unwrap();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            let golden: Golden = serde_json::from_str(line).unwrap();
            let stored: Envelope = serde_json::from_value(golden.stored.clone()).unwrap();
            assert!(says(&serde_json::to_value(&stored).unwrap(), &golden.stored), "{line}");
            let (name, again) = MESSAGES.iter().find(|(name, _)| *name == stored.name()).unwrap();
            assert!(says(&again(&stored), &golden.stored["message"]), "{line}");
            seen.insert(*name);

            let body = serde_json::to_vec(&golden.body).unwrap();
            let incoming = Incoming {
                body: &body,
                content_type: Some(&golden.content_type),
                content_encoding: None,
                message_id: Some(&golden.message_id),
                correlation_id: Some(&golden.correlation_id),
                headers: golden.headers.clone(),
                endpoint: "order-saga",
                handles: &names,
                base: &base(),
            };
            let Read::Message(read) = wire::read(&incoming) else { panic!("it is not read: {line}") };
            assert!(says(&serde_json::to_value(&read).unwrap()["message"], &golden.stored["message"]), "{line}");
            assert_eq!((read.message_id, read.correlation_id), (stored.message_id, stored.correlation_id), "{line}");
            assert_eq!((read.attempt(), read.user(), read.saga()), (3, Some("ann"), Some("order")), "{line}");
            assert_eq!(read.response_endpoint().as_deref(), Some("order-saga"), "{line}");
        }
        assert_eq!(seen.len(), MESSAGES.len(), "{}: {seen:?}", folder.display());
    }
}

#[test]
fn given_a_message_that_says_less_when_compared_then_it_is_noticed() {
    assert!(says(&json!({ "a": 1, "b": 2 }), &json!({ "a": 1, "c": null })));
    assert!(!says(&json!({ "a": 1 }), &json!({ "a": 1, "b": 2 })));
    assert!(!says(&json!({ "a": { "b": 1 } }), &json!({ "a": { "b": 2 } })));
}
