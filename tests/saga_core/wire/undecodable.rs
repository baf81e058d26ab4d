//! What nobody can decode, on its way through a runtime.

use saga_core::wire::{Incoming, Read, read, write};
use saga_core::{Activity, Envelope, Saga, header};

use super::{base, delivery, delivery_of, headers, host};
use crate::lamp::{Electrician, Lamp, Watcher, Wire, house};

fn torn(headers: saga_core::Headers) -> Envelope {
    let base = base();
    let incoming = Incoming { headers, content_type: None, ..delivery(b"{\"torn\": tr", &base) };
    match read(&incoming) {
        Read::Undecodable(envelope) => envelope,
        other => panic!("{other:?}"),
    }
}

#[test]
fn given_what_nobody_can_decode_when_it_comes_then_it_is_a_dead_letter_at_once_and_once_with_the_reason() {
    for endpoint in [Lamp::ENDPOINT, Wire::ENDPOINT] {
        let mut harness = house(&Electrician::default(), &Watcher::default()).start();
        harness.send_envelope(endpoint, torn(headers([("x-delivery-count", 1.into())])));
        harness.send_envelope(endpoint, torn(headers([("x-delivery-count", 2.into())])));
        let dead = harness.dead_letters();
        assert_eq!((dead.len(), &*dead[0].reason, dead[0].attempts), (1, "undecodable", 1), "{endpoint}");
        assert_eq!(dead[0].error, "the body is no JSON: EOF while parsing a value at line 1 column 11");
        assert_eq!(dead[0].envelope.as_raw().unwrap().bytes, b"{\"torn\": tr");
        assert_eq!(harness.backlog().outbox, 0);
    }
}

#[test]
fn given_its_dead_letter_when_it_is_redriven_then_the_bytes_go_as_they_came_and_may_come_back() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    let first = torn(headers([("x-delivery-count", 1.into()), ("tenant", "eu-1".into())]));
    harness.send_envelope(Lamp::ENDPOINT, first.clone());
    let sent = write(&first.redriven(), &host(), &base()).unwrap();
    assert_eq!((&*sent.body, sent.content_type.as_deref()), (&b"{\"torn\": tr"[..], None));
    assert_eq!(sent.headers, headers([("tenant", "eu-1".into()), (header::REDRIVE_COUNT, 1.into())]));

    let base = base();
    let Read::Undecodable(back) = read(&delivery_of(&sent, &base)) else { panic!("it is as torn as before") };
    assert_eq!((back.message_id, back.redrives()), (first.message_id, 1));
    let letter = harness.dead_letters()[0].id;
    harness.redrive(letter).unwrap();
    let again = harness.dead_letters();
    assert_eq!((again.len(), again[0].envelope.redrives()), (1, 1));
    assert_ne!(again[0].id, letter, "a dead letter of its own");
}

#[test]
fn given_an_envelope_that_only_pretends_when_it_is_looked_at_then_there_is_a_reason_and_no_bytes() {
    let pretended = Envelope::raw(uuid::Uuid::nil(), "SagaCore:Undecodable", saga_core::Body::of(&7));
    assert!(pretended.undecodable_reason().unwrap().starts_with("it is no SagaCore:Undecodable"));
    assert_eq!(pretended.as_raw(), None);
    assert!(write(&pretended, &host(), &base()).is_ok());
}
