//! Everything that may happen to an order: every order, every duplicate, every crash, every answer.

use chrono::DateTime;
use order_saga::{
    Order, OrderCompleted, OrderExpired, OrderOverdue, OrderState, OrderSubmitted, PaymentApproved, PaymentDeclined,
    PaymentRefunded, ProcessPayment, RefundPayment,
};
use saga_core::Failure;
use saga_core::testkit::{End, Explore};

use crate::fixture::{id, item, money};

/// An order that is submitted, and overdue at some moment; both may come at any time.
fn orders() -> Explore<Order> {
    let submitted = OrderSubmitted {
        order_id: id(1),
        user_id: "ada".to_owned(),
        items: vec![item("tea", 1, "49.90")],
        total: money("49.90"),
        fingerprint: "f".to_owned(),
    };
    // Time stands still while it is explored, so the order has not moved since, whenever the job looks.
    let overdue = OrderOverdue { order_id: id(1), since: DateTime::UNIX_EPOCH };
    Explore::new()
        .message(&submitted)
        .message(&overdue)
        .activity::<ProcessPayment>(|it| {
            let approved = PaymentApproved { order_id: it.order_id, amount: it.amount, reference: "r".to_owned() };
            let declined = PaymentDeclined { order_id: it.order_id, reason: "no money".to_owned() };
            vec![Ok(approved.into()), Ok(declined.into()), Err(Failure::permanent("no gateway"))]
        })
        .activity::<RefundPayment>(|it| vec![Ok(PaymentRefunded { order_id: it.order_id, amount: it.amount })])
}

/// Charged at most once; and whoever was charged has a completed order, or the money back.
fn paid_or_refunded(end: &End<'_, Order>) -> Result<(), String> {
    let order = end.instance(id(1)).ok_or("there is no order")?;
    let counts = [
        end.count::<ProcessPayment>(),
        end.count::<PaymentApproved>(),
        end.count::<PaymentRefunded>(),
        end.count::<OrderCompleted>(),
        end.count::<OrderExpired>(),
    ];
    let holds = match (order.state, counts) {
        (OrderState::Completed, [1, 1, 0, 1, 0]) => true,
        (OrderState::Expired, [calls, approved, refunded, 0, 1]) => calls <= 1 && approved == refunded,
        // Nobody found it overdue: the job's message came before the submission, and is a dead letter.
        (OrderState::Processing, [1, 0, 0, 0, 0]) => end.dead_letters.iter().any(|it| it.reason == "rejected"),
        _ => false,
    };
    if holds {
        Ok(())
    } else {
        Err(format!("{:?}: called, approved, refunded, completed, expired {counts:?}", order.state))
    }
}

#[test]
fn given_an_order_when_everything_is_tried_then_it_is_paid_once_or_refunded() {
    let explored = orders().copies().run(paid_or_refunded).unwrap();
    assert!(explored.ends > 10 && explored.duplicates > 100, "{explored:?}");
}

#[test]
fn given_no_inbox_when_everything_is_tried_then_a_second_charge_or_a_second_answer_is_found() {
    let error = orders().without_inbox().run(paid_or_refunded).unwrap_err();
    assert!(error.to_string().contains("again"), "{error}");
}
