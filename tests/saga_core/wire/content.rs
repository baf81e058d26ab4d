//! What is well said and what is not: content types, headers, limits.

use saga_core::Envelope;
use saga_core::wire::{ENVELOPE, Incoming, MAX_BODY, RAW_JSON, Raw, Read, UNDECODABLE, read};
use serde_json::{Value, json};

use super::{base, delivery, headers, message, reason};

fn envelope(fields: &str) -> String {
    format!(r#"{{"messageType":["urn:message:Shop.Contracts:OrderPlaced"],"message":{{}}{fields}}}"#)
}

#[test]
fn given_headers_beside_the_envelope_when_it_is_read_then_the_envelopes_win_and_the_brokers_stay_behind() {
    let base = base();
    let body = envelope(r#","headers":{"Tenant":"eu-1","odd":{"deep":[1,null]},"flag":true}"#);
    let beside = headers([
        ("tenant", "us-1".into()),
        ("flag", "True".into()),
        ("campaign", "spring".into()),
        ("nothing", Value::Null),
        ("MT-Redrive-Count", 2.into()),
        ("MessageId", "7b0e0000-5d2a-0242-9c11-08dd31aa0001".into()),
        ("x-death", json!([{ "count": 1 }])),
        ("x-delivery-count", 1.into()),
        ("CC", json!(["elsewhere"])),
    ]);
    let read = message(&Incoming { headers: beside, ..delivery(body.as_bytes(), &base) });
    let expected = headers([
        ("Tenant", "eu-1".into()),
        ("odd", json!({ "deep": [1, null] })),
        ("flag", true.into()),
        ("campaign", "spring".into()),
        ("MT-Redrive-Count", 2.into()),
    ]);
    assert_eq!((read.headers.clone(), read.redrives()), (expected, 2));
    assert_eq!(read.message_id.to_string(), "7b0e0000-5d2a-0242-9c11-08dd31aa0001");
}

#[test]
fn given_json_of_whatever_kind_when_it_is_an_envelope_then_it_is_read_as_one_and_else_as_the_message() {
    let base = base();
    let handles = &["Shop.Contracts:OrderPlaced"];
    let read_as = |body: &str, content_type| {
        let incoming = Incoming { content_type, handles, ..delivery(body.as_bytes(), &base) };
        message(&incoming).message.as_str().to_owned()
    };
    for content_type in [None, Some(RAW_JSON)] {
        assert_eq!(read_as(&envelope(""), content_type), "{}");
        for raw in
            [r#"{"message":{}}"#, r#"{"messageType":["A:B"]}"#, "[1]", "7", r#"{"messageType":"A","message":"B"}"#]
        {
            assert_eq!(read_as(raw, content_type), raw);
        }
    }
    assert_eq!(read_as(r#"{"messageType":"Shop.Contracts:OrderPlaced","message":null}"#, Some(ENVELOPE)), "null");
}

#[test]
fn given_what_can_not_be_told_when_it_is_read_then_the_reason_says_what_and_where() {
    let base = base();
    let of = |body: &str| reason(&delivery(body.as_bytes(), &base));
    let syntax = of(r#"{"messageType":["A:B"],"message":{"open":}"#);
    assert_eq!(syntax, "the body is no envelope: expected value at line 1 column 42");
    for (body, expected) in [
        (r#"{"message":{}}"#, "the body is no envelope: it has no messageType"),
        ("[]", "the body is no envelope: invalid type: sequence, expected an object at line 1 column 0"),
        ("null", "the body is no envelope: invalid type: null, expected an object at line 1 column 4"),
        (r#"{"messageType":[],"message":{}}"#, "messageType names no type"),
        (r#"{"messageType":[" "],"message":{}}"#, "messageType names no type"),
        (r#"{"messageType":[7],"message":{}}"#, "messageType is no list of names"),
        (r#"{"messageType":["A:B"]}"#, "the envelope has no message"),
        (
            r#"{"messageType":["A:\u0000"],"message":{}}"#,
            "messageType names `A:\\0`: a type's name has 1 to 255 bytes and no control characters",
        ),
        (
            r#"{"messageType":["SagaCore:Undecodable"],"message":{}}"#,
            "the type SagaCore:Undecodable is reserved for what nobody can decode",
        ),
        (&envelope(r#","messageId":"seven""#), "messageId is no id: `seven`"),
        (
            &envelope(r#","correlationId":7"#),
            "correlationId is no text: invalid type: integer `7`, expected a string at line 1 column 1",
        ),
        (
            &envelope(r#","responseAddress":"queue:a\u0000b""#),
            "responseAddress is no address: it has more than 2048 bytes, or a control character",
        ),
        (
            &envelope(r#","headers":[]"#),
            "the headers can not be read: invalid type: sequence, expected a map at line 1 column 0",
        ),
        (&envelope(r#","headers":{"a":["b\u0000"]}"#), "the header a has a character of code 0"),
        ("", "the body is empty"),
    ] {
        assert_eq!(of(body), expected, "{body}");
    }
}

#[test]
fn given_a_body_without_an_envelope_when_its_type_is_not_told_then_it_is_said_how_to_tell_it() {
    let base = base();
    let raw = Incoming { content_type: Some(RAW_JSON), ..delivery(b"{}", &base) };
    let expected = "the body has no envelope, and order-saga handles 2 types of messages: name the type in the header \
                    MT-MessageType, or send an envelope";
    assert_eq!(reason(&raw), expected);
    let broken = reason(&Incoming { body: b"{", ..raw.clone() });
    assert_eq!(broken, "the body is no JSON: EOF while parsing an object at line 1 column 1");
    let named = Incoming { headers: headers([("mt-messagetype", "urn:message:Else:Where".into())]), ..raw };
    assert!(matches!(read(&named), Read::Skipped(envelope) if envelope.name() == "Else:Where"));
}

#[test]
fn given_more_than_the_limits_when_it_is_read_then_it_is_undecodable() {
    let base = base();
    let of = |body: &str| reason(&delivery(body.as_bytes(), &base));
    let nested = "[".repeat(100_000);
    assert_eq!(of(&nested), "the body is nested deeper than 96 levels");
    let inside = format!(r#"{{"messageType":["A:B"],"message":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(of(&inside), "the body is nested deeper than 96 levels");

    let long = "x".repeat(MAX_BODY);
    assert_eq!(
        of(&envelope(&format!(r#","note":"{long}""#))).split(';').next(),
        Some("the body is 16777297 bytes long")
    );
    let many: Vec<_> = (0..200).map(|n| format!(r#""h{n}":{n}"#)).collect();
    assert_eq!(
        of(&envelope(&format!(r#","headers":{{{}}}"#, many.join(",")))),
        "the message has 200 headers; no more than 128 are read"
    );
    let name = "n".repeat(256);
    assert_eq!(
        of(&envelope(&format!(r#","headers":{{"{name}":1}}"#))),
        "a header's name is 256 bytes long; it must have 1 to 255"
    );
    let value = "v".repeat(70_000);
    assert_eq!(
        of(&envelope(&format!(r#","headers":{{"h":"{value}"}}"#))),
        "the headers are 70001 bytes long; no more than 65536 are read"
    );
    assert!(of(&format!(r#"{{"messageType":["{name}"],"message":{{}}}}"#)).contains("1 to 255 bytes"));
    let types: Vec<_> = (0..65).map(|n| format!(r#""A:B{n}""#)).collect();
    let types = format!(r#"{{"messageType":[{}],"message":{{}}}}"#, types.join(","));
    assert_eq!(of(&types), "messageType names 65 types; no more than 64 are read");
    let fields: Vec<_> = (0..300).map(|n| format!(r#""f{n}":{n}"#)).collect();
    assert!(of(&envelope(&format!(",{}", fields.join(",")))).contains("no more than 256 members"));
    let address = envelope(&format!(r#","faultAddress":"queue:{}""#, "a".repeat(2_048)));
    assert!(of(&address).starts_with("faultAddress is no address"), "{}", of(&address));
}

#[test]
fn given_bytes_of_any_kind_when_nobody_can_decode_them_then_they_are_kept_as_they_came() {
    let base = base();
    let all: Vec<u8> = (0..=255).collect();
    for body in [&b"{\"torn\": tr"[..], b"", b"a\0b", &all, "ünïcode\n".as_bytes(), &[b' '; 3]] {
        let incoming = Incoming {
            content_type: Some("text/plain; charset=latin-1"),
            content_encoding: Some("identity"),
            message_id: Some("17"),
            correlation_id: Some("c"),
            headers: headers([("x-death", json!([{ "count": 1 }])), ("tenant", "eu-1".into())]),
            ..delivery(body, &base)
        };
        let Read::Undecodable(envelope) = read(&incoming) else { panic!("{body:?}") };
        let stored: Envelope = serde_json::from_str(&serde_json::to_string(&envelope).unwrap()).unwrap();
        let expected = Raw {
            bytes: body.to_vec(),
            content_type: Some("text/plain; charset=latin-1".to_owned()),
            content_encoding: Some("identity".to_owned()),
            message_id: Some("17".to_owned()),
            correlation_id: Some("c".to_owned()),
            headers: incoming.headers.clone(),
        };
        assert_eq!((stored.name(), stored.as_raw()), (UNDECODABLE, Some(expected)));
    }
}
