use std::path::PathBuf;

use chrono::{DateTime, Utc};
use order_saga::*;
use saga_core::{Ctx, Effect, Envelope, Finite, Instance, Machine, Message, Step};

use crate::fixture::{at, id, item, money};

/// A microsecond's fraction: what is compared must be what a database keeps.
fn moved_at() -> DateTime<Utc> {
    at(5) + chrono::Duration::microseconds(1_234)
}

fn ctx() -> Ctx<'static> {
    Ctx {
        now: moved_at(),
        message_id: id(40),
        correlation_id: id(7),
        conversation_id: id(41),
        initiator_id: None,
        attempt: 1,
        user: Some("ann"),
    }
}

fn order_in(state: OrderState) -> Instance<Order> {
    let data =
        Order { user_id: "ann".to_owned(), total: money("99.80"), changed_at: at(0), payment: Payment::default() };
    let data = if state == OrderState::New { Order::default() } else { data };
    Instance { state, data, version: state.index() as u64, ..Instance::new(id(7)) }
}

fn submitted() -> OrderSubmitted {
    OrderSubmitted {
        order_id: id(7),
        user_id: "ann".to_owned(),
        items: vec![item("tea", 2, "49.90")],
        total: money("99.80"),
        fingerprint: "f".to_owned(),
    }
}

fn approved() -> PaymentApproved {
    PaymentApproved { order_id: id(7), amount: money("99.80"), reference: "charge-1".to_owned() }
}

/// One message of each column.
fn envelope(event: OrderEvent) -> Envelope {
    let (order_id, user_id, total) = (id(7), "ann".to_owned(), money("99.80"));
    let error = "gateway away".to_owned();
    match event {
        OrderEvent::OrderSubmitted(_) => Envelope::new(id(40), &submitted()),
        OrderEvent::OrderCreated(_) => Envelope::new(id(40), &OrderCreated { order_id, user_id, total }),
        OrderEvent::PaymentApproved(_) => Envelope::new(id(40), &approved()),
        OrderEvent::PaymentDeclined(_) => {
            Envelope::new(id(40), &PaymentDeclined { order_id, reason: "no funds".to_owned() })
        }
        OrderEvent::PaymentFailed(_) => Envelope::new(id(40), &PaymentFailed { order_id, error }),
        OrderEvent::OrderOverdue(_) => Envelope::new(id(40), &OrderOverdue { order_id, since: at(0) }),
        OrderEvent::PaymentRefunded(_) => Envelope::new(id(40), &PaymentRefunded { order_id, amount: total }),
        OrderEvent::RefundFailed(_) => Envelope::new(id(40), &RefundFailed { order_id, error }),
    }
}

fn step(instance: &mut Instance<Order>, envelope: &Envelope) -> Step<Order> {
    let machine = Machine::<Order>::new();
    let event = machine.read(envelope).unwrap();
    assert_eq!(event.id, id(7), "every event finds its order by the id that it carries");
    machine.step_event(instance, &event, &ctx())
}

/// What a step did, short: where to, and its effects in order.
fn said(step: &Step<Order>, instance: &Instance<Order>) -> String {
    let effects = match step {
        Step::Ignored => return "ignore".to_owned(),
        Step::Deferred(_) => return "defer".to_owned(),
        Step::Rejected(_) => return "reject".to_owned(),
        Step::Moved(effects) => effects,
    };
    let effects = effects.as_slice().iter().map(|effect| match effect {
        Effect::Publish(message) => message.name.trim_start_matches("Orders:").to_owned(),
        Effect::Call { endpoint, message } => format!("{endpoint}!{}", message.name.trim_start_matches("Orders:")),
        Effect::Write(OrderRow::Submitted(order)) => format!("new {}", order.status.name()),
        Effect::Write(OrderRow::Status { status, .. }) => status.name().to_owned(),
        other => panic!("an order has no such effect: {other:?}"),
    });
    std::iter::once(instance.state.name().to_owned()).chain(effects).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_pair_of_state_and_event_does_what_the_design_says() {
    const SUBMIT: &str = "Pending new pending OrderCreated";
    const START: &str = "Processing processing order-payment!ProcessPayment";
    const COMPLETE: &str = "Completed completed OrderCompleted";
    const EXPIRE: &str = "Expired expired OrderExpired";
    const REFUND: &str = "Expired order-payment!RefundPayment";
    #[rustfmt::skip] // One row a line, in the order of the columns.
    let expected = [
        [SUBMIT, "reject", "reject", "reject", "reject", "reject", "reject", "reject"],
        ["ignore", START, "defer", "defer", "defer", EXPIRE, "reject", "reject"],
        ["ignore", "ignore", COMPLETE, "Processing", "Processing", EXPIRE, "reject", "reject"],
        ["ignore", "ignore", "ignore", "ignore", "ignore", "ignore", "reject", "reject"],
        ["ignore", "ignore", REFUND, "ignore", "ignore", "ignore", "Expired", "Expired"],
    ];
    for (&state, row) in OrderState::ALL.iter().zip(expected) {
        for (&event, expected) in OrderEvent::ALL.iter().zip(row) {
            let mut instance = order_in(state);
            let outcome = step(&mut instance, &envelope(event));
            assert_eq!(said(&outcome, &instance), expected, "{} meets {}", state.name(), event.name());
            if !matches!(outcome, Step::Moved(_)) {
                assert_eq!(instance, order_in(state), "{} was changed by {}", state.name(), event.name());
            }
        }
    }
}

#[test]
fn given_a_submission_when_stepped_then_the_stored_order_is_complete() {
    let mut instance = order_in(OrderState::New);
    let Step::Moved(effects) = step(&mut instance, &Envelope::new(id(40), &submitted())) else { panic!("not moved") };
    let now = at(5) + chrono::Duration::microseconds(1_234);
    let order = StoredOrder {
        id: id(7),
        user_id: "ann".to_owned(),
        status: OrderStatus::Pending,
        total: money("99.80"),
        items: vec![item("tea", 2, "49.90")],
        submission_id: id(40),
        fingerprint: "f".to_owned(),
        created_at: now,
        updated_at: now,
    };
    assert_eq!(effects.as_slice()[0], Effect::Write(OrderRow::Submitted(order)));
    assert_eq!(instance.data.changed_at, now);
}

#[test]
fn given_an_order_that_moved_after_the_job_looked_when_it_is_said_to_be_overdue_then_it_stays() {
    for state in [OrderState::Pending, OrderState::Processing] {
        let mut instance = order_in(state);
        let stale = OrderOverdue { order_id: id(7), since: at(-1) };
        let outcome = step(&mut instance, &Envelope::new(id(40), &stale));
        assert_eq!(said(&outcome, &instance), state.name());
        assert_eq!(instance.data, order_in(state).data);
    }
}

#[test]
fn given_a_row_read_back_from_a_database_when_its_time_is_compared_then_it_is_the_saga_s_time() {
    let mut instance = order_in(OrderState::Pending);
    let outcome = step(&mut instance, &envelope(OrderEvent::ALL[1]));
    let Step::Moved(effects) = outcome else { panic!("not moved") };
    let Effect::Write(OrderRow::Status { id: written, status, at }) = effects.as_slice()[0] else { panic!("no row") };
    assert_eq!((written, status, at), (id(7), OrderStatus::Processing, instance.data.changed_at));
}

#[test]
fn given_a_declined_payment_when_stepped_then_it_is_noted() {
    let mut instance = order_in(OrderState::Processing);
    step(&mut instance, &envelope(OrderEvent::ALL[3]));
    assert_eq!(instance.data.payment, Payment::Declined { reason: "no funds".to_owned() });
    assert_eq!(instance.data.changed_at, at(0), "the status did not change");
}

#[test]
fn given_a_failed_payment_when_stepped_then_its_fault_is_shown_and_a_redriven_one_completes() {
    let mut instance = order_in(OrderState::Processing);
    step(&mut instance, &envelope(OrderEvent::ALL[4]));
    assert_eq!(instance.data.payment, Payment::Failed { fault: "gateway away".to_owned() });
    step(&mut instance, &Envelope::new(id(40), &approved()));
    assert_eq!(instance.state, OrderState::Completed);
    assert_eq!(instance.data.payment, Payment::Approved { reference: "charge-1".to_owned() });
}

#[test]
fn given_an_expired_order_when_its_payment_is_approved_then_that_charge_is_refunded() {
    let mut instance = order_in(OrderState::Expired);
    let Step::Moved(effects) = step(&mut instance, &Envelope::new(id(40), &approved())) else { panic!("not moved") };
    let Effect::Call { endpoint, message } = &effects.as_slice()[0] else { panic!("no call") };
    let command: RefundPayment = message.body.read().unwrap();
    assert_eq!((*endpoint, message.name), (ORDER_PAYMENT, RefundPayment::NAME));
    assert_eq!(command, RefundPayment { order_id: id(7), amount: money("99.80"), reference: "charge-1".to_owned() });
    assert_eq!(instance.data.payment, Payment::Refunding { reference: "charge-1".to_owned() });

    let mut failed = instance.clone();
    step(&mut failed, &envelope(OrderEvent::ALL[7]));
    assert_eq!(failed.data.payment, Payment::RefundFailed { fault: "gateway away".to_owned() });
    step(&mut instance, &envelope(OrderEvent::ALL[6]));
    assert_eq!(instance.data.payment, Payment::Refunded);
}

#[test]
fn the_data_of_every_payment_is_read_back_as_it_was_written() {
    let text = || "x".to_owned();
    let every = [
        Payment::Open,
        Payment::Approved { reference: text() },
        Payment::Declined { reason: text() },
        Payment::Failed { fault: text() },
        Payment::Refunding { reference: text() },
        Payment::Refunded,
        Payment::RefundFailed { fault: text() },
    ];
    for payment in every {
        let order = Order { payment, ..order_in(OrderState::Processing).data };
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&json).unwrap(), order, "{json}");
    }
}

#[test]
fn no_state_is_unreachable_and_the_process_ends_completed_or_expired() {
    let machine = Machine::<Order>::new();
    assert_eq!(machine.unreachable(), []);
    assert_eq!(machine.dead_ends(), [OrderState::Completed, OrderState::Expired]);
}

#[test]
fn the_committed_picture_and_table_are_those_of_the_saga() {
    let machine = Machine::<Order>::new();
    golden("order.mmd", &machine.mermaid());
    golden("order.table.md", &machine.table());
}

/// Compares with a committed file; with UPDATE_GOLDENS set, writes it.
fn golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("order-saga").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "order-saga/{name} is not today's; look, then run with UPDATE_GOLDENS=1");
}
