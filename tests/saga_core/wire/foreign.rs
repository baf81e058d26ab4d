//! Envelopes that others wrote: by hand, from the description of the format. What two libraries sent is replayed over a
//! broker, in `tests/saga_core/foreign`.

use rust_decimal::Decimal;
use saga_core::wire::{Incoming, RAW_JSON, Read, read};
use saga_core::{Body, Envelope, Message};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::{Uuid, uuid};

use super::{HANDLES, base, delivery, headers, message};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderPlaced {
    order_id: Uuid,
    total: Decimal,
}

impl Message for OrderPlaced {
    const NAME: &'static str = "Shop.Contracts:OrderPlaced";
}

const ORDER: Uuid = uuid!("0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11");

fn check(name: &str, incoming: &Incoming<'_>, total: &str) -> Envelope {
    let envelope = message(incoming);
    insta::assert_snapshot!(name, serde_json::to_string_pretty(&envelope).unwrap());
    let order: OrderPlaced = envelope.message.read_leniently().unwrap();
    assert_eq!(order, OrderPlaced { order_id: ORDER, total: total.parse().unwrap() });
    envelope
}

#[test]
fn given_what_masstransit_writes_when_it_is_read_then_every_field_is_kept() {
    let (body, base) = (include_bytes!("full.json"), base());
    let envelope = check("full", &delivery(body, &base), "19.90");
    assert_eq!(envelope.trace_id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(
        envelope.destination_address.as_deref(),
        Some("queue:Shop.Contracts:OrderPlaced"),
        "it is at our broker"
    );
}

#[test]
fn given_type_and_message_alone_when_they_are_read_then_the_id_is_the_same_at_every_delivery_and_endpoint() {
    let (body, base) = (include_bytes!("sparse.json"), base());
    let envelope = check("sparse", &delivery(body, &base), "19.90");
    let elsewhere = Incoming { endpoint: "order-audit", handles: &HANDLES[..1], ..delivery(body, &base) };
    let again = Incoming { headers: headers([("x-delivery-count", 1.into())]), ..delivery(body, &base) };
    assert_eq!([message(&elsewhere).message_id, message(&again).message_id], [envelope.message_id; 2]);
    let other = String::from_utf8_lossy(body).replace("19.90", "19.91").into_bytes();
    assert_ne!(message(&delivery(&other, &base)).message_id, envelope.message_id);
}

#[test]
fn given_an_id_in_the_properties_when_the_envelope_has_none_or_zeros_then_it_is_taken() {
    let (base, id) = (base(), Uuid::from_u128(9));
    let sparse = include_str!("sparse.json");
    let zeros = sparse.replacen('{', &format!(r#"{{"messageId":"{}","#, Uuid::nil()), 1);
    let own = sparse.replacen('{', &format!(r#"{{"messageId":"{}","#, Uuid::from_u128(1)), 1);
    let text = id.to_string().to_uppercase();
    for (body, expected) in [(sparse, id), (&zeros, id), (&own, Uuid::from_u128(1))] {
        let incoming = Incoming {
            message_id: Some(&text),
            correlation_id: Some("0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11"),
            ..delivery(body.as_bytes(), &base)
        };
        assert_eq!((message(&incoming).message_id, message(&incoming).correlation_id), (expected, Some(ORDER)));
    }
    let by_number = |number| message(&Incoming { message_id: Some(number), ..delivery(sparse.as_bytes(), &base) });
    assert_ne!(by_number("1").message_id, by_number("2").message_id, "an id that is no guid tells messages apart too");
}

#[test]
fn given_other_spellings_when_they_are_read_then_names_ids_and_types_are_ours() {
    let (body, base) = (include_bytes!("spellings.json"), base());
    let envelope = check("spellings", &delivery(body, &base), "19.90");
    assert_eq!((envelope.attempt(), envelope.user()), (3, Some("ada")));
    assert!(envelope.message.read::<OrderPlaced>().is_err(), "strictly, it is none");
}

#[test]
fn given_comments_and_trailing_commas_when_they_are_read_then_they_are_passed_over() {
    let (body, base) = (include_bytes!("untidy.json"), base());
    check("untidy", &delivery(body, &base), "100");
    let with_mark = [b"\xef\xbb\xbf", &body[..]].concat();
    assert_eq!(message(&delivery(&with_mark, &base)).headers["note"], "// no comment, /* here */ ,}");
}

#[test]
fn given_nulls_everywhere_when_they_are_read_then_nothing_is_said() {
    let (body, base) = (include_bytes!("nulls.json"), base());
    check("nulls", &delivery(body, &base), "19.9");
}

#[test]
fn given_a_body_without_an_envelope_when_one_type_is_handled_or_named_then_the_headers_say_the_rest() {
    let (body, base) = (include_bytes!("raw.json"), base());
    let raw = Incoming { content_type: Some(RAW_JSON), ..delivery(body, &base) };
    let one = Incoming { handles: &HANDLES[..1], ..raw.clone() };
    assert_eq!(message(&one).name(), OrderPlaced::NAME);
    assert_eq!(message(&one), message(&Incoming { content_type: None, ..one.clone() }));

    let named = headers([
        ("MessageId", "7b0e0000-5d2a-0242-9c11-08dd31aa0001".into()),
        ("CorrelationId", "0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11".into()),
        ("ConversationId", "7b0e0000-5d2a-0242-9c12-08dd31aa0001".into()),
        ("RequestId", "7b0e0000-5d2a-0242-9c11-08dd31aa0002".into()),
        ("MT-InitiatorId", "7b0e0000-5d2a-0242-9c11-08dd31aa0003".into()),
        ("MT-MessageType", "urn:message:Shop.Contracts:OrderPlaced;urn:message:Shop.Contracts:IOrderEvent".into()),
        ("MT-Source-Address", "rabbitmq://mq/shop/web-api".into()),
        ("MT-Response-Address", "rabbitmq://mq/shop/order-client?temporary=true".into()),
        ("MT-Fault-Address", "rabbitmq://mq/shop/complaints".into()),
        ("MT-Host-Info", r#"{"machineName":"web1"}"#.into()),
        ("MT-Activity-Id", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ("tenant", "eu-1".into()),
        ("x-death", json!([{ "count": 1 }])),
    ]);
    check("raw", &Incoming { headers: named, ..raw }, "12345678901234.56");
}

#[test]
fn given_a_type_that_nobody_handles_when_it_is_read_then_it_is_skipped() {
    let (body, base) = (include_bytes!("full.json"), base());
    let skipped = read(&Incoming { handles: &["Shop.Contracts:OrderPaid"], ..delivery(body, &base) });
    let Read::Skipped(envelope) = skipped else { panic!("{skipped:?}") };
    assert_eq!(envelope.message_type, ["Shop.Contracts:OrderPlaced", "Shop.Contracts:IOrderEvent"]);
    let base_type = Incoming { handles: &["Shop.Contracts:IOrderEvent"], ..delivery(body, &base) };
    assert_eq!(message(&base_type).name(), "Shop.Contracts:OrderPlaced", "handled as what it can be taken for");
    assert_eq!(message(&Incoming { handles: &[], ..delivery(body, &base) }).name(), "Shop.Contracts:OrderPlaced");
}

#[test]
fn given_decimals_in_any_spelling_when_they_are_read_then_fifteen_digits_are_exact() {
    let read = |total: &str| {
        let body = format!(r#"{{"orderId":"{ORDER}","total":{total}}}"#);
        Body::from_json(body).unwrap().read_leniently::<OrderPlaced>().map(|order| order.total)
    };
    for (written, total) in [
        ("19.90", "19.90"),
        (r#""19.90""#, "19.90"),
        ("1e2", "100"),
        ("-0.07", "-0.07"),
        ("1234567890123.45", "1234567890123.45"),
        (r#""1234567890123456789012.3456""#, "1234567890123456789012.3456"),
        ("18446744073709551615", "18446744073709551615"),
    ] {
        assert_eq!(read(written).unwrap(), total.parse::<Decimal>().unwrap(), "{written}");
    }
    assert!(read(r#""much""#).is_err() && read("true").is_err() && read("null").is_err());
}
