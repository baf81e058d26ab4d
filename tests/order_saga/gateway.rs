use order_saga::*;
use saga_core::{Failure, derive_id};
use uuid::Uuid;

use crate::fixture::{id, money};

fn payment(n: u128) -> ProcessPayment {
    ProcessPayment { order_id: id(n), amount: money("10.00") }
}

fn refund() -> RefundPayment {
    RefundPayment { order_id: id(7), amount: money("10.00"), reference: "charge-1".to_owned() }
}

fn approved(reference: &str) -> Decision {
    Decision::Approved { reference: reference.to_owned() }
}

fn keys(n: u32) -> Vec<Uuid> {
    (0..n).map(|n| derive_id(id(1), &n.to_string())).collect()
}

async fn decisions(gateway: &RandomGateway, keys: &[Uuid]) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for key in keys {
        decisions.push(gateway.charge(&payment(key.as_u128()), *key).await.unwrap());
    }
    decisions
}

fn approvals(decisions: &[Decision]) -> usize {
    decisions.iter().filter(|it| matches!(it, Decision::Approved { .. })).count()
}

#[tokio::test]
async fn given_a_seed_when_the_same_keys_are_charged_in_another_order_then_each_is_decided_as_before() {
    let keys = keys(200);
    let backwards: Vec<_> = keys.iter().rev().copied().collect();
    let first = decisions(&RandomGateway::seeded(SuccessRate::HALF, 42), &keys).await;
    let mut again = decisions(&RandomGateway::seeded(SuccessRate::HALF, 42), &backwards).await;
    again.reverse();
    assert_eq!(first, again);
    assert_ne!(first, decisions(&RandomGateway::seeded(SuccessRate::HALF, 43), &keys).await, "the seed has no effect");
}

#[tokio::test]
async fn given_a_rate_when_many_are_charged_then_about_that_share_is_approved() {
    let keys = keys(4_000);
    for gateway in [RandomGateway::new(SuccessRate::HALF), RandomGateway::seeded(SuccessRate::HALF, 1)] {
        let approved = approvals(&decisions(&gateway, &keys).await);
        assert!((1_850..=2_150).contains(&approved), "{approved} of 4,000 at one half");
    }
    let rate = |rate| RandomGateway::new(SuccessRate::new(rate).unwrap());
    assert_eq!(approvals(&decisions(&rate(0.0), &keys).await), 0);
    assert_eq!(approvals(&decisions(&rate(1.0), &keys).await), keys.len());
}

#[tokio::test]
async fn given_no_seed_when_a_call_is_repeated_then_it_is_decided_as_before() {
    let keys = keys(100);
    let before = decisions(&RandomGateway::new(SuccessRate::HALF), &keys).await;
    assert_eq!(before, decisions(&RandomGateway::new(SuccessRate::HALF), &keys).await);
}

#[test]
fn a_success_rate_is_a_number_from_0_to_1() {
    for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(SuccessRate::new(wrong).is_err(), "{wrong}");
    }
    let error = SuccessRate::new(1.5).unwrap_err();
    assert_eq!(error.to_string(), "1.5 is no success rate; a number from 0 to 1 is expected");
}

#[tokio::test]
async fn given_a_script_when_charged_then_lines_follow_each_other_and_the_last_repeats() {
    let declined = Decision::Declined { reason: "no funds".to_owned() };
    let failure = Failure::retry("gateway away");
    let gateway = ScriptedGateway::new([Err(failure.clone()), Ok(approved("a")), Ok(declined.clone())]);
    let key = keys(4);
    assert_eq!(gateway.charge(&payment(1), key[0]).await, Err(failure));
    assert_eq!(gateway.charge(&payment(1), key[0]).await, Ok(approved("a")), "a failure is not remembered");
    assert_eq!(gateway.charge(&payment(1), key[0]).await, Ok(approved("a")), "a decision is");
    assert_eq!(gateway.charge(&payment(2), key[1]).await, Ok(declined.clone()));
    assert_eq!(gateway.charge(&payment(3), key[2]).await, Ok(declined));
    assert_eq!(gateway.charge_calls(), [key[0], key[0], key[0], key[1], key[2]]);
    assert_eq!(gateway.approved(), 1, "three calls under one key moved money once");
}

#[tokio::test]
async fn given_a_gateway_that_is_mended_when_charged_then_the_new_script_holds() {
    let gateway = ScriptedGateway::new([Err(Failure::retry("away"))]);
    let key = id(1);
    for _ in 0..3 {
        assert!(gateway.charge(&payment(1), key).await.is_err());
    }
    gateway.charges_from_now([Ok(approved("a"))]);
    assert_eq!(gateway.charge(&payment(1), key).await, Ok(approved("a")));
}

#[tokio::test]
async fn given_a_refund_script_when_refunded_then_a_repeated_key_moves_money_once() {
    let failure = Failure::retry("away");
    let gateway = ScriptedGateway::new([]).refunds([Err(failure.clone()), Ok(())]);
    assert_eq!(gateway.refund(&refund(), id(1)).await, Err(failure));
    assert_eq!(gateway.refund(&refund(), id(1)).await, Ok(()));
    assert_eq!(gateway.refund(&refund(), id(1)).await, Ok(()));
    assert_eq!((gateway.refund_calls().len(), gateway.refunded()), (3, 1));
}
