use std::sync::Arc;
use std::time::Duration;

use order_saga::*;
use saga_core::MemoryStore;
use saga_core::testkit::Harness;

use crate::fixture::{id, item, money};

/// Saga, activities, notifier, rows: everything is registered, and one order goes through.
#[test]
fn given_the_registered_process_when_an_order_is_submitted_and_approved_then_it_completes_and_is_notified() {
    let orders = MemoryOrders::default();
    let store =
        MemoryStore::builder().writer::<OrderRow, _>(orders.clone()).writer::<Notification, _>(orders.clone()).build();
    let approve = ScriptedGateway::new([Ok(Decision::Approved { reference: "charge-1".to_owned() })]);
    let process = OrderProcess::new(Arc::new(approve), Arc::new(LogMailer));
    let mut harness = Harness::builder().store(store).with(move |builder| process.clone().register(builder)).start();

    let submitted = OrderSubmitted {
        order_id: id(7),
        user_id: "ann".to_owned(),
        items: vec![item("tea", 2, "49.90")],
        total: money("99.80"),
        fingerprint: "f".to_owned(),
    };
    harness.submit::<Order>(&submitted).unwrap();
    let status = |harness: &Harness| harness.block_on(orders.order(id(7))).unwrap().unwrap().status;
    harness.advance(Duration::from_millis(4_999));
    assert_eq!(status(&harness), OrderStatus::Processing, "the payment waits five seconds");
    harness.advance(Duration::from_millis(1));
    assert_eq!(status(&harness), OrderStatus::Completed);
    assert_eq!(harness.block_on(orders.count_notifications()).unwrap()[0], (NotificationKind::Completed, 1));
    assert!(harness.dead_letters().is_empty());
}
