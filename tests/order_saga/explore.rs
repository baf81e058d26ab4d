//! The order saga, explored: every order of its messages, every duplicate, every crash before an acknowledgement.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use order_saga::*;
use saga_core::testkit::{End, Explore, ExploreError, Explored};
use saga_core::{Correlation, Ctx, Effects, Envelope, Failure, RetryPolicy, Rule, Saga, defer, ignore, reject};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fixture::{id, money};
use crate::shop::order;

/// The explorer's time stands still here, so this is when every order moved last.
const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn approval(payment: &ProcessPayment) -> PaymentApproved {
    PaymentApproved { order_id: payment.order_id, amount: payment.amount, reference: "charge-1".to_owned() }
}

fn overdue(n: u128, since: DateTime<Utc>) -> OrderOverdue {
    OrderOverdue { order_id: id(n), since }
}

/// A payment may be approved, declined, or fail and be retried; a refund may succeed or fail for good.
fn payments<S: Saga>(explore: Explore<S>) -> Explore<S> {
    explore
        .retry(RetryPolicy { limit: 1, ..RetryPolicy::default() })
        .activity::<ProcessPayment>(|it| {
            let declined = PaymentDeclined { order_id: it.order_id, reason: "no funds".to_owned() };
            vec![Ok(approval(it).into()), Ok(declined.into()), Err(Failure::retry("gateway away"))]
        })
        .activity::<RefundPayment>(|it| {
            let refunded = PaymentRefunded { order_id: it.order_id, amount: it.amount };
            vec![Ok(refunded), Err(Failure::permanent("no money there"))]
        })
}

/// Order 1 is submitted, and the expiry job tells of it twice: once of what it had seen before it moved, once of what
/// holds.
fn one_order<S: Saga>() -> Explore<S> {
    let stale = NOW - TimeDelta::seconds(1);
    payments(Explore::new().message(&order(1)).message(&overdue(1, stale)).message(&overdue(1, NOW)))
}

/// The last status of each order, as the rows say it.
fn statuses(rows: &[OrderRow]) -> Result<BTreeMap<Uuid, OrderStatus>, String> {
    let mut statuses = BTreeMap::new();
    for row in rows {
        match row {
            OrderRow::Submitted(order) => {
                let before = statuses.insert(order.id, order.status);
                before.map_or(Ok(()), |_| Err(format!("the order {} was written twice", order.id)))?;
            }
            OrderRow::Status { id, status, .. } => {
                statuses.insert(*id, *status).ok_or_else(|| format!("{id} moved before it was written"))?;
            }
        }
    }
    Ok(statuses)
}

/// What must hold for every order when nothing is left to happen.
fn each_order_is_sound<S: Saga<State = OrderState, Row = OrderRow>>(end: &End<'_, S>) -> Result<(), String> {
    let statuses = statuses(end.rows)?;
    for order in &end.instances {
        let status = statuses.get(&order.id).map_or("not written", |status| status.name());
        let state = format!("{:?}", order.state).to_lowercase();
        if status != state {
            return Err(format!("the saga is {state} and its order is {status}"));
        }
        let of = |ids: Vec<Uuid>| ids.into_iter().filter(|id| *id == order.id).count();
        let completed = of(end.all::<OrderCompleted>().iter().map(|it| it.order_id).collect());
        let expired = of(end.all::<OrderExpired>().iter().map(|it| it.order_id).collect());
        let charged = of(end.all::<ProcessPayment>().iter().map(|it| it.order_id).collect());
        let approved = of(end.all::<PaymentApproved>().iter().map(|it| it.order_id).collect());
        let refunds = of(end.all::<RefundPayment>().iter().map(|it| it.order_id).collect());
        let told = match order.state {
            OrderState::Completed => (1, 0),
            OrderState::Expired => (0, 1),
            _ => (0, 0),
        };
        if (completed, expired) != told {
            return Err(format!("{state}, and told {completed} times of completion, {expired} times of expiry"));
        }
        if charged > 1 {
            return Err(format!("charged {charged} times"));
        }
        // Money goes back once if, and only if, it came after the order had expired.
        let owed = usize::from(order.state == OrderState::Expired && approved > 0);
        if refunds != owed {
            return Err(format!("{state}, {approved} approvals, {refunds} refunds"));
        }
    }
    for letter in end.dead_letters {
        let expected = match (letter.envelope.name(), &*letter.reason) {
            // The explorer brings it before the order as well, which the expiry job can not.
            ("Orders:OrderOverdue", "rejected") => true,
            ("Orders:ProcessPayment", "transient") => letter.attempts == 2,
            ("Orders:RefundPayment", "permanent") => letter.attempts == 1,
            _ => false,
        };
        if !expected {
            return Err(format!("{} is a dead letter: {}", letter.envelope.name(), letter.error));
        }
    }
    Ok(())
}

#[test]
fn given_an_order_when_everything_is_tried_then_it_ends_once_and_nothing_is_given_up_that_should_not_be() {
    let seen = RefCell::new(BTreeSet::new());
    let explored = one_order::<Order>().copies().run(|end| {
        let order = end.instance(id(1)).ok_or("there is no order")?;
        let payment = serde_json::to_value(&order.data.payment).unwrap()["status"].as_str().unwrap().to_owned();
        seen.borrow_mut().insert((format!("{:?}", order.state), payment));
        each_order_is_sound(end)
    });
    let explored = explored.unwrap();
    let Explored { states, ends, duplicates, .. } = explored;
    assert!(states > 1_000 && ends > 10 && duplicates > 1_000, "{explored:?}");
    let ends = seen.into_inner();
    for (state, payment) in [
        ("Completed", "approved"),
        ("Expired", "refunded"),
        ("Expired", "refundFailed"),
        ("Expired", "declined"),
        ("Expired", "failed"),
        ("Expired", "open"),
    ] {
        assert!(ends.contains(&(state.to_owned(), payment.to_owned())), "{state} {payment} is not in {ends:?}");
    }
}

#[test]
fn given_two_orders_when_everything_is_tried_then_they_do_not_meet() {
    let explore = payments(Explore::<Order>::new().message(&order(1)).message(&order(2)).message(&overdue(1, NOW)));
    let explored = explore.run(|end| {
        let other = end.instance(id(2)).ok_or("the second order is gone")?;
        if other.state == OrderState::Expired {
            return Err("the second order expired for the first".to_owned());
        }
        each_order_is_sound(end)
    });
    assert!(explored.unwrap().ends > 10);
}

#[test]
fn given_the_inbox_is_taken_out_when_everything_is_tried_then_a_second_refund_is_found() {
    let explore = payments(Explore::<Order>::new().message(&order(1)).message(&overdue(1, NOW)));
    let error = explore.without_inbox().run(each_order_is_sound).unwrap_err();
    insta::assert_snapshot!("without_inbox", error);
}

/// Which defect is planted in the table.
const EXPIRES_COMPLETED: u8 = 0;
const COMPLETES_AGAIN: u8 = 1;

/// An order whose table has a defect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Planted<const DEFECT: u8> {
    changed_at: DateTime<Utc>,
}

impl<const DEFECT: u8> Saga for Planted<DEFECT> {
    const NAME: &'static str = "order";
    const ENDPOINT: &'static str = ORDER_SAGA;
    type State = OrderState;
    type Event = OrderEvent;
    type Row = OrderRow;

    fn correlate(event: OrderEvent) -> Correlation {
        Order::correlate(event)
    }

    fn table(state: OrderState, event: OrderEvent) -> Rule<Self> {
        use OrderEvent::*;
        use OrderState::*;
        match (state, event) {
            (New, OrderSubmitted(on)) => on.to(Pending, submit),
            (Pending, OrderCreated(on)) => on.to(Processing, pay),
            (Processing, PaymentApproved(on)) => on.to(Completed, complete),
            (Pending | Processing, OrderOverdue(on)) => on.to(Expired, expire),
            (Expired, PaymentApproved(on)) => on.stay(refund),

            (Completed, OrderOverdue(on)) if DEFECT == EXPIRES_COMPLETED => on.to(Expired, expire),
            (Processing, OrderSubmitted(on)) if DEFECT == COMPLETES_AGAIN => on.stay(pay_again),
            (Completed, PaymentApproved(on)) if DEFECT == COMPLETES_AGAIN => on.stay(complete),

            (New, OrderCreated(_) | OrderOverdue(_)) => reject("no such order"),
            (New, PaymentApproved(_) | PaymentDeclined(_) | PaymentFailed(_)) => reject("no such order"),
            (Pending, PaymentApproved(_) | PaymentDeclined(_) | PaymentFailed(_)) => defer("its payment has not begun"),
            (Processing | Completed | Expired, OrderCreated(_)) => ignore(),
            (Pending | Processing | Completed | Expired, OrderSubmitted(_)) => ignore(),
            (Processing | Completed | Expired, PaymentDeclined(_) | PaymentFailed(_)) => ignore(),
            (Completed, PaymentApproved(_)) | (Completed | Expired, OrderOverdue(_)) => ignore(),
            (New | Pending | Processing | Completed | Expired, PaymentRefunded(_) | RefundFailed(_)) => ignore(),
        }
    }
}

type Done<const DEFECT: u8> = Effects<Planted<DEFECT>>;

fn submit<const D: u8>(_: &mut Planted<D>, event: &OrderSubmitted, ctx: &Ctx<'_>) -> Done<D> {
    let row = StoredOrder { id: event.order_id, submission_id: ctx.message_id, ..crate::fixture::stored(1, "ann", 0) };
    let (order_id, user_id, total) = (event.order_id, event.user_id.clone(), event.total);
    Effects::none().write(OrderRow::Submitted(row)).publish(OrderCreated { order_id, user_id, total })
}
fn pay<const D: u8>(_: &mut Planted<D>, event: &OrderCreated, ctx: &Ctx<'_>) -> Done<D> {
    let payment = ProcessPayment { order_id: event.order_id, amount: event.total };
    status(OrderStatus::Processing, ctx).call(payment)
}
fn pay_again<const D: u8>(_: &mut Planted<D>, event: &OrderSubmitted, _: &Ctx<'_>) -> Done<D> {
    Effects::none().call(ProcessPayment { order_id: event.order_id, amount: event.total })
}
fn complete<const D: u8>(_: &mut Planted<D>, event: &PaymentApproved, ctx: &Ctx<'_>) -> Done<D> {
    let (order_id, user_id, total) = (event.order_id, "ann".to_owned(), event.amount);
    status(OrderStatus::Completed, ctx).publish(OrderCompleted { order_id, user_id, total })
}
fn expire<const D: u8>(_: &mut Planted<D>, event: &OrderOverdue, ctx: &Ctx<'_>) -> Done<D> {
    let (order_id, user_id, total, since) = (event.order_id, "ann".to_owned(), money("99.80"), event.since);
    status(OrderStatus::Expired, ctx).publish(OrderExpired { order_id, user_id, total, since })
}
fn refund<const D: u8>(_: &mut Planted<D>, event: &PaymentApproved, _: &Ctx<'_>) -> Done<D> {
    let (order_id, amount, reference) = (event.order_id, event.amount, event.reference.clone());
    Effects::none().call(RefundPayment { order_id, amount, reference })
}
fn status<const D: u8>(status: OrderStatus, ctx: &Ctx<'_>) -> Done<D> {
    Effects::none().write(OrderRow::Status { id: ctx.correlation_id, status, at: ctx.now })
}

fn found<const DEFECT: u8>(explore: &Explore<Planted<DEFECT>>) -> ExploreError {
    let error = explore.run(each_order_is_sound).unwrap_err();
    assert!(matches!(error, ExploreError::Violation(_)), "{error}");
    error
}

#[test]
fn given_a_table_that_expires_a_completed_order_when_everything_is_tried_then_the_shortest_way_is_printed() {
    let explore = payments(Explore::new().message(&order(1)).message(&overdue(1, NOW)));
    insta::assert_snapshot!("expires_completed", found::<EXPIRES_COMPLETED>(&explore));
}

#[test]
fn given_a_table_that_completes_twice_when_a_copy_comes_under_a_new_id_then_the_shortest_way_is_printed() {
    let explore = payments(Explore::new().envelope(Envelope::new(id(1_000_001), &order(1)))).copies();
    insta::assert_snapshot!("completes_again", found::<COMPLETES_AGAIN>(&explore));
}
