//! The flow of an order from its submission to its last notification: the whole process, a clock that the test moves.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use order_saga::*;
use saga_core::{Clock, Envelope, Failure, JournalOutcome, Old, Store, Submitted};
use uuid::Uuid;

use crate::fixture::{id, money};
use crate::shop::{Shop, approved, away, declined, order};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);
/// What an order may stand still, and a little more.
const TOO_LONG: Duration = Duration::from_secs(601);
/// What all retries of a message take together, and more.
const ALL_RETRIES: Duration = Duration::from_secs(20);

/// The errors in the log of this thread, as text, and what `story` returns.
fn errors_of<T>(story: impl FnOnce() -> T) -> (Vec<String>, T) {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_ansi(false);
    let told = tracing::subscriber::with_default(subscriber.with_writer(move || writer.clone()).finish(), story);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (text.lines().map(str::to_owned).collect(), told)
}

#[test]
fn given_an_order_when_its_payment_is_approved_then_it_completes_after_exactly_five_seconds_with_one_notification() {
    let mut shop = Shop::new(ScriptedGateway::new([approved()]));
    assert_eq!(shop.submit(1).unwrap().outcome(), Some(JournalOutcome::Moved));
    assert_eq!(shop.status(1), OrderStatus::Processing);
    shop.advance(5 * SECOND - MILLISECOND);
    assert_eq!((shop.status(1), shop.gateway.charge_calls().len()), (OrderStatus::Processing, 0));
    shop.advance(MILLISECOND);
    assert_eq!((shop.status(1), shop.gateway.charge_calls().len()), (OrderStatus::Completed, 1));
    assert_eq!(shop.told(1), [NotificationKind::Completed]);

    shop.advance(TOO_LONG);
    assert_eq!(shop.expire(), Tick::default(), "what is completed never expires");
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Completed, vec![NotificationKind::Completed]));
    shop.assert_at_rest();
}

#[test]
fn given_an_order_when_it_completes_then_its_history_tells_each_step_and_the_notification_whom_it_answers() {
    let mut shop = Shop::new(ScriptedGateway::new([approved()]));
    shop.submit(1).unwrap();
    shop.advance(5 * SECOND);
    let journal = shop.journal(1);
    let steps: Vec<_> =
        journal.iter().map(|row| (&*row.message_type, row.from.as_deref(), row.to.as_deref())).collect();
    assert_eq!(
        steps,
        [
            ("Orders:OrderSubmitted", Some("New"), Some("Pending")),
            ("Orders:OrderCreated", Some("Pending"), Some("Processing")),
            ("Orders:PaymentApproved", Some("Processing"), Some("Completed")),
        ]
    );
    assert_eq!(journal.iter().map(|row| row.version).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    let submission = id(1_000_001);
    assert!(journal.iter().all(|row| row.conversation_id == submission && row.user.as_deref() == Some("ann")));
    let rows = shop.harness.block_on(shop.orders.notifications(id(1))).unwrap();
    let published = journal[2].effects.iter().find(|effect| effect.kind == "publish").unwrap();
    assert_eq!((Some(rows[0].message_id), rows[0].conversation_id), (published.message_id, submission));
    assert_eq!((rows[0].user_id.as_str(), rows[0].attempts), ("ann", 1));
}

#[test]
fn given_a_declined_payment_when_nothing_else_comes_then_the_order_stays_until_the_expiry_job_expires_it() {
    let mut shop = Shop::new(ScriptedGateway::new([declined()]));
    shop.submit(1).unwrap();
    shop.advance(5 * SECOND);
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Processing, vec![]));
    assert_eq!(shop.payment(1), Payment::Declined { reason: "no funds".to_owned() });

    shop.advance(10 * MINUTE - 5 * SECOND);
    assert_eq!(shop.expire(), Tick::default(), "ten minutes are not longer than ten minutes");
    shop.advance(MILLISECOND);
    assert_eq!(shop.expire(), Tick { handled: 1, ..Tick::default() });
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Expired, vec![NotificationKind::Expired]));
    shop.advance(TOO_LONG);
    assert_eq!(shop.expire(), Tick::default());
    assert_eq!(shop.told(1), [NotificationKind::Expired]);
    shop.assert_at_rest();
}

#[test]
fn given_a_gateway_that_always_fails_when_retries_end_then_one_dead_letter_one_error_and_a_redrive_completes() {
    let mut shop = Shop::new(ScriptedGateway::new([Err(away())]));
    let (errors, ()) = errors_of(|| {
        shop.submit(1).unwrap();
        shop.advance(4 * 5 * SECOND + ALL_RETRIES);
    });
    assert_eq!(errors.len(), 1, "{errors:#?}");
    for said in ["order-payment", "Orders:ProcessPayment", "gateway away", &id(1).to_string()] {
        assert!(errors[0].contains(said), "{said} is not in {}", errors[0]);
    }
    let calls = shop.gateway.charge_calls();
    assert_eq!(calls.len(), 4, "a first attempt and three retries");
    assert!(calls.iter().all(|key| *key == calls[0]), "under one key");

    let instance = shop.harness.instance::<Order>(id(1)).unwrap();
    assert_eq!((instance.retry_count, instance.fault.as_deref()), (3, Some("gateway away")));
    assert_eq!(shop.harness.published::<PaymentFailed>().len() + shop.harness.sent::<PaymentFailed>().len(), 1);
    assert_eq!(shop.payment(1), Payment::Failed { fault: "gateway away".to_owned() });
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Processing, vec![]));
    let failures: Vec<_> =
        shop.journal(1).into_iter().filter(|row| row.message_type == "Orders:ProcessPayment").collect();
    let told: Vec<_> = failures.iter().map(|row| (row.outcome, row.attempt, row.error.as_deref())).collect();
    let (retried, error) = (JournalOutcome::Retried, Some("gateway away"));
    assert_eq!(
        told,
        [(retried, 1, error), (retried, 2, error), (retried, 3, error), (JournalOutcome::Faulted, 4, error)],
        "the fault is in the order's history"
    );
    let dead = shop.harness.dead_letters();
    assert_eq!((dead.len(), dead[0].attempts, &*dead[0].endpoint), (1, 4, ORDER_PAYMENT));

    shop.gateway.charges_from_now([approved()]);
    let (errors, ()) = errors_of(|| {
        shop.harness.redrive(dead[0].id).unwrap();
        shop.advance(5 * SECOND);
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Completed, vec![NotificationKind::Completed]));
    let instance = shop.harness.instance::<Order>(id(1)).unwrap();
    assert_eq!((instance.retry_count, instance.fault), (3, None), "what went wrong is counted, and mended");
    assert_eq!(
        shop.gateway.charge_calls().iter().filter(|key| **key == calls[0]).count(),
        5,
        "the key is the first one"
    );
    shop.assert_at_rest();
}

#[test]
fn given_a_gateway_that_recovers_when_a_retry_succeeds_then_the_order_completes_and_nothing_is_given_up() {
    let mut shop = Shop::new(ScriptedGateway::new([Err(away()), Err(away()), approved()]));
    shop.submit(1).unwrap();
    shop.advance(3 * 5 * SECOND + ALL_RETRIES);
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Completed, vec![NotificationKind::Completed]));
    assert_eq!(shop.harness.instance::<Order>(id(1)).unwrap().retry_count, 2);
    assert_eq!(shop.gateway.approved(), 1);
    shop.assert_at_rest();
}

/// An order that expires while its payment fails and waits; the payment is approved when it is redriven.
fn expired_then_paid(gateway: ScriptedGateway) -> Shop {
    let mut shop = Shop::new(gateway);
    shop.submit(1).unwrap();
    shop.advance(TOO_LONG);
    assert_eq!(shop.expire().handled, 1);
    assert_eq!(shop.status(1), OrderStatus::Expired);
    shop.gateway.charges_from_now([approved()]);
    let dead = shop.dead_letters();
    shop.harness.redrive(dead[0]).unwrap();
    shop.advance(5 * SECOND);
    shop
}

#[test]
fn given_an_expired_order_when_its_payment_is_approved_late_then_the_money_goes_back_and_it_stays_expired() {
    let shop = expired_then_paid(ScriptedGateway::new([Err(away())]));
    assert_eq!((shop.status(1), shop.payment(1)), (OrderStatus::Expired, Payment::Refunded));
    assert_eq!((shop.gateway.approved(), shop.gateway.refunded()), (1, 1));
    let refunds = shop.harness.called::<RefundPayment>();
    assert_eq!(refunds, [RefundPayment { order_id: id(1), amount: money("99.80"), reference: "charge-1".to_owned() }]);
    assert_eq!(shop.told(1), [NotificationKind::Expired], "a refund is no news of another kind");
    shop.assert_at_rest();
}

#[test]
fn given_a_refund_that_fails_when_retries_end_then_it_is_parked_with_its_fault_and_can_be_redriven() {
    let gateway = ScriptedGateway::new([Err(away())])
        .refunds((0..4).map(|_| Err(Failure::retry("no money there"))).chain([Ok(())]));
    let mut shop = expired_then_paid(gateway);
    shop.advance(ALL_RETRIES);
    assert_eq!(shop.payment(1), Payment::RefundFailed { fault: "no money there".to_owned() });
    assert_eq!(shop.status(1), OrderStatus::Expired);
    let dead = shop.harness.dead_letters();
    assert_eq!((dead.len(), dead[0].envelope.name(), dead[0].attempts), (1, "Orders:RefundPayment", 4));
    assert_eq!(shop.harness.instance::<Order>(id(1)).unwrap().fault.as_deref(), Some("no money there"));
    let last = shop.journal(1).into_iter().rfind(|row| row.message_type == "Orders:RefundPayment").unwrap();
    assert_eq!((last.outcome, last.error.as_deref()), (JournalOutcome::Faulted, Some("no money there")));

    shop.harness.redrive(dead[0].id).unwrap();
    assert_eq!((shop.payment(1), shop.gateway.refunded()), (Payment::Refunded, 1));
    assert_eq!(shop.harness.instance::<Order>(id(1)).unwrap().fault, None);
    shop.assert_at_rest();
}

#[test]
fn given_a_submission_when_it_comes_again_then_there_is_one_order_one_charge_one_notification() {
    let mut shop = Shop::new(ScriptedGateway::new([approved()]));
    shop.submit(1).unwrap();
    assert_eq!(shop.submit(1).unwrap(), Submitted::Duplicate);
    shop.advance(2 * SECOND);
    assert_eq!(shop.submit(1).unwrap(), Submitted::Duplicate);
    // A sender that does not keep its ids: the saga knows its order all the same.
    let another_id = Envelope::new(id(77), &order(1));
    let again = shop.harness.submit_envelope::<Order>(another_id).unwrap();
    assert_eq!(again.outcome(), Some(JournalOutcome::Ignored));
    shop.advance(5 * SECOND);
    assert_eq!(shop.submit(1).unwrap(), Submitted::Duplicate);
    shop.advance(MINUTE);
    assert_eq!(shop.status(1), OrderStatus::Completed);
    assert_eq!((shop.gateway.charge_calls().len(), shop.told(1)), (1, vec![NotificationKind::Completed]));
    let created: u64 = shop.harness.block_on(shop.orders.count()).unwrap().into_iter().map(|(_, n)| n).sum();
    assert_eq!(created, 1);
    shop.assert_at_rest();
}

#[test]
fn given_an_inbox_that_was_purged_when_every_message_comes_once_more_then_a_finished_order_stays_as_it_is() {
    let mut shop = Shop::new(ScriptedGateway::new([approved()]));
    shop.submit(1).unwrap();
    shop.advance(5 * SECOND);
    let steps = shop.journal(1).len();
    let (charge_id, at) = (shop.gateway.charge_calls()[0], shop.harness.clock().now());
    let store = shop.harness.store();
    assert!(!shop.harness.block_on(store.purge(Old::Inbox(at + SECOND), 1_000)).unwrap(), "nothing is left of it");

    let again = shop.submit(1).unwrap();
    assert_eq!(again.outcome(), Some(JournalOutcome::Ignored), "nobody remembers the message, but the order is there");
    shop.harness.publish(&OrderCreated { order_id: id(1), user_id: "ann".to_owned(), total: money("99.80") });
    let again = PaymentApproved { order_id: id(1), amount: money("99.80"), reference: "charge-1".to_owned() };
    shop.harness.publish(&again);
    shop.harness.publish(&OrderOverdue { order_id: id(1), since: at });
    shop.advance(TOO_LONG);
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Completed, vec![NotificationKind::Completed]));
    assert_eq!(shop.gateway.charge_calls(), [charge_id], "nobody pays twice");
    assert_eq!(shop.journal(1).len(), steps + 4, "all of it is in the history");
    shop.assert_at_rest();
}

/// Answers for every order but one.
struct Hanging {
    order: Uuid,
    tried: AtomicU32,
}

#[async_trait]
impl PaymentGateway for Hanging {
    async fn charge(&self, payment: &ProcessPayment, _: Uuid) -> Result<Decision, Failure> {
        if payment.order_id == self.order {
            self.tried.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        approved()
    }

    async fn refund(&self, _: &RefundPayment, _: Uuid) -> Result<(), Failure> {
        Ok(())
    }
}

#[test]
fn given_a_gateway_that_hangs_for_one_order_when_others_come_then_they_complete_and_that_one_fails_in_time() {
    let gateway = Arc::new(Hanging { order: id(1), tried: AtomicU32::new(0) });
    let mut shop = Shop::with(gateway.clone());
    shop.submit(1).unwrap();
    for n in 2..200 {
        shop.submit(n).unwrap();
    }
    shop.advance(5 * SECOND);
    assert!((2..200).all(|n| shop.status(n) == OrderStatus::Completed), "they wait for nobody");
    assert_eq!(shop.status(1), OrderStatus::Processing);
    for _ in 0..4 {
        shop.advance(MINUTE);
    }
    assert_eq!((gateway.tried.load(Ordering::SeqCst), shop.dead_letters().len()), (4, 1));
    shop.advance(TOO_LONG);
    shop.expire();
    assert_eq!(shop.status(1), OrderStatus::Expired);
}

#[test]
fn given_an_order_that_moved_after_the_expiry_job_looked_when_it_is_told_then_it_does_not_expire() {
    let mut shop = Shop::new(ScriptedGateway::new([declined()]));
    let looked = shop.harness.clock().now();
    shop.advance(SECOND);
    shop.submit(1).unwrap();
    let stale = OrderOverdue { order_id: id(1), since: looked };
    let outcome = shop.harness.submit::<Order>(&stale).unwrap();
    assert_eq!(outcome.outcome(), Some(JournalOutcome::Moved), "it is noted in the history");
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Processing, vec![]));
    assert!(shop.harness.published::<OrderExpired>().is_empty());
    // What it was told does not keep it from expiring when its time has come.
    shop.advance(TOO_LONG);
    assert_eq!(shop.expire().handled, 1);
    assert_eq!((shop.status(1), shop.told(1)), (OrderStatus::Expired, vec![NotificationKind::Expired]));
    shop.assert_at_rest();
}

#[test]
fn given_two_expiry_jobs_when_both_look_at_once_then_each_order_expires_once() {
    let mut shop = Shop::new(ScriptedGateway::new([declined()]));
    for n in 1..=300 {
        shop.submit(n).unwrap();
    }
    shop.advance(TOO_LONG);
    let (one, other) = (shop.expiry_job(), shop.expiry_job());
    let both = futures_util::future::join(one.tick(), other.tick());
    let (one, other) = shop.harness.block_on(both);
    shop.harness.settle();
    assert_eq!((one.handled + other.handled, one.refused + other.refused), (300, 0), "{one:?}, {other:?}");
    assert!(one.duplicates + other.duplicates > 0, "both saw the same orders: {one:?}, {other:?}");
    for n in 1..=300 {
        assert_eq!((shop.status(n), shop.told(n)), (OrderStatus::Expired, vec![NotificationKind::Expired]));
    }
    assert_eq!(shop.harness.published::<OrderExpired>().len(), 300);
    shop.assert_at_rest();
}

#[test]
fn given_ten_thousand_orders_when_all_wait_for_their_payment_then_they_wait_at_the_same_time() {
    const ORDERS: u128 = 10_000;
    let mut shop = Shop::new(ScriptedGateway::new([approved()]));
    let client = shop.harness.client();
    for first in (1..=ORDERS).step_by(1_000) {
        let envelopes = (first..first + 1_000).map(|n| Envelope::new(id(n + 1_000_000), &order(n)));
        let submitted = futures_util::future::join_all(envelopes.map(|it| client.submit::<Order>(it)));
        assert!(shop.harness.block_on(submitted).iter().all(Result::is_ok));
    }
    shop.harness.settle();
    shop.advance(5 * SECOND - MILLISECOND);
    assert_eq!(shop.harness.called::<ProcessPayment>().len(), 10_000);
    assert_eq!((shop.harness.backlog().outbox, shop.gateway.charge_calls().len()), (10_000, 0), "all of them wait");
    shop.advance(MILLISECOND);
    assert_eq!(shop.gateway.charge_calls().len(), 10_000);
    let counted = shop.harness.block_on(shop.orders.count()).unwrap();
    assert!(counted.contains(&(OrderStatus::Completed, 10_000)), "{counted:?}");
    let notified = shop.harness.block_on(shop.orders.count_notifications()).unwrap();
    assert_eq!(notified, [(NotificationKind::Completed, 10_000), (NotificationKind::Expired, 0)]);
    shop.assert_at_rest();
}
