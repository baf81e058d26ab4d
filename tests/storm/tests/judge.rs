//! The judge finds what is wrong: each test doctors evidence that is sound.

use chrono::{DateTime, Utc};
use saga_core::{Body, JournalEffect, JournalOutcome, JournalRow, StoredInstance, derive_id};
use serde_json::json;
use test_storm::{Evidence, Fault, Heard, Rule, Seen, Tally, judge};
use uuid::Uuid;

const COMPLETED: Uuid = Uuid::from_u128(0xC0);
const EXPIRED: Uuid = Uuid::from_u128(0xE0);

/// A message that an order has handled, where it has led, and what it has caused.
type Line = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
/// What was made up of an order.
type Path = [Line];

const TO_COMPLETED: &Path = &[
    ("OrderSubmitted", "Pending", &[("publish", "OrderCreated")]),
    ("OrderCreated", "Processing", &[("call", "ProcessPayment")]),
    ("PaymentApproved", "Completed", &[("publish", "OrderCompleted")]),
];
const TO_EXPIRED: &Path = &[
    ("OrderSubmitted", "Pending", &[("publish", "OrderCreated")]),
    ("OrderCreated", "Processing", &[("call", "ProcessPayment")]),
    ("OrderOverdue", "Expired", &[("publish", "OrderExpired")]),
    ("PaymentApproved", "Expired", &[("call", "RefundPayment")]),
    ("PaymentRefunded", "Expired", &[]),
];

fn id(order: Uuid, n: usize) -> Uuid {
    Uuid::from_u128((order.as_u128() << 64) + n as u128)
}

/// What the `n`th step of an order produces.
fn produced(order: Uuid, n: usize, index: usize) -> Uuid {
    derive_id(id(order, n), &format!("order-saga/{index}"))
}

fn seen(order: Uuid, path: &Path) -> Seen {
    let mut from = "New";
    let row = |(n, (message, to, effects)): (usize, &Line)| {
        let effect = |(kind, name): &(&'static str, &str)| JournalEffect {
            kind: (*kind).into(),
            name: Some(format!("Orders:{name}").into()),
            message_id: Some(produced(order, n, 0)),
            endpoint: None,
            due: None,
        };
        JournalRow {
            saga: "order".into(),
            id: order,
            version: Some(n as u64 + 1),
            endpoint: "order-saga".into(),
            message_id: id(order, n),
            message_type: format!("Orders:{message}").into(),
            message: Body::of(&json!({})),
            conversation_id: order,
            initiator_id: None,
            user: None,
            attempt: 1,
            outcome: JournalOutcome::Moved,
            from: Some(std::mem::replace(&mut from, to).into()),
            to: Some((*to).into()),
            effects: effects.iter().map(effect).collect(),
            error: None,
            at: DateTime::<Utc>::UNIX_EPOCH,
        }
    };
    let journal: Vec<_> = path.iter().enumerate().map(row).collect();
    let instance = StoredInstance {
        id: order,
        version: journal.len() as u64,
        state: from.to_owned(),
        data: Body::of(&json!({})),
        timers: Body::of(&json!({})),
        retry_count: 0,
        fault: None,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        updated_at: DateTime::<Utc>::UNIX_EPOCH,
    };
    Seen { status: from.to_lowercase(), instance: Some(instance), journal }
}

fn heard(order: Uuid, n: usize, name: &str) -> Heard {
    Heard { message_id: produced(order, n, 0), name: format!("Orders:{name}"), order }
}

/// Two orders, of each end one, as they should be; a copy of a message at the broker harms nobody.
fn sound() -> Evidence {
    Evidence {
        accepted: vec![(1, COMPLETED), (2, EXPIRED), (2, EXPIRED)],
        answers: Vec::new(),
        orders: [(COMPLETED, seen(COMPLETED, TO_COMPLETED)), (EXPIRED, seen(EXPIRED, TO_EXPIRED))].into(),
        told: vec![(COMPLETED, "completed".to_owned()), (EXPIRED, "expired".to_owned())],
        heard: Some(vec![
            heard(COMPLETED, 0, "OrderCreated"),
            heard(COMPLETED, 2, "OrderCompleted"),
            heard(EXPIRED, 0, "OrderCreated"),
            heard(EXPIRED, 2, "OrderExpired"),
            heard(EXPIRED, 2, "OrderExpired"),
        ]),
        dead_letters: Vec::new(),
        left: [("outbox".to_owned(), 0)].into(),
    }
}

/// The rules that are broken once the evidence is doctored.
fn broken(doctor: impl FnOnce(&mut Evidence)) -> Vec<Rule> {
    let mut evidence = sound();
    doctor(&mut evidence);
    let mut rules: Vec<_> = judge(&evidence).1.into_iter().map(|finding| finding.rule).collect();
    rules.dedup();
    rules
}

fn journal(evidence: &mut Evidence, order: Uuid) -> &mut Vec<JournalRow> {
    &mut evidence.orders.get_mut(&order).unwrap().journal
}

#[test]
fn given_sound_evidence_when_judged_then_nothing_is_found_and_all_is_counted() {
    let (summary, findings) = judge(&sound());
    assert_eq!(findings, []);
    assert_eq!((summary.accepted, summary.completed, summary.expired), (2, 1, 1));
    assert_eq!((summary.steps, summary.refunded, summary.heard, summary.copies), (8, 1, 4, 1));
}

#[test]
fn given_a_lost_order_when_judged_then_it_is_missed() {
    let lost = |it: &mut Evidence| {
        it.orders.remove(&COMPLETED);
        it.told.remove(0);
        it.heard.as_mut().unwrap().drain(..2);
    };
    assert_eq!(broken(lost), [Rule::Kept]);
}

#[test]
fn given_an_order_that_nobody_was_told_of_when_judged_then_it_is_found() {
    assert_eq!(broken(|it| it.accepted.truncate(1)), [Rule::Accepted]);
}

#[test]
fn given_a_key_with_two_orders_or_an_order_with_two_keys_when_judged_then_it_is_found() {
    assert_eq!(broken(|it| it.accepted.push((1, EXPIRED))), [Rule::OneOrderAKey]);
    assert_eq!(broken(|it| it.accepted.push((3, EXPIRED))), [Rule::OneOrderAKey]);
}

#[test]
fn given_an_order_that_is_not_final_or_not_as_its_saga_when_judged_then_it_is_found() {
    let stuck = |it: &mut Evidence| {
        *it.orders.get_mut(&COMPLETED).unwrap() = seen(COMPLETED, &TO_COMPLETED[..2]);
        it.heard.as_mut().unwrap().remove(1);
    };
    assert_eq!(broken(stuck), [Rule::Final, Rule::EndedOnce, Rule::PaidOnce, Rule::ToldOnce]);
    let apart = |it: &mut Evidence| it.orders.get_mut(&EXPIRED).unwrap().status = "completed".to_owned();
    assert_eq!(broken(apart), [Rule::Final, Rule::ToldOnce]);
}

#[test]
fn given_a_doubled_transition_when_judged_then_it_is_found() {
    let doubled = |it: &mut Evidence| {
        let journal = journal(it, COMPLETED);
        journal.push(journal[2].clone());
    };
    assert_eq!(broken(doubled), [Rule::Legal, Rule::EndedOnce, Rule::PaidOnce]);
}

#[test]
fn given_a_missing_or_an_illegal_step_when_judged_then_it_is_found() {
    assert!(broken(|it| drop(journal(it, COMPLETED).remove(1))).contains(&Rule::Legal));
    assert!(broken(|it| journal(it, EXPIRED)[2].to = Some("Completed".into())).contains(&Rule::Legal));
}

#[test]
fn given_a_payment_that_is_asked_for_twice_or_not_answered_when_judged_then_it_is_found() {
    let twice = |it: &mut Evidence| {
        let journal = journal(it, COMPLETED);
        let again = JournalEffect { message_id: Some(produced(COMPLETED, 1, 1)), ..journal[1].effects[0].clone() };
        journal[1].effects.push(again);
    };
    assert_eq!(broken(twice), [Rule::PaidOnce]);
    let unanswered = |it: &mut Evidence| {
        journal(it, EXPIRED).pop();
        it.orders.get_mut(&EXPIRED).unwrap().instance.as_mut().unwrap().version -= 1;
    };
    assert_eq!(broken(unanswered), [Rule::PaidOnce]);
}

#[test]
fn given_a_missing_a_second_or_a_wrong_notification_when_judged_then_it_is_found() {
    assert_eq!(broken(|it| drop(it.told.pop())), [Rule::ToldOnce]);
    assert_eq!(broken(|it| it.told.push((EXPIRED, "expired".to_owned()))), [Rule::ToldOnce]);
    assert_eq!(broken(|it| it.told[1].1 = "completed".to_owned()), [Rule::ToldOnce]);
    assert_eq!(broken(|it| it.told.push((Uuid::from_u128(1), "expired".to_owned()))), [Rule::ToldOnce]);
}

#[test]
fn given_an_event_that_was_not_heard_or_never_committed_when_judged_then_it_is_found() {
    assert_eq!(broken(|it| drop(it.heard.as_mut().unwrap().remove(0))), [Rule::Published]);
    let ghost = |it: &mut Evidence| it.heard.as_mut().unwrap().push(heard(COMPLETED, 7, "OrderCompleted"));
    assert_eq!(broken(ghost), [Rule::Published]);
}

#[test]
fn given_a_dead_letter_a_rest_or_a_strange_answer_when_judged_then_it_is_found() {
    assert_eq!(broken(|it| it.dead_letters.push("order-payment".to_owned())), [Rule::NothingGivenUp]);
    assert_eq!(broken(|it| it.left = [("the queue order-saga".to_owned(), 1)].into()), [Rule::NothingLeft]);
    assert_eq!(broken(|it| it.answers.push("the answer to key 1 is 500".to_owned())), [Rule::Answered]);
}

#[test]
fn given_too_few_faults_when_compared_with_those_asked_for_then_each_kind_is_named() {
    let asked = Tally::of([(Fault::HostKill, 2), (Fault::BrokerKill, 1), (Fault::Cut, 1)]);
    let mut happened = Tally::of([(Fault::HostKill, 1), (Fault::Cut, 5)]);
    let told: Vec<_> = happened.shortfalls(&asked).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["hosts killed: 2 asked for, 1 happened", "broker killed: 1 asked for, 0 happened"]);
    happened.add(Fault::HostKill);
    happened.add(Fault::BrokerKill);
    assert_eq!(happened.shortfalls(&asked), []);
}
