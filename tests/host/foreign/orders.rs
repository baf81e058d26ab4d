//! An order that a foreign service submits, from its envelope to what the service hears of it.

use order_saga::submission_id;
use serde_json::{Value, json};
use test_foreign::Recording;
use uuid::Uuid;

use super::{Market, ORDER, SUBMITTED, envelope, tea};
use crate::support::{approved, assert_problem, small};

fn moved(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "moved".to_owned())).collect()
}

async fn a_foreign_order_is_completed_and_the_service_hears_of_it(market: Market) {
    market.peer.listen("their-queue", "Orders:OrderCompleted").await.unwrap();
    market.submit(&envelope(7, tea(ORDER))).await;
    market.host.until_notified(&json!(ORDER), "completed").await;
    assert_eq!(market.history(ORDER).await, moved(&["OrderSubmitted", "OrderCreated", "PaymentApproved"]));

    let came = market.peer.take("their-queue").await.unwrap();
    let completed = came.json();
    assert_eq!(came.exchange, "Orders:OrderCompleted");
    assert_eq!(came.properties.content_type().map(String::as_str), Some("application/vnd.masstransit+json"));
    assert_eq!(completed["messageType"], json!(["urn:message:Orders:OrderCompleted"]));
    assert_eq!(completed["message"], json!({ "orderId": ORDER, "userId": "local", "total": "99.80" }));
    assert_eq!(completed["conversationId"], json!(Uuid::from_u128(7 << 64)), "the conversation that they began");
    assert_eq!((&completed["correlationId"], &completed["initiatorId"]), (&json!(ORDER), &json!(ORDER)));
    assert_eq!(completed["sourceAddress"], json!(market.address("order-saga")));
    assert_eq!(completed["host"]["assembly"], "saga-host");
    assert_eq!((&completed["headers"]["tenant"], came.header("tenant")), (&json!("eu-1"), Some("eu-1".to_owned())));

    let order = market.get(&format!("/api/orders/{ORDER}")).await;
    assert_eq!((&order["total"], &order["items"]), (&json!("99.80"), &tea(ORDER)["items"]));
    let told = market.get(&format!("/api/orders/{ORDER}/notifications")).await;
    let told = told["items"].as_array().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["conversationId"], completed["conversationId"]);
    assert_eq!(told[0]["messageId"], completed["messageId"], "they heard what the notifier has heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_sqlite_when_a_foreign_service_orders_then_the_order_is_completed_and_it_hears_of_it() {
    a_foreign_order_is_completed_and_the_service_hears_of_it(Market::open([approved()]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_postgres_when_a_foreign_service_orders_then_the_order_is_completed_and_it_hears_of_it() {
    a_foreign_order_is_completed_and_the_service_hears_of_it(Market::on_postgres([approved()]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_what_two_libraries_sent_when_it_is_sent_again_then_each_order_is_completed() {
    for name in ["python-order-submitted", "rust-rabbit-order-submitted"] {
        let (recording, market) = (Recording::of(name), Market::open([approved()]).await);
        // rust-rabbit knows exchanges of type topic alone: one of its own passes on to ours.
        market.peer.pass_on("rust-rabbit-orders", SUBMITTED).await.unwrap();
        market.peer.replay(&recording).await.unwrap();
        market.host.until_notified(&json!(ORDER), "completed").await;
        let order = market.get(&format!("/api/orders/{ORDER}")).await;
        assert_eq!((&order["total"], &order["items"]), (&json!("99.80"), &tea(ORDER)["items"]), "{name}");
        let sent: Value = serde_json::from_str(&recording.body).unwrap();
        let told = market.get(&format!("/api/orders/{ORDER}/notifications")).await;
        let conversation = sent.get("conversationId").unwrap_or(&sent["messageId"]);
        assert_eq!(&told["items"][0]["conversationId"], conversation, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_order_when_it_is_submitted_again_under_its_id_then_it_stays_as_it_is() {
    let market = Market::open([approved()]).await;
    market.submit(&envelope(7, tea(ORDER))).await;
    market.host.until_notified(&json!(ORDER), "completed").await;
    let before = market.get(&format!("/api/orders/{ORDER}")).await;

    market.submit(&envelope(7, tea(ORDER))).await;
    let mut other = tea(ORDER);
    (other["items"][0]["quantity"], other["total"]) = (json!(1), json!("49.90"));
    market.submit(&envelope(8, other)).await;
    let mut history = moved(&["OrderSubmitted", "OrderCreated", "PaymentApproved"]);
    history.push(("OrderSubmitted".to_owned(), "ignored".to_owned()));
    assert_eq!(market.until_history(ORDER, 4).await, history, "the one, delivered twice, left no line");
    assert_eq!(market.get(&format!("/api/orders/{ORDER}")).await, before);
    assert_eq!(market.host.gateway.charge_calls().len(), 1);
    assert_eq!(market.get("/api/dead-letters").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_foreign_order_under_the_id_of_a_key_when_the_key_is_used_over_rest_then_it_means_that_order() {
    let market = Market::open([approved()]).await;
    let mut submitted = envelope(7, tea(ORDER));
    submitted["messageId"] = json!(submission_id("local", "tea-1"));
    market.submit(&submitted).await;
    market.host.until_notified(&json!(ORDER), "completed").await;

    let (keyed, rest) = ([("Idempotency-Key", "tea-1")], &market.host.rest);
    let again = rest.post("/api/orders", &small().to_string(), &keyed).await.unwrap();
    assert_eq!((again.status, &again.json::<Value>().unwrap()["id"]), (200, &json!(ORDER)));
    let other = json!({ "items": [{ "productId": "salt", "quantity": 1, "price": "1" }] });
    let other = rest.post("/api/orders", &other.to_string(), &keyed).await.unwrap();
    assert_problem(&other, 422, "idempotency-key-reused");
}
