use order_saga::*;
use rust_decimal::Decimal;

use crate::fixture::{id, item, money};

fn new_item(product: &str, quantity: i64, price: &str) -> NewItem {
    NewItem { product_id: product.to_owned(), quantity, price: price.to_owned() }
}

fn order(items: Vec<NewItem>) -> NewOrder {
    NewOrder { items }
}

fn paths(order: &NewOrder) -> Vec<String> {
    order.check().unwrap_err().into_iter().map(|error| error.path).collect()
}

/// What is said of an item's only wrong field.
fn wrong(item: NewItem) -> String {
    let errors = order(vec![item]).check().unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn given_a_good_order_when_checked_then_prices_and_total_are_in_cents() {
    let checked = order(vec![new_item("tea", 2, "49.9"), new_item("cup", 1, "10")]).check().unwrap();
    assert_eq!(checked.total().to_string(), "109.80");
    assert_eq!(checked.items(), [item("tea", 2, "49.90"), item("cup", 1, "10.00")]);
    assert_eq!(checked.items()[1].price.to_string(), "10.00");
    let fingerprint = checked.fingerprint().to_owned();
    let message = checked.submission(id(7), "ann");
    assert_eq!((message.order_id, message.user_id.as_str()), (id(7), "ann"));
    assert_eq!((message.total, message.fingerprint), (money("109.80"), fingerprint));
}

#[test]
fn given_values_at_their_bounds_when_checked_then_they_are_taken() {
    let long = "ä".repeat(MAX_PRODUCT_ID);
    for item in [
        new_item("a", 1, "0"),
        new_item("a", 1, "0.00"),
        new_item(&long, i64::from(MAX_QUANTITY), "0.01"),
        new_item("a", 1, "1000000.00"),
    ] {
        assert!(order(vec![item.clone()]).check().is_ok(), "{item:?}");
    }
    assert!(order(vec![new_item("a", 1, "1"); MAX_ITEMS]).check().is_ok());
    let highest = order(vec![new_item("a", 999, "1000000.00"), new_item("b", 1, "999999.99")]).check().unwrap();
    assert_eq!(highest.total(), MAX_TOTAL);
    assert_eq!((MAX_TOTAL, MAX_PRICE), (money("999999999.99"), money("1000000.00")));
}

#[test]
fn given_a_bad_field_when_checked_then_the_entry_says_where_what_and_what_is_expected() {
    let cases = [
        (new_item("", 1, "1"), "items[0].productId: is empty"),
        (new_item("  ", 1, "1"), "items[0].productId: is empty"),
        (new_item("a\nb", 1, "1"), "items[0].productId: has a control character"),
        (new_item("a", 0, "1"), "items[0].quantity: is 0; 1 to 10000 is expected"),
        (new_item("a", -1, "1"), "items[0].quantity: is -1; 1 to 10000 is expected"),
        (new_item("a", 10_001, "1"), "items[0].quantity: is 10001; 1 to 10000 is expected"),
        (new_item("a", i64::MAX, "1"), "items[0].quantity: is 9223372036854775807; 1 to 10000 is expected"),
        (new_item("a", 1, "-0.01"), "items[0].price: is negative"),
        (new_item("a", 1, "1000000.01"), "items[0].price: is higher than 1000000.00"),
        (new_item("a", 1, &"9".repeat(60)), "items[0].price: is higher than 1000000.00"),
        (new_item("a", 1, "1.005"), "items[0].price: has 3 decimals; at most 2 are allowed"),
    ];
    for (item, expected) in cases {
        assert_eq!(wrong(item), expected);
    }
    let long = new_item(&"a".repeat(MAX_PRODUCT_ID + 1), 1, "1");
    assert_eq!(wrong(long), "items[0].productId: has 65 characters; at most 64 are allowed");
}

#[test]
fn given_a_price_that_is_no_plain_decimal_when_checked_then_it_is_refused() {
    for price in ["", "-", ".", "1.", ".5", "+1", "1e3", "1_000", "1,5", " 1", "1 ", "NaN", "0x1", "١"] {
        let said = wrong(new_item("a", 1, price));
        assert_eq!(said, "items[0].price: is not a decimal number such as \"49.90\"", "{price:?}");
    }
}

#[test]
fn given_several_bad_fields_when_checked_then_each_has_one_entry_in_order() {
    let items = vec![new_item("a", 1, "1"), new_item("", 0, "-1"), new_item("b", 1, "1"), new_item("c", 1, "x")];
    assert_eq!(paths(&order(items)), ["items[1].productId", "items[1].quantity", "items[1].price", "items[3].price"]);
}

#[test]
fn given_no_items_too_many_or_too_dear_ones_when_checked_then_the_items_are_named() {
    let said = |items| order(items).check().unwrap_err()[0].to_string();
    assert_eq!(said(vec![]), "items: is empty; at least one item is expected");
    assert_eq!(said(vec![new_item("", 0, "x"); 101]), "items: has 101 items; at most 100 are allowed");
    let dear = vec![new_item("a", 1_000, "1000000.00")];
    assert_eq!(said(dear), "items: cost more than 999999999.99 together");
    let dearest = vec![new_item("a", i64::from(MAX_QUANTITY), "1000000.00"); MAX_ITEMS];
    assert_eq!(said(dearest), "items: cost more than 999999999.99 together");
}

#[test]
fn given_bodies_that_mean_the_same_when_fingerprinted_then_they_are_the_same_and_others_are_not() {
    let fingerprint = |items| order(items).check().unwrap().fingerprint().to_owned();
    let first = fingerprint(vec![new_item("a", 1, "49.90"), new_item("b", 2, "1")]);
    assert_eq!(first, fingerprint(vec![new_item("a", 1, "49.9"), new_item("b", 2, "1.00")]));
    for other in [
        vec![new_item("b", 2, "1"), new_item("a", 1, "49.90")],
        vec![new_item("a", 2, "49.90"), new_item("b", 2, "1")],
        vec![new_item("a", 1, "49.91"), new_item("b", 2, "1")],
        vec![new_item("a", 1, "49.90")],
    ] {
        assert_ne!(first, fingerprint(other));
    }
    // Stored beside each order: it may never change.
    assert_eq!(fingerprint(vec![new_item("tea", 2, "49.90")]), "17e9de05-f3d7-5388-8c10-603eb5f44076");
}

#[test]
fn given_one_key_of_two_users_when_submitted_then_the_ids_differ_and_stay() {
    assert_eq!(submission_id("ann", "k"), submission_id("ann", "k"));
    assert_ne!(submission_id("ann", "k"), submission_id("bob", "k"));
    assert_ne!(submission_id("ann", "k"), submission_id("ann", "l"));
    assert_ne!(submission_id("ann/", "k"), submission_id("ann", "/k"));
    // An inbox row under this id makes a repeated POST harmless: it may never change.
    assert_eq!(submission_id("ann", "k").to_string(), "49a72a8b-3058-500c-b060-3a225ec6d734");
}

#[test]
fn the_total_is_exact_where_a_float_would_not_be() {
    let checked = order(vec![new_item("a", 3, "0.10")]).check().unwrap();
    assert_eq!(checked.total(), Decimal::new(30, 2));
}
