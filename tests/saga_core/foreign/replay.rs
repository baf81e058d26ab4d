//! What foreign services sent, sent again: envelopes written by hand, which the codec's own tests read too, and recordings
//! of two libraries.

use amqprs::FieldValue;
use saga_core::JournalOutcome;
use serde_json::{Value, json};
use test_foreign::Recording;
use uuid::Uuid;

use super::shop::{AUDIT, ORDER, Shop, enveloped, of_type, text};

/// An envelope written by hand, and what is stored of it.
struct Case {
    name: &'static str,
    body: &'static str,
    content_type: Option<&'static str>,
    headers: Vec<(&'static str, FieldValue)>,
    /// `None`: derived from the body.
    message_id: Option<&'static str>,
    conversation_id: Option<&'static str>,
    user: Option<&'static str>,
    attempt: u32,
    total: &'static str,
    /// The headers that go on with what follows, beside those of our own.
    forwarded: Value,
}

const ENVELOPE: Option<&str> = Some("application/vnd.masstransit+json");
const RAW: Option<&str> = Some("application/json");
const ID: Option<&str> = Some("7b0e0000-5d2a-0242-9c11-08dd31aa0001");
const CONVERSATION: Option<&str> = Some("7b0e0000-5d2a-0242-9c12-08dd31aa0001");

fn by_hand() -> Vec<Case> {
    let case = |name, body| Case {
        name,
        body,
        content_type: ENVELOPE,
        headers: Vec::new(),
        message_id: ID,
        conversation_id: CONVERSATION,
        user: None,
        attempt: 1,
        total: "19.90",
        forwarded: json!({}),
    };
    vec![
        Case {
            headers: vec![
                ("Tenant", text("us-1")),
                ("campaign", text("spring")),
                ("weight", FieldValue::l(7)),
                ("x-death", FieldValue::V),
            ],
            forwarded: json!({ "tenant": "eu-1", "campaign": "spring", "weight": 7 }),
            ..case("full", include_str!("../wire/full.json"))
        },
        Case { message_id: None, conversation_id: None, ..case("sparse", include_str!("../wire/sparse.json")) },
        Case {
            message_id: None,
            conversation_id: None,
            total: "19.9",
            ..case("nulls", include_str!("../wire/nulls.json"))
        },
        Case {
            user: Some("ada"),
            attempt: 3,
            total: "19.9",
            forwarded: json!({ "Tenant": "eu-1", "Saga-User": "ada" }),
            ..case("spellings", include_str!("../wire/spellings.json"))
        },
        Case {
            conversation_id: ID,
            total: "100",
            forwarded: json!({ "note": "// no comment, /* here */ ,}" }),
            ..case("untidy", include_str!("../wire/untidy.json"))
        },
        Case {
            content_type: RAW,
            headers: vec![
                (
                    "MT-MessageType",
                    text("urn:message:Shop.Contracts:OrderPlaced;urn:message:Shop.Contracts:IOrderEvent"),
                ),
                ("MessageId", text("7B0E0000-5D2A-0242-9C11-08DD31AA0001")),
                ("ConversationId", text("7b0e0000-5d2a-0242-9c12-08dd31aa0001")),
                ("MT-Source-Address", text("rabbitmq://mq/shop/web-api")),
                ("MT-Host-Info", text(r#"{"machineName":"web1"}"#)),
                ("tenant", text("eu-1")),
            ],
            total: "12345678901234.56",
            forwarded: json!({ "tenant": "eu-1" }),
            ..case("raw", include_str!("../wire/raw.json"))
        },
    ]
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

/// The headers of an envelope without those that every message of a saga has.
fn custom(envelope: &Value) -> Value {
    let headers = envelope["headers"].as_object().unwrap().iter();
    headers.filter(|(name, _)| !name.starts_with("MT-")).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_envelopes_written_by_hand_when_they_are_published_then_each_is_stored_and_its_headers_go_on() {
    for it in by_hand() {
        let (name, shop) = (it.name, Shop::open().await);
        shop.peer.listen("listener", "Shop.Contracts:OrderNoted").await.unwrap();
        let properties = of_type(it.content_type, &it.headers);
        shop.peer.publish("Shop.Contracts:OrderPlaced", "", properties, it.body.as_bytes()).await.unwrap();

        let line = shop.journal(1).await.remove(0);
        assert_eq!(
            (&*line.message_type, line.outcome),
            ("Shop.Contracts:OrderPlaced", JournalOutcome::Moved),
            "{name}"
        );
        assert_eq!(line.message_id, it.message_id.map_or(line.message_id, id), "{name}");
        assert_eq!(line.conversation_id, it.conversation_id.map_or(line.message_id, id), "{name}");
        assert_eq!((line.user.as_deref(), line.attempt), (it.user, it.attempt), "{name}");
        assert_eq!(shop.totals().await, [it.total.parse().unwrap()], "{name}");

        let noted = shop.peer.take("listener").await.unwrap();
        let follows = noted.json();
        assert_eq!(follows["message"], json!({ "orderId": ORDER, "total": it.total }), "{name}");
        assert_eq!(follows["conversationId"], json!(line.conversation_id), "{name}");
        assert_eq!(custom(&follows), it.forwarded, "{name}");
        for (header, value) in it.forwarded.as_object().unwrap() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(noted.header(header), Some(value), "{name}: {header}, beside the envelope");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_trace_when_an_envelope_brings_it_then_what_follows_belongs_to_it() {
    let shop = Shop::open().await;
    shop.peer.listen("listener", "Shop.Contracts:OrderNoted").await.unwrap();
    let full: Value = serde_json::from_str(include_str!("../wire/full.json")).unwrap();
    shop.publish("Shop.Contracts:OrderPlaced", &full).await;
    let noted = shop.peer.take("listener").await.unwrap();
    let parent = noted.header("MT-Activity-Id").unwrap();
    assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-01"), "{parent}");
    assert!(!parent.contains("00f067aa0ba902b7"), "a span of its own: {parent}");
    assert_eq!(noted.json()["headers"]["MT-Activity-Id"], json!(parent));
    assert_eq!(noted.header("MT-Request-AcceptType"), None, "it was said of that message alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_the_same_envelope_twice_when_it_is_published_then_it_is_handled_once_with_an_id_and_without() {
    for body in [include_str!("../wire/full.json"), include_str!("../wire/sparse.json")] {
        let shop = Shop::open().await;
        for _ in 0..2 {
            shop.peer.publish("Shop.Contracts:OrderPlaced", "", enveloped(&[]), body.as_bytes()).await.unwrap();
        }
        let marker =
            json!({ "messageType": ["Shop.Contracts:OrderPaid"], "message": { "orderId": ORDER, "reference": "1" } });
        shop.publish("Shop.Contracts:OrderPaid", &marker).await;
        let types: Vec<_> = shop.journal(2).await.into_iter().map(|line| line.message_type).collect();
        assert_eq!(types, ["Shop.Contracts:OrderPlaced", "Shop.Contracts:OrderPaid"]);
        assert_eq!(shop.totals().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_what_two_libraries_sent_when_it_is_sent_again_then_it_is_stored_as_they_meant_it() {
    for name in ["python-order-placed", "rust-rabbit-queue", "rust-rabbit-options"] {
        let (recording, shop) = (Recording::of(name), Shop::open().await);
        shop.peer.replay(&recording).await.unwrap();
        let line = shop.journal(1).await.remove(0);
        let sent: Value = serde_json::from_str(&recording.body).unwrap();
        assert_eq!(json!(line.message_id), sent["messageId"], "{name}");
        let conversation = sent.get("conversationId").unwrap_or(&sent["messageId"]);
        assert_eq!(&json!(line.conversation_id), conversation, "{name}");
        assert_eq!(line.message.read::<Value>().unwrap(), sent["message"], "{name}");
        assert_eq!(
            (line.outcome, shop.totals().await),
            (JournalOutcome::Moved, vec!["19.9".parse().unwrap()]),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_without_an_envelope_when_it_comes_then_it_is_read_where_one_type_is_handled_alone() {
    let (bare, shop) = (Recording::of("rust-rabbit-bare"), Shop::open().await);
    shop.peer.listen("listener", "Shop.Contracts:OrderStatus").await.unwrap();
    shop.send(AUDIT, bare.basic_properties().unwrap(), bare.body.as_bytes()).await;
    let heard = shop.peer.take("listener").await.unwrap();
    assert_eq!(heard.json()["message"], json!({ "orderId": ORDER, "answer": "audited 19.9" }));
    assert_eq!(heard.header("x-retry-attempt").as_deref(), Some("0"), "their own header goes on");

    shop.peer.replay(&bare).await.unwrap();
    let letter = shop.dead_letters(1).await.remove(0);
    let expected = "the body has no envelope, and order-intake handles 2 types of messages: name the type in the header \
                    MT-MessageType, or send an envelope";
    assert_eq!((&*letter.endpoint, &*letter.reason, letter.error.as_str()), ("order-intake", "undecodable", expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_the_envelope_of_rust_rabbit_itself_when_it_comes_then_it_is_a_dead_letter_with_its_bytes() {
    let (recording, shop) = (Recording::of("rust-rabbit-envelope"), Shop::open().await);
    shop.peer.replay(&recording).await.unwrap();
    shop.send(AUDIT, recording.basic_properties().unwrap(), recording.body.as_bytes()).await;
    for letter in shop.dead_letters(2).await {
        assert_eq!(&*letter.reason, "undecodable");
        match &*letter.endpoint {
            "order-intake" => {
                assert!(letter.error.starts_with("the body has no envelope"), "{}", letter.error);
                assert_eq!(letter.envelope.as_raw().unwrap().bytes, recording.body.as_bytes());
            }
            // One type is handled here, so it is taken for that, and is none.
            AUDIT => {
                let expected = "the body is no Shop.Contracts:OrderPlaced: missing field `orderId`";
                assert!(letter.error.starts_with(expected), "{}", letter.error);
                assert_eq!(letter.envelope.message.as_str(), recording.body);
            }
            other => panic!("{other}"),
        }
    }
}
