use std::sync::Arc;
use std::time::Duration;

use order_saga::*;
use saga_core::{Activity, ActivityHandler, Failure, Outcome};

use crate::fixture::{CountingClock, context, id, money};

const DELAY: Duration = Duration::from_secs(5);

fn payment() -> ProcessPayment {
    ProcessPayment { order_id: id(7), amount: money("99.80") }
}

fn refund() -> RefundPayment {
    RefundPayment { order_id: id(7), amount: money("99.80"), reference: "charge-1".to_owned() }
}

#[tokio::test]
async fn given_an_approving_gateway_when_paid_then_it_waits_by_the_clock_and_answers_with_the_charge() {
    let gateway = Arc::new(ScriptedGateway::new([Ok(Decision::Approved { reference: "charge-1".to_owned() })]));
    let clock = Arc::new(CountingClock::default());
    let handler = PaymentHandler::new(gateway.clone(), DELAY);
    let outcome = handler.execute(&payment(), &context(id(40), &payment(), clock.clone())).await.unwrap();
    let PaymentOutcome::PaymentApproved(approved) = outcome else { panic!("declined") };
    assert_eq!(approved, PaymentApproved { order_id: id(7), amount: money("99.80"), reference: "charge-1".to_owned() });
    assert_eq!(*clock.0.lock().unwrap(), [DELAY]);
    assert_eq!(gateway.charge_calls(), [id(40)], "the key is the command's message id");
}

#[tokio::test]
async fn given_a_declining_gateway_when_paid_then_the_answer_says_why() {
    let gateway = Arc::new(ScriptedGateway::new([Ok(Decision::Declined { reason: "no funds".to_owned() })]));
    let context = context(id(40), &payment(), Arc::new(CountingClock::default()));
    let outcome = PaymentHandler::new(gateway, DELAY).execute(&payment(), &context).await.unwrap();
    let PaymentOutcome::PaymentDeclined(declined) = outcome else { panic!("approved") };
    assert_eq!(declined, PaymentDeclined { order_id: id(7), reason: "no funds".to_owned() });
}

#[tokio::test]
async fn given_a_failing_gateway_when_paid_then_the_failure_is_the_gateway_s_own() {
    let failure = Failure::retry("gateway away");
    let gateway = Arc::new(ScriptedGateway::new([Err(failure.clone())]).refunds([Err(failure.clone())]));
    let clock = Arc::new(CountingClock::default());
    let pay = PaymentHandler::new(gateway.clone(), DELAY);
    let paid = pay.execute(&payment(), &context(id(40), &payment(), clock.clone())).await;
    assert_eq!(paid.err(), Some(failure.clone()));
    let refunded = RefundHandler::new(gateway).execute(&refund(), &context(id(41), &refund(), clock)).await;
    assert_eq!(refunded, Err(failure));
}

#[tokio::test]
async fn given_a_refund_when_executed_then_it_does_not_wait() {
    let gateway = Arc::new(ScriptedGateway::new([]));
    let clock = Arc::new(CountingClock::default());
    let context = context(id(41), &refund(), clock.clone());
    let refunded = RefundHandler::new(gateway.clone()).execute(&refund(), &context).await;
    assert_eq!(refunded, Ok(PaymentRefunded { order_id: id(7), amount: money("99.80") }));
    assert_eq!((clock.0.lock().unwrap().len(), gateway.refund_calls()), (0, vec![id(41)]));
}

#[test]
fn the_failure_messages_say_what_was_wrong_at_the_last_attempt() {
    let failure = Failure::retry("gateway away");
    let error = || "gateway away".to_owned();
    assert_eq!(payment().failed(&failure), PaymentFailed { order_id: id(7), error: error() });
    assert_eq!(refund().failed(&failure), RefundFailed { order_id: id(7), error: error() });
}

#[test]
fn both_activities_stand_on_one_endpoint_and_name_their_outcomes() {
    assert_eq!([ProcessPayment::ENDPOINT, RefundPayment::ENDPOINT], [ORDER_PAYMENT; 2]);
    assert_eq!(PaymentOutcome::names(), ["Orders:PaymentApproved", "Orders:PaymentDeclined"]);
    assert_eq!(<RefundPayment as Activity>::Outcome::names(), ["Orders:PaymentRefunded"]);
}
