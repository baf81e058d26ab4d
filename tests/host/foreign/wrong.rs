//! What a foreign service gets wrong: a dead letter that says what, a fault for whoever sent it, and no order.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Market, envelope, tea};
use crate::support::approved;

type Spoil = fn(&mut Value);

/// What is wrong with an order, and what is said of it.
const WRONG: [(Spoil, &str); 12] = [
    (|it| it["items"] = json!([]), "items: is empty; at least one item is expected"),
    (|it| it["total"] = json!("99.81"), "total: is 99.81, and its items cost 99.80"),
    (|it| it["total"] = json!(99.8 + 1e-9), "total: is 99.800000001, and its items cost 99.80"),
    (|it| it["items"][0]["quantity"] = json!(-2), "items[0].quantity: is -2; 1 to 10000 is expected"),
    (|it| it["items"][0]["price"] = json!("49.905"), "items[0].price: has 3 decimals; at most 2 are allowed"),
    (|it| it["items"][0]["price"] = json!(-49.9), "items[0].price: is negative"),
    (|it| it["items"][0]["productId"] = json!("te\u{0}a"), "items[0].productId: has a control character"),
    (|it| it["userId"] = json!(""), "userId: is empty"),
    (|it| it["orderId"] = json!(Uuid::nil()), "orderId: is an id of zeros"),
    (|it| drop(it.as_object_mut().unwrap().remove("userId")), "missing field `userId`"),
    (|it| it["total"] = json!("much"), "invalid value: string \"much\""),
    (
        |it| *it = json!({ "OrderId": it["orderId"], "UserId": "local", "Items": it["items"], "Total": 1 }),
        "total: is 1, and its items cost 99.80",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_order_that_is_wrong_when_it_is_submitted_then_it_is_a_dead_letter_and_a_fault_and_no_order() {
    a_wrong_order_is_a_dead_letter_and_a_fault_and_no_order(Market::open([approved()]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_postgres_when_an_order_is_wrong_then_it_is_a_dead_letter_and_a_fault_and_no_order() {
    a_wrong_order_is_a_dead_letter_and_a_fault_and_no_order(Market::on_postgres([approved()]).await).await;
}

async fn a_wrong_order_is_a_dead_letter_and_a_fault_and_no_order(market: Market) {
    market.peer.endpoint("complaints").await.unwrap();
    for (number, (spoil, expected)) in (1..).zip(WRONG) {
        let (id, mut message) = (Uuid::from_u128(number << 96), tea(Uuid::from_u128(number << 96)));
        spoil(&mut message);
        let mut envelope = envelope(number, message.clone());
        envelope["faultAddress"] = json!(market.address("complaints"));
        market.submit(&envelope).await;

        let fault = market.peer.take("complaints").await.unwrap().json();
        assert_eq!(fault["messageType"][0], "urn:message:MassTransit:Fault[[Orders:OrderSubmitted]]", "{expected}");
        assert_eq!(
            (&fault["message"]["faultedMessageId"], &fault["message"]["message"]),
            (&envelope["messageId"], &message)
        );
        let said = fault["message"]["exceptions"][0]["message"].as_str().unwrap();
        assert!(said.starts_with(&format!("the body is no Orders:OrderSubmitted: {expected}")), "{said}");

        let letter = market.get("/api/dead-letters?limit=1").await["items"][0].clone();
        assert_eq!((&letter["messageId"], &letter["error"]), (&envelope["messageId"], &json!(said)));
        assert_eq!(
            (&letter["endpoint"], &letter["reason"]),
            (&json!("order-saga"), &json!("undecodable")),
            "{expected}"
        );
        assert_eq!(letter["attempts"], 1, "it does not get better by trying");
        assert_eq!(market.host.rest.get(&format!("/api/orders/{id}")).await.unwrap().status, 404, "{expected}");
    }
    assert_eq!(market.get("/api/orders").await["items"], json!([]));
    assert!(market.host.gateway.charge_calls().is_empty());

    // Who mends it may send it again under the id that it had.
    let id = Uuid::from_u128(1 << 96);
    let letters = market.get("/api/dead-letters").await["items"].as_array().unwrap().len();
    market.submit(&envelope(1_000, tea(id))).await;
    market.host.until_notified(&json!(id), "completed").await;
    assert_eq!(market.get("/api/dead-letters").await["items"].as_array().unwrap().len(), letters);
}
