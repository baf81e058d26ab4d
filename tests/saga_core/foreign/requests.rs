//! Requests from foreign services, answered; and ours, answered by one.

use std::time::Duration;

use saga_core::{Request, RequestError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::shop::{CheckOrder, DESK, ORDER, OrderStatus, Shop, enveloped};

/// The endpoint of the requester's bus, as MassTransit names one.
const BUS: &str = "web1_shopweb_bus_yyyoyyd9xkkbgyhnbdpn1k6d";

/// A request as MassTransit's client sends it.
fn request(shop: &Shop, message_type: &str, message: &Value) -> Value {
    let client = Uuid::from_u128(0x7b0e_0000_5d2a_0242_9c11_08dd_31aa_0010);
    json!({
        "messageId": Uuid::from_u128(1), "requestId": Uuid::from_u128(2), "correlationId": null,
        "conversationId": Uuid::from_u128(3), "initiatorId": null,
        "sourceAddress": shop.address(&format!("{BUS}?temporary=true")),
        "destinationAddress": shop.address(&format!("Shop.Contracts:{message_type}")),
        "responseAddress": shop.address(&format!("{BUS}?temporary=true")),
        "faultAddress": null,
        "messageType": [format!("urn:message:Shop.Contracts:{message_type}")],
        "message": message,
        "expirationTime": "2100-01-01T00:00:00Z", "sentTime": "2026-03-01T09:15:00.1234567Z",
        "headers": {
            "MT-Request-AcceptType": ["urn:message:Shop.Contracts:OrderStatus", "urn:message:Shop.Contracts:CardCharged"],
            "MT-Request-ClientId": client, "tenant": "eu-1",
        },
        "host": { "machineName": "web1", "processName": "ShopWeb", "processId": 17, "massTransitVersion": "8.5.2.0" },
    })
}

/// What every answer has, the fault too.
#[track_caller]
fn assert_answers(shop: &Shop, answer: &Value, from: &str) {
    assert_eq!(answer["requestId"], json!(Uuid::from_u128(2)));
    assert_eq!(answer["conversationId"], json!(Uuid::from_u128(3)));
    assert_eq!(
        answer["initiatorId"],
        json!(Uuid::from_u128(2)),
        "a request without a correlation id is named by its own"
    );
    assert_eq!(answer["destinationAddress"], json!(shop.address(&format!("{BUS}?temporary=true"))));
    assert_eq!(answer["sourceAddress"], json!(shop.address(from)));
    assert_eq!(answer["headers"], json!({ "tenant": "eu-1" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_foreign_request_when_a_consumer_or_an_activity_handles_it_then_the_answer_is_in_the_requesters_queue()
{
    let shop = Shop::open().await;
    shop.peer.bus_endpoint(BUS).await.unwrap();
    let question = json!({ "orderId": ORDER, "question": "where is it?" });
    shop.publish("Shop.Contracts:CheckOrder", &request(&shop, "CheckOrder", &question)).await;
    let answer = shop.peer.take(BUS).await.unwrap();
    assert_answers(&shop, &answer.json(), DESK);
    assert_eq!(answer.json()["messageType"], json!(["urn:message:Shop.Contracts:OrderStatus"]));
    assert_eq!(answer.json()["message"], json!({ "orderId": ORDER, "answer": "on its way" }));
    assert_eq!(answer.properties.content_type().map(String::as_str), Some("application/vnd.masstransit+json"));

    // A command goes to the exchange of its endpoint.
    let charge = request(&shop, "ChargeCard", &json!({ "orderId": ORDER, "amount": 19.9 }));
    shop.publish("order-charge", &charge).await;
    let answer = shop.peer.take(BUS).await.unwrap().json();
    assert_answers(&shop, &answer, "order-charge");
    assert_eq!(answer["message"], json!({ "orderId": ORDER, "amount": "19.9" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_foreign_request_when_it_fails_for_good_then_the_fault_is_in_the_requesters_queue() {
    let shop = Shop::open().await;
    shop.peer.bus_endpoint(BUS).await.unwrap();
    let question = json!({ "orderId": ORDER, "question": "why?" });
    shop.publish("Shop.Contracts:CheckOrder", &request(&shop, "CheckOrder", &question)).await;
    let fault = shop.peer.take(BUS).await.unwrap().json();
    assert_answers(&shop, &fault, DESK);
    assert_eq!(fault["messageType"][0], "urn:message:MassTransit:Fault[[Shop.Contracts:CheckOrder]]");
    assert_eq!(fault["message"]["message"], question);
    assert_eq!(fault["message"]["exceptions"][0]["message"], "nobody knows an answer to `why?`");

    // An activity has a failure message of its own besides, for sagas.
    let charge = request(&shop, "ChargeCard", &json!({ "orderId": ORDER, "amount": "-1" }));
    shop.publish("order-charge", &charge).await;
    let mut types = Vec::new();
    for _ in 0..2 {
        let answer = shop.peer.take(BUS).await.unwrap().json();
        assert_answers(&shop, &answer, "order-charge");
        types.push(answer["messageType"][0].as_str().unwrap().to_owned());
    }
    types.sort_unstable();
    let expected =
        ["urn:message:MassTransit:Fault[[Shop.Contracts:ChargeCard]]", "urn:message:Shop.Contracts:ChargeFailed"];
    assert_eq!(types, expected);
}

/// Asks the foreign desk, which answers with what `answer` makes of the request's envelope.
async fn ask(answer: impl FnOnce(&Value) -> (Value, Value)) -> Result<OrderStatus, RequestError> {
    let shop = Shop::open().await;
    shop.peer.endpoint("foreign-desk").await.unwrap();
    let question = CheckOrder { order_id: ORDER, question: "where is it?".to_owned() };
    let request = Request::<OrderStatus>::new(Uuid::from_u128(9), &question).to("foreign-desk").for_user("ada");
    let client = shop.client.clone();
    let asking = tokio::spawn(async move { client.request(request.timeout(Duration::from_secs(60))).await });

    let asked = shop.peer.take("foreign-desk").await.unwrap();
    let envelope = asked.json();
    assert_eq!(envelope["messageType"], json!(["urn:message:Shop.Contracts:CheckOrder"]));
    assert_eq!(envelope["headers"]["MT-Request-AcceptType"], json!(["urn:message:Shop.Contracts:OrderStatus"]));
    assert_eq!(asked.header("MT-Request-AcceptType"), None, "an array is in the envelope alone");
    assert_eq!(envelope["message"], json!(question));
    let address = envelope["responseAddress"].as_str().unwrap();
    let name = address.strip_prefix(&shop.address("")).and_then(|it| it.strip_suffix("?temporary=true")).unwrap();

    // MassTransit declares where it answers, by what the address says, and publishes to that exchange.
    shop.peer.temporary_exchange(name).await.unwrap();
    let (message_type, message) = answer(&envelope);
    let answer = json!({
        "messageId": Uuid::from_u128(10), "requestId": envelope["requestId"],
        "conversationId": envelope["conversationId"], "initiatorId": envelope["requestId"],
        "sourceAddress": shop.address("foreign-desk"), "destinationAddress": address,
        "messageType": message_type, "message": message, "headers": {},
    });
    shop.peer.publish(name, "", enveloped(&[]), answer.to_string().as_bytes()).await.unwrap();
    asking.await.unwrap().map(|response| {
        assert_eq!(response.envelope.request_id.map(|it| json!(it)), Some(envelope["requestId"].clone()));
        assert_eq!(response.envelope.conversation_id, Some(Uuid::from_u128(9)));
        response.message
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_foreign_service_that_answers_when_it_is_asked_then_the_caller_has_its_answer() {
    let types = json!(["urn:message:Shop.Contracts:OrderStatus", "urn:message:Shop.Contracts:IAnswer"]);
    let answered = ask(|_| (types, json!({ "OrderId": ORDER, "Answer": "in Ghent" }))).await.unwrap();
    assert_eq!(answered, OrderStatus { order_id: ORDER, answer: "in Ghent".to_owned() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_foreign_service_that_fails_when_it_is_asked_then_the_caller_has_its_fault() {
    let types = json!(["urn:message:MassTransit:Fault[[Shop.Contracts:CheckOrder]]", "urn:message:MassTransit:Fault"]);
    let failed = ask(|request| {
        let exception = json!({
            "exceptionType": "Shop.LedgerDown", "innerException": null, "stackTrace": "   at Shop.Desk.Consume()",
            "message": "the ledger is down", "source": "Shop", "data": { "attempts": 3 },
        });
        let fault = json!({
            "faultId": Uuid::from_u128(11), "faultedMessageId": request["messageId"], "timestamp": "2026-03-01T09:15:02Z",
            "exceptions": [exception], "host": { "machineName": "w2", "processId": 9 },
            "faultMessageTypes": request["messageType"], "message": request["message"],
        });
        (types, fault)
    });
    match failed.await {
        Err(RequestError::Fault(fault)) => {
            assert_eq!((fault.reason(), fault.faulted_message_id), ("the ledger is down", Some(Uuid::from_u128(9))));
            assert_eq!(fault.message.read::<CheckOrder>().unwrap().question, "where is it?");
        }
        other => panic!("a fault was expected: {other:?}"),
    }
}
