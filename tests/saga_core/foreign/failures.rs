//! What nobody handles, can decode or accepts: where it goes, and who is told.

use amqprs::FieldValue;
use saga_core::Roles;
use serde_json::{Value, json};
use test_foreign::Received;
use uuid::Uuid;

use super::shop::{ORDER, Shop, enveloped, of_type, text};

const ID: Uuid = Uuid::from_u128(0x7b0e_0000_5d2a_0242_9c11_08dd_31aa_0009);

/// An order that is paid and was never placed, which the saga rejects.
fn paid(more: &Value) -> Value {
    let mut envelope = json!({
        "messageId": ID, "conversationId": Uuid::from_u128(5),
        "messageType": ["urn:message:Shop.Contracts:OrderPaid", "urn:message:Shop.Contracts:IOrderEvent"],
        "message": { "orderId": ORDER, "reference": "r1" },
        "headers": { "tenant": "eu-1" },
    });
    envelope.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    envelope
}

/// The fault of what [`paid`] makes, in MassTransit's shape.
#[track_caller]
fn assert_fault(received: &Received) -> Value {
    let fault = received.json();
    let types = [
        "urn:message:MassTransit:Fault[[Shop.Contracts:OrderPaid]]",
        "urn:message:MassTransit:Fault[[Shop.Contracts:IOrderEvent]]",
        "urn:message:MassTransit:Fault",
    ];
    assert_eq!(fault["messageType"], json!(types));
    assert_eq!(
        (&fault["conversationId"], &fault["headers"]),
        (&json!(Uuid::from_u128(5)), &json!({ "tenant": "eu-1" }))
    );
    let message = &fault["message"];
    assert_eq!(message["faultedMessageId"], json!(ID));
    assert_eq!(message["message"], json!({ "orderId": ORDER, "reference": "r1" }));
    let exception = &message["exceptions"][0];
    assert_eq!(
        (&exception["exceptionType"], &exception["message"]),
        (&json!("rejected"), &json!("nothing was ordered"))
    );
    assert_eq!(message["host"]["processId"], std::process::id());
    fault
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_that_fails_when_it_names_addresses_then_the_fault_goes_to_the_first_of_them() {
    let shop = Shop::open().await;
    shop.peer.endpoint("complaints").await.unwrap();
    shop.peer.bus_endpoint("web1_bus_yyyoyyd9xkkbgyhnbdpn").await.unwrap();
    let requester = shop.address("web1_bus_yyyoyyd9xkkbgyhnbdpn?temporary=true");
    let asked = json!({ "responseAddress": requester, "requestId": Uuid::from_u128(6) });
    let mut complained = asked.clone();
    complained["faultAddress"] = json!(shop.address("complaints"));

    shop.publish("Shop.Contracts:OrderPaid", &paid(&complained)).await;
    let fault = assert_fault(&shop.peer.take("complaints").await.unwrap());
    assert_eq!((&fault["requestId"], &fault["destinationAddress"]), (&asked["requestId"], &complained["faultAddress"]));
    assert!(shop.peer.look("web1_bus_yyyoyyd9xkkbgyhnbdpn").await.unwrap().is_none(), "one is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_request_that_fails_when_it_names_no_fault_address_then_the_requester_gets_the_fault() {
    let shop = Shop::open().await;
    shop.peer.bus_endpoint("web1_bus").await.unwrap();
    let asked = json!({ "responseAddress": shop.address("web1_bus?temporary=true"), "requestId": Uuid::from_u128(6) });
    shop.publish("Shop.Contracts:OrderPaid", &paid(&asked)).await;
    let fault = assert_fault(&shop.peer.take("web1_bus").await.unwrap());
    assert_eq!((&fault["requestId"], &fault["destinationAddress"]), (&asked["requestId"], &asked["responseAddress"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_that_fails_when_it_names_nobody_then_its_fault_is_published_as_each_of_its_types() {
    let shop = Shop::open().await;
    let exchanges = [
        "MassTransit:Fault--Shop.Contracts:OrderPaid--",
        "MassTransit:Fault--Shop.Contracts:IOrderEvent--",
        "MassTransit:Fault",
    ];
    for (queue, exchange) in ["concrete", "base", "any"].into_iter().zip(exchanges) {
        shop.peer.listen(queue, exchange).await.unwrap();
    }
    shop.publish("Shop.Contracts:OrderPaid", &paid(&json!({}))).await;
    for queue in ["concrete", "base", "any"] {
        let fault = shop.peer.take(queue).await.unwrap();
        assert_fault(&fault);
        assert_eq!(fault.exchange, exchanges[0], "the others are bound to it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_fault_address_that_is_an_exchange_of_no_queue_when_a_message_fails_then_the_fault_goes_there() {
    let shop = Shop::open().await;
    shop.peer.listen("night-watch", "order-faults").await.unwrap();
    let address = json!({ "faultAddress": shop.address("order-faults") });
    shop.publish("Shop.Contracts:OrderPaid", &paid(&address)).await;
    let fault = shop.peer.take("night-watch").await.unwrap();
    assert_fault(&fault);
    assert_eq!((&*fault.exchange, &*fault.routing_key), ("order-faults", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_fault_address_where_nobody_is_when_a_message_fails_then_its_fault_is_a_dead_letter_too() {
    let shop = Shop::open().await;
    shop.peer.exchange("deserted").await.unwrap();
    for (name, id, why) in [
        ("nowhere", 1, "there is no queue for nowhere at the broker, nor an exchange that passes on to one: "),
        ("deserted", 2, "there is no queue for deserted at the broker, nor an exchange that passes on to one: "),
    ] {
        let failing = json!({ "faultAddress": shop.address(name), "messageId": Uuid::from_u128(id) });
        shop.publish("Shop.Contracts:OrderPaid", &paid(&failing)).await;
        let letters = shop.dead_letters(2 * id as usize).await;
        let fault = letters.iter().find(|it| it.error.starts_with(why)).unwrap_or_else(|| panic!("{letters:?}"));
        assert_eq!(
            (&*fault.reason, fault.envelope.name()),
            ("unroutable", "MassTransit:Fault[[Shop.Contracts:OrderPaid]]")
        );
    }
    // Whoever asked from a temporary address and has gone waits for no fault; the message itself is kept.
    let failing = json!({ "faultAddress": shop.address("gone?temporary=true"), "messageId": Uuid::from_u128(3) });
    shop.publish("Shop.Contracts:OrderPaid", &paid(&failing)).await;
    let letters = shop.dead_letters(5).await;
    assert!(letters.iter().any(|it| it.envelope.message_id == Uuid::from_u128(3)), "{letters:?}");
    assert!(letters.iter().all(|it| !it.error.contains("gone")), "{letters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_type_that_nobody_handles_when_it_comes_then_it_moves_to_the_skipped_queue_as_it_came() {
    let shop = Shop::open().await;
    let body = br#"{ "messageType": ["urn:message:Shop.Contracts:OrderMoved"], "message": {"to" : "Ghent",} }"#;
    let mut properties =
        enveloped(&[("tenant", text("eu-1")), ("tier", FieldValue::I(2)), ("beta", FieldValue::t(true))]);
    properties.with_message_id("m-1").with_correlation_id("c-1").with_priority(4).with_timestamp(1_800_000_000);
    properties.with_app_id("shop").with_message_type("moved");
    shop.send("order-intake", properties.clone(), body).await;
    // The queue is there from the first message on that it is needed for.
    let skipped = shop.until(async || shop_look(&shop).await).await;
    assert_eq!(skipped.body, body);
    assert_eq!(
        ["tenant", "tier", "beta", "MT-Reason", "MT-Host-ProcessId"].map(|name| skipped.header(name).unwrap()),
        ["eu-1", "2", "true", "dead-letter", &std::process::id().to_string()]
    );
    let before = [properties.message_id(), properties.correlation_id(), properties.app_id(), properties.content_type()];
    let it = &skipped.properties;
    assert_eq!([it.message_id(), it.correlation_id(), it.app_id(), it.content_type()], before);
    assert_eq!(
        (it.priority(), it.timestamp(), it.message_type()),
        (Some(4), Some(1_800_000_000), Some(&"moved".to_owned()))
    );
}

/// Looks into the skipped queue by a channel of its own: one is closed over a queue that is not there.
async fn shop_look(shop: &Shop) -> Option<Received> {
    let peer = test_foreign::Peer::at(&shop.url).await.ok()?;
    peer.look("order-intake_skipped").await.ok()?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_what_nobody_can_decode_when_it_comes_and_is_redriven_then_its_bytes_are_as_they_came() {
    let shop = Shop::open().await;
    shop.peer.listen("watch", "MassTransit:ReceiveFault").await.unwrap();
    let all: Vec<u8> = (0..=255).collect();
    let bodies = [&all[..], br#"{"messageType":["Shop.Contracts:OrderPlaced"],"message":{"orderId":"#, b""];
    for (index, body) in bodies.into_iter().enumerate() {
        let id = format!("0000000{index}-0000-0000-0000-000000000000");
        let mut properties =
            of_type(Some("application/vnd.masstransit+json; charset=utf-8"), &[("tenant", text("eu-1"))]);
        properties.with_message_id(&id);
        shop.send("order-intake", properties.finish(), body).await;
        let fault = shop.peer.take("watch").await.unwrap().json();
        assert_eq!(fault["message"]["faultedMessageId"], json!(id));
        assert_eq!(fault["message"]["contentType"], "application/vnd.masstransit+json; charset=utf-8");
    }
    let letters = shop.dead_letters(bodies.len()).await;
    // What it sends, nobody takes.
    let shop = shop.open_again(Roles { sagas: false, handlers: false, relay: true }).await;
    for letter in letters {
        assert_eq!((&*letter.endpoint, &*letter.reason, letter.attempts), ("order-intake", "undecodable", 1));
        shop.client.redrive(letter.id).await.unwrap();
        let again = shop.peer.take("order-intake").await.unwrap();
        let id = again.properties.message_id().unwrap();
        let index: usize = id[..8].parse().unwrap();
        assert_eq!(again.body, bodies[index]);
        let content_type = again.properties.content_type().map(String::as_str);
        assert_eq!(content_type, Some("application/vnd.masstransit+json; charset=utf-8"));
        let headers = [again.header("tenant"), again.header("MT-Redrive-Count")];
        assert_eq!(headers.map(Option::unwrap), ["eu-1", "1"]);
    }
}
