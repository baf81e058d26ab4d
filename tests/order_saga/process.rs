use std::sync::Arc;
use std::time::Duration;

use order_saga::*;
use saga_core::testkit::Harness;
use saga_core::{MemoryStore, Submitted};

use crate::fixture::{id, item, money};

/// The registered process on a gateway that decides so.
fn process(decision: Decision) -> (Harness, MemoryOrders) {
    let orders = MemoryOrders::default();
    let store = MemoryStore::builder();
    let store = store.writer::<OrderRow, _>(orders.clone()).writer::<Notification, _>(orders.clone()).build();
    let process = OrderProcess::new(Arc::new(ScriptedGateway::new([Ok(decision)])), Arc::new(LogMailer));
    let harness = Harness::builder().store(store).with(move |builder| process.clone().register(builder)).start();
    (harness, orders)
}

fn submit(harness: &mut Harness) -> Submitted {
    let submitted = OrderSubmitted {
        order_id: id(7),
        user_id: "ann".to_owned(),
        items: vec![item("tea", 2, "49.90")],
        total: money("99.80"),
        fingerprint: "f".to_owned(),
    };
    harness.submit::<Order>(&submitted).unwrap()
}

fn status(harness: &Harness, orders: &MemoryOrders) -> OrderStatus {
    harness.block_on(orders.order(id(7))).unwrap().unwrap().status
}

/// Saga, activities, notifier, rows: everything is registered, and one order goes through.
#[test]
fn given_the_registered_process_when_an_order_is_submitted_and_approved_then_it_completes_and_is_notified() {
    let (mut harness, orders) = process(Decision::Approved { reference: "charge-1".to_owned() });
    submit(&mut harness);
    harness.advance(Duration::from_millis(4_999));
    assert_eq!(status(&harness, &orders), OrderStatus::Processing, "the payment waits five seconds");
    harness.advance(Duration::from_millis(1));
    assert_eq!(status(&harness, &orders), OrderStatus::Completed);
    assert_eq!(harness.block_on(orders.count_notifications()).unwrap()[0], (NotificationKind::Completed, 1));
    assert!(harness.dead_letters().is_empty());
}

/// What the job reads from the rows is what the saga compares: an order expires only if the two times agree.
#[test]
fn given_a_declined_order_when_the_expiry_job_ticks_then_it_expires_once_and_is_notified() {
    let (mut harness, orders) = process(Decision::Declined { reason: "no funds".to_owned() });
    submit(&mut harness);
    harness.advance(Duration::from_secs(5));
    let sink = Arc::new(harness.client());
    let job = ExpiryJob::new(Arc::new(orders.clone()), sink, harness.clock().clone(), Expiration::default());

    harness.advance(Duration::from_secs(595));
    assert_eq!(harness.block_on(job.tick()), Tick::default(), "ten minutes are not longer than ten minutes");
    harness.advance(Duration::from_secs(1));
    assert_eq!(harness.block_on(job.tick()), Tick { handled: 1, duplicates: 0, refused: 0 });
    harness.settle();
    assert_eq!(status(&harness, &orders), OrderStatus::Expired);
    assert_eq!(harness.block_on(job.tick()), Tick::default());
    assert_eq!(harness.block_on(orders.count_notifications()).unwrap()[1], (NotificationKind::Expired, 1));
    assert!(harness.dead_letters().is_empty());
}
