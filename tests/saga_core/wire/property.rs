//! What holds for every input.

use std::sync::LazyLock;

use chrono::DateTime;
use proptest::prelude::*;
use saga_core::wire::{Address, Incoming, RAW_JSON, Read, entity_name, read, write};
use saga_core::{Body, Envelope};
use serde_json::{Value, json};
use test_foreign::Recording;
use uuid::Uuid;

use super::{base, delivery, delivery_of, host};

fn header_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[^\\x00]{0,12}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..3).prop_map(|it| json!(it)),
        Just(json!({ "deep": { "er": null } })),
    ]
}

fn addresses() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(prop_oneof!["queue:[a-z-]{1,12}", "rabbitmq://else/[a-z-]{1,12}", "odd [a-z]{1,3}"])
}

prop_compose! {
    fn envelopes()(
        ids in any::<[u128; 4]>(),
        id in 1..u128::MAX,
        names in proptest::collection::vec("[A-Z][a-z]{0,8}:[A-Z][A-Za-z+]{0,12}", 1..3),
        addresses in [addresses(), addresses(), addresses(), addresses()],
        millis in proptest::option::of(0_i64..4_000_000_000_000),
        headers in proptest::collection::btree_map("[a-z]{1,6}", header_values(), 0..4),
        body in "\\PC{0,40}",
        attempt in 1_u32..9,
    ) -> Envelope {
        let mut it = Envelope::raw(Uuid::from_u128(id), "A:B", Body::of(&json!({ "text": body })));
        it.message_type = names.into_iter().map(Into::into).collect();
        let optional = |id: u128| id.is_multiple_of(2).then(|| Uuid::from_u128(id));
        (it.correlation_id, it.conversation_id) = (optional(ids[0]), optional(ids[1]));
        (it.initiator_id, it.request_id) = (optional(ids[2]), optional(ids[3]));
        [it.source_address, it.destination_address, it.response_address, it.fault_address] = addresses;
        it.sent_time = millis.and_then(DateTime::from_timestamp_millis);
        it.headers = headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
        it.with_attempt(attempt)
    }
}

/// Written by hand, and recorded.
static FOREIGN: LazyLock<[String; 9]> = LazyLock::new(|| {
    [
        include_str!("full.json").to_owned(),
        include_str!("sparse.json").to_owned(),
        include_str!("spellings.json").to_owned(),
        include_str!("untidy.json").to_owned(),
        include_str!("nulls.json").to_owned(),
        include_str!("raw.json").to_owned(),
        Recording::of("python-order-placed").body,
        Recording::of("rust-rabbit-options").body,
        Recording::of("rust-rabbit-envelope").body,
    ]
});

proptest! {
    #[test]
    fn given_any_envelope_when_it_is_written_and_read_then_it_is_the_same(envelope in envelopes()) {
        let base = base();
        let written = write(&envelope, &host(), &base).unwrap();
        prop_assert_eq!(read(&delivery_of(&written, &base)), Read::Message(envelope));
    }

    #[test]
    fn given_any_bytes_when_they_are_read_then_nothing_panics_and_nothing_is_lost(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        content_type in proptest::option::of("\\PC{0,30}"),
    ) {
        let base = base();
        let incoming = Incoming { content_type: content_type.as_deref(), ..delivery(&body, &base) };
        if let Read::Undecodable(envelope) = read(&incoming) {
            prop_assert_eq!(envelope.as_raw().map(|raw| raw.bytes), Some(body));
        }
    }

    #[test]
    fn given_an_envelope_with_changed_bytes_when_it_is_read_then_nothing_panics(
        which in 0..FOREIGN.len(),
        at in any::<prop::sample::Index>(),
        end in proptest::option::of(any::<prop::sample::Index>()),
        byte in any::<u8>(),
        is_raw in any::<bool>(),
    ) {
        let mut body = FOREIGN[which].as_bytes().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        if let Some(end) = end {
            body.truncate(end.index(body.len()));
        }
        let base = base();
        let incoming = delivery(&body, &base);
        let outcome = read(&if is_raw { Incoming { content_type: Some(RAW_JSON), ..incoming } } else { incoming });
        let (Read::Message(envelope) | Read::Skipped(envelope) | Read::Undecodable(envelope)) = outcome;
        prop_assert!(write(&envelope, &host(), &base).is_ok());
        let _ = envelope.message.read_leniently::<Value>();
    }

    #[test]
    fn given_any_name_when_it_is_an_exchanges_then_it_fits(name in "[A-Za-z:+,.\\[\\]ü]{0,300}") {
        if let Ok(exchange) = entity_name(&name) {
            prop_assert!((1..=255).contains(&exchange.len()));
        }
    }

    #[test]
    fn given_any_name_when_it_is_an_address_then_it_is_read_back(name in "[^\\p{Cc}]{1,60}") {
        for address in [Address::Queue(name.clone()), Address::Exchange(name.clone())] {
            if !name.trim().is_empty() && name != "*" {
                prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
                let full = base().absolute(&address.to_string()).into_owned();
                prop_assert_eq!(full.parse(), Ok(Address::Queue(name.clone())));
            }
        }
    }
}
