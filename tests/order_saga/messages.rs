use std::fmt::Debug;

use order_saga::*;
use saga_core::Message;
use serde_json::{Value, json};

use crate::fixture::{at, id, item, money};

/// The name and the JSON are stored and sent: neither may change.
fn pinned<M: Message + PartialEq + Debug>(message: &M, name: &str, expected: &Value) {
    assert_eq!(M::NAME, name);
    assert_eq!(&serde_json::to_value(message).unwrap(), expected, "{name}");
    assert_eq!(&serde_json::from_value::<M>(expected.clone()).unwrap(), message, "{name}");
}

const ORDER: &str = "00000000-0000-0000-0000-000000000007";

#[test]
fn every_message_has_the_name_and_the_json_that_are_stored_and_sent() {
    let (order_id, user_id) = (id(7), "ann".to_owned());
    let (total, reference) = (money("99.80"), "charge-1".to_owned());
    let (amount, error) = (total, "gateway away".to_owned());
    pinned(
        &OrderSubmitted {
            order_id,
            user_id: user_id.clone(),
            items: vec![item("tea", 2, "49.90")],
            total,
            fingerprint: "f".to_owned(),
        },
        "Orders:OrderSubmitted",
        &json!({"orderId": ORDER, "userId": "ann", "items": [{"productId": "tea", "quantity": 2, "price": "49.90"}],
            "total": "99.80", "fingerprint": "f"}),
    );
    pinned(
        &OrderCreated { order_id, user_id: user_id.clone(), total },
        "Orders:OrderCreated",
        &json!({"orderId": ORDER, "userId": "ann", "total": "99.80"}),
    );
    pinned(
        &ProcessPayment { order_id, amount },
        "Orders:ProcessPayment",
        &json!({"orderId": ORDER, "amount": "99.80"}),
    );
    pinned(
        &PaymentApproved { order_id, amount, reference: reference.clone() },
        "Orders:PaymentApproved",
        &json!({"orderId": ORDER, "amount": "99.80", "reference": "charge-1"}),
    );
    pinned(
        &PaymentDeclined { order_id, reason: "no funds".to_owned() },
        "Orders:PaymentDeclined",
        &json!({"orderId": ORDER, "reason": "no funds"}),
    );
    pinned(
        &PaymentFailed { order_id, error: error.clone() },
        "Orders:PaymentFailed",
        &json!({"orderId": ORDER, "error": "gateway away"}),
    );
    pinned(
        &OrderOverdue { order_id, since: at(0) },
        "Orders:OrderOverdue",
        &json!({"orderId": ORDER, "since": "2026-01-01T12:00:00Z"}),
    );
    pinned(
        &OrderCompleted { order_id, user_id: user_id.clone(), total },
        "Orders:OrderCompleted",
        &json!({"orderId": ORDER, "userId": "ann", "total": "99.80"}),
    );
    pinned(
        &OrderExpired { order_id, user_id, total, since: at(0) },
        "Orders:OrderExpired",
        &json!({"orderId": ORDER, "userId": "ann", "total": "99.80", "since": "2026-01-01T12:00:00Z"}),
    );
    pinned(
        &RefundPayment { order_id, amount, reference },
        "Orders:RefundPayment",
        &json!({"orderId": ORDER, "amount": "99.80", "reference": "charge-1"}),
    );
    pinned(
        &PaymentRefunded { order_id, amount },
        "Orders:PaymentRefunded",
        &json!({"orderId": ORDER, "amount": "99.80"}),
    );
    pinned(
        &RefundFailed { order_id, error },
        "Orders:RefundFailed",
        &json!({"orderId": ORDER, "error": "gateway away"}),
    );
}

#[test]
fn given_money_in_any_spelling_when_it_is_read_then_it_is_exact() {
    for (written, amount) in [
        (r#""19.90""#, "19.90"),
        ("19.90", "19.90"),
        ("1e2", "100"),
        ("7", "7"),
        ("0.07", "0.07"),
        ("9999999999.99", "9999999999.99"),
        ("4503599627370.49", "4503599627370.49"),
    ] {
        let json = format!(r#"{{"orderId":"{ORDER}","amount":{written}}}"#);
        assert_eq!(serde_json::from_str::<ProcessPayment>(&json).unwrap().amount, money(amount), "{written}");
    }
}

#[test]
fn given_a_message_as_dotnet_may_write_it_when_it_is_read_leniently_then_it_is_the_same() {
    let json = format!(
        r#"{{"OrderId":"{ORDER}","UserId":"ann","Items":[{{"ProductId":"tea","Quantity":2,"Price":49.90}}],
            "Total":99.80,"Fingerprint":"f"}}"#
    );
    let order: OrderSubmitted = saga_core::Body::from_json(json).unwrap().read_leniently().unwrap();
    let (order_id, user_id, total) = (id(7), "ann".to_owned(), money("99.80"));
    let expected =
        OrderSubmitted { order_id, user_id, items: vec![item("tea", 2, "49.90")], total, fingerprint: "f".to_owned() };
    assert_eq!(order, expected);
}

/// A submission as another service writes it, with something changed.
fn submitted(change: impl FnOnce(&mut Value)) -> Result<OrderSubmitted, String> {
    let mut json = json!({"orderId": ORDER, "userId": "ann", "total": 109.8, "items": [
        {"productId": "tea", "quantity": 2, "price": "49.9000"}, {"productId": "cup", "quantity": 1, "price": 10}]});
    change(&mut json);
    serde_json::from_value(json).map_err(|error| error.to_string())
}

#[test]
fn given_a_submission_without_a_fingerprint_when_it_is_read_then_it_is_that_of_the_same_order_over_rest() {
    let ordered = |product: &str, quantity, price: &str| NewItem {
        product_id: product.to_owned(),
        quantity,
        price: price.to_owned(),
    };
    let order = NewOrder { items: vec![ordered("tea", 2, "49.9"), ordered("cup", 1, "10.00")] };
    let expected = order.check().unwrap().submission(id(7), "ann");
    for absent in [None, Some(Value::Null), Some(json!(""))] {
        let read = submitted(|it| {
            it.as_object_mut().unwrap().extend(absent.map(|absent| ("fingerprint".to_owned(), absent)));
        });
        assert_eq!(read.as_ref(), Ok(&expected));
    }
    let total = expected.total.to_string();
    assert_eq!((&*total, expected.items[0].price.to_string().as_str()), ("109.80", "49.90"), "as they are stored");
    assert_eq!(submitted(|it| it["fingerprint"] = json!("f")).unwrap().fingerprint, "f");
}

#[test]
fn given_a_submission_that_is_wrong_when_it_is_read_then_it_is_none_and_it_is_said_what_is_wrong() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 16] = [
        (|it| it["orderId"] = json!("00000000-0000-0000-0000-000000000000"), "orderId: is an id of zeros"),
        (|it| it["userId"] = json!(""), "userId: is empty"),
        (|it| it["userId"] = json!("a".repeat(201)), "userId: has 201 characters; at most 200 are allowed"),
        (|it| it["userId"] = json!("a\u{0}b"), "userId: has a control character"),
        (|it| it["fingerprint"] = json!("f".repeat(65)), "fingerprint: has 65 characters; at most 64 are allowed"),
        (|it| it["items"] = json!([]), "items: is empty; at least one item is expected"),
        (|it| it["items"][1]["quantity"] = json!(-1), "items[1].quantity: is -1; 1 to 10000 is expected"),
        (|it| it["items"][1]["quantity"] = json!(0), "items[1].quantity: is 0; 1 to 10000 is expected"),
        (|it| it["items"][0]["price"] = json!("49.905"), "items[0].price: has 3 decimals; at most 2 are allowed"),
        (|it| it["items"][0]["price"] = json!(-0.01), "items[0].price: is negative"),
        (|it| it["items"][0]["productId"] = json!(" "), "items[0].productId: is empty"),
        (|it| it["total"] = json!("109.81"), "total: is 109.81, and its items cost 109.80"),
        (|it| it["total"] = json!(-109.8), "total: is -109.8, and its items cost 109.80"),
        (
            |it| (it["userId"], it["total"]) = (json!(""), json!(1)),
            "userId: is empty; total: is 1, and its items cost 109.80",
        ),
        (
            |it| {
                it["items"] = json!([{"productId": "", "quantity": 0, "price": -1}, {"productId": "", "quantity": 0, "price": -1}])
            },
            "items[0].productId: is empty; items[0].quantity: is 0; 1 to 10000 is expected; items[0].price: is negative; and 3 more",
        ),
        (|it| drop(it.as_object_mut().unwrap().remove("total")), "missing field `total`"),
    ];
    for (change, expected) in cases {
        assert_eq!(submitted(change).unwrap_err(), expected);
    }
}

#[test]
fn the_endpoints_have_the_names_that_are_declared_on_the_bus() {
    assert_eq!([ORDER_SAGA, ORDER_PAYMENT, ORDER_NOTIFIER], ["order-saga", "order-payment", "order-notifier"]);
}
