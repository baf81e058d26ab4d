//! The envelope: MassTransit's shape, ids that are derived, headers that are copied.

use chrono::DateTime;
use proptest::prelude::*;
use saga_core::{Body, Envelope, Message, derive_id, header};
use uuid::Uuid;

use crate::lamp::{LAMP, Lit, Pushed};

const ID: Uuid = Uuid::from_u128(0x7b0e_0000_5d2a_0242_9c11_08dd_31aa_0001);

fn pushed() -> Envelope {
    Envelope::new(ID, &Pushed::of(LAMP)).correlated(LAMP).for_user("ada")
}

#[test]
fn given_a_full_envelope_when_it_is_written_then_it_is_as_committed() {
    let now = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
    let mut envelope = pushed().with_attempt(3).cause(derive_id(ID, "lit"), Lit::NAME, Body::of(&Lit::of(LAMP)), now);
    envelope.source_address = Some("queue:lamp-saga".to_owned());
    envelope.request_id = Some(ID);
    insta::assert_snapshot!("envelope", serde_json::to_string_pretty(&envelope).unwrap());
}

#[test]
fn given_a_sparse_envelope_when_it_is_read_then_it_begins_a_conversation() {
    let json = format!(
        r#"{{"messageId":"{ID}","messageType":["urn:message:Lamps:Pushed"],"message":{{"lamp":"{LAMP}"}},
            "requestId":null,"host":{{"machineName":"web1"}},"expirationTime":null}}"#
    );
    let envelope: Envelope = serde_json::from_str(&json).unwrap();
    assert_eq!((envelope.name(), envelope.conversation(), envelope.attempt()), (Pushed::NAME, ID, 1));
    assert_eq!((envelope.user(), envelope.saga(), envelope.timer_token()), (None, None, None));
    assert_eq!(envelope.message.read::<Pushed>().unwrap(), Pushed::of(LAMP));
}

#[test]
fn given_an_envelope_without_a_type_or_with_a_broken_id_when_it_is_read_then_it_is_refused() {
    let no_type = format!(r#"{{"messageId":"{ID}","messageType":[],"message":{{}}}}"#);
    let error = serde_json::from_str::<Envelope>(&no_type).unwrap_err();
    assert!(error.to_string().starts_with("messageType names no type"), "{error}");
    let no_id = r#"{"messageId":"7","messageType":["urn:message:A:B"],"message":{}}"#;
    assert!(serde_json::from_str::<Envelope>(no_id).is_err());
}

#[test]
fn given_a_message_when_it_causes_another_then_custom_headers_are_copied_and_the_protocols_are_not() {
    let mut cause = pushed().with_attempt(3);
    cause.headers.insert("tenant".into(), "eu-1".into());
    let out = cause.cause(derive_id(ID, "x"), Lit::NAME, Body::of(&Lit::of(LAMP)), DateTime::UNIX_EPOCH);
    assert_eq!(out.headers.keys().collect::<Vec<_>>(), [header::USER, "tenant"]);
    assert_eq!((out.conversation_id, out.initiator_id), (Some(ID), Some(LAMP)));
    assert_eq!((out.user(), out.attempt()), (Some("ada"), 1));
}

#[test]
fn given_a_message_when_it_is_tried_again_or_redriven_then_its_id_stays_and_what_it_produces_is_told_apart() {
    let first = pushed();
    let second = first.with_attempt(2);
    assert_eq!((second.message_id, second.attempt(), second.with_attempt(1)), (ID, 2, first.clone()));
    assert_eq!(second.produced_id("lamp-saga", 0), first.produced_id("lamp-saga", 0), "the same at each attempt");
    let redriven = second.redriven();
    assert_eq!((redriven.message_id, redriven.attempt(), redriven.redrives()), (ID, 1, 1));
    let ids = [&first, &redriven, &redriven.redriven()].map(|it| it.produced_id("lamp-saga", 0));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "another after each redrive");
    assert_eq!(ids[0], derive_id(ID, "lamp-saga/0"));
    assert_eq!(
        ids[0].to_string(),
        "7b0e0000-5d2a-83e2-9da8-91bc31711f6e",
        "derived ids are part of the durable contract"
    );
}

#[test]
fn given_a_number_of_redrives_that_is_full_when_it_is_redriven_then_nothing_overflows() {
    let mut envelope = pushed();
    envelope.headers.insert(header::REDRIVE_COUNT.into(), u32::MAX.into());
    assert_eq!(envelope.redriven().redrives(), u32::MAX);
    envelope.headers.insert(header::REDELIVERY_COUNT.into(), u32::MAX.into());
    assert_eq!(envelope.attempt(), u32::MAX);
}

prop_compose! {
    fn envelopes()(
        ids: [u128; 5],
        names in proptest::collection::vec("[A-Z][a-z]{0,8}:[A-Z][A-Za-z+]{0,12}", 1..3),
        addresses in proptest::option::of("queue:[a-z-]{1,12}"),
        millis in proptest::option::of(0_i64..4_000_000_000_000),
        headers in proptest::collection::btree_map("[A-Za-z-]{1,12}", "\\PC{0,12}", 0..4),
        body in "\\PC{0,40}",
        attempt in 1_u32..9,
    ) -> Envelope {
        let mut it = Envelope::raw(Uuid::from_u128(ids[0]), "A:B", Body::of(&body));
        it.message_type = names.into_iter().map(Into::into).collect();
        it.correlation_id = Some(Uuid::from_u128(ids[1]));
        it.conversation_id = (ids[2] % 2 == 0).then(|| Uuid::from_u128(ids[2]));
        it.initiator_id = (ids[3] % 2 == 0).then(|| Uuid::from_u128(ids[3]));
        it.request_id = (ids[4] % 2 == 0).then(|| Uuid::from_u128(ids[4]));
        it.source_address = addresses.clone();
        it.response_address = addresses;
        it.sent_time = millis.and_then(DateTime::from_timestamp_millis);
        it.headers = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        it.with_attempt(attempt)
    }
}

proptest! {
    #[test]
    fn given_any_envelope_when_it_is_written_and_read_then_it_is_the_same(envelope in envelopes()) {
        let json = serde_json::to_string(&envelope).unwrap();
        prop_assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), envelope);
    }
}

#[test]
fn given_addresses_when_asked_whether_they_vanish_with_their_owner_then_their_query_tells() {
    let is_temporary = |address: &str| {
        let mut envelope = Envelope::raw(Uuid::nil(), "Test:Answer", Body::of(&()));
        envelope.destination_address = Some(address.to_owned());
        envelope.is_to_temporary_address()
    };
    assert!(is_temporary("queue:replies-1?temporary=true"));
    assert!(is_temporary("rabbitmq://localhost/shop/bus_1?durable=false&temporary=true"));
    for address in
        ["queue:orders", "queue:temporary=true", "queue:orders?temporary=false", "queue:orders?temporary=truely"]
    {
        assert!(!is_temporary(address), "{address}");
    }
    assert!(!Envelope::raw(Uuid::nil(), "Test:Event", Body::of(&())).is_to_temporary_address(), "it is published");
}
