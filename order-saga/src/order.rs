//! The order saga: its table, its data, its transitions.

use OrderEvent::*;
use OrderState::*;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use saga_core::{Correlation, Ctx, Effects, Rule, Saga, defer, events, ignore, reject, states};
use serde::{Deserialize, Serialize};

use crate::messages::{
    OrderCompleted, OrderCreated, OrderExpired, OrderOverdue, OrderSubmitted, PaymentApproved, PaymentDeclined,
    PaymentFailed, PaymentRefunded, ProcessPayment, RefundFailed, RefundPayment,
};
use crate::orders::{OrderRow, OrderStatus, StoredOrder};
use crate::payment::Payment;

/// The endpoint on which the order saga hears its events.
pub const ORDER_SAGA: &str = "order-saga";

states! {
    /// Where an order stands.
    pub enum OrderState { New, Pending, Processing, Completed, Expired }
}

events! {
    /// What an order hears.
    pub enum OrderEvent {
        OrderSubmitted, OrderCreated, PaymentApproved, PaymentDeclined, PaymentFailed, OrderOverdue, PaymentRefunded,
        RefundFailed,
    }
}

impl Saga for Order {
    const NAME: &'static str = "order";
    const ENDPOINT: &'static str = ORDER_SAGA;
    type State = OrderState;
    type Event = OrderEvent;
    type Row = OrderRow;

    #[rustfmt::skip] // One row a line.
    fn table(state: OrderState, event: OrderEvent) -> Rule<Self> {
        match (state, event) {
            (New, OrderSubmitted(on)) => on.to(Pending, submit),
            (New, OrderCreated(_) | OrderOverdue(_)) => reject("no such order"),
            (New, PaymentApproved(_) | PaymentDeclined(_) | PaymentFailed(_)) => reject("no such order"),
            (New, PaymentRefunded(_) | RefundFailed(_)) => reject("no such order"),

            (Pending, OrderSubmitted(_)) => ignore(),
            (Pending, OrderCreated(on)) => on.to(Processing, start_payment),
            (Pending, PaymentApproved(_) | PaymentDeclined(_) | PaymentFailed(_)) => defer("its payment has not begun"),
            (Pending, OrderOverdue(on)) => on.to_one_of([Expired, Pending], expire_pending),
            (Pending, PaymentRefunded(_) | RefundFailed(_)) => reject("no refund was asked for"),

            (Processing, OrderSubmitted(_) | OrderCreated(_)) => ignore(),
            (Processing, PaymentApproved(on)) => on.to(Completed, complete),
            (Processing, PaymentDeclined(on)) => on.stay(note_declined),
            (Processing, PaymentFailed(on)) => on.stay(show_fault),
            (Processing, OrderOverdue(on)) => on.to_one_of([Expired, Processing], expire_processing),
            (Processing, PaymentRefunded(_) | RefundFailed(_)) => reject("no refund was asked for"),

            (Completed, OrderSubmitted(_) | OrderCreated(_)) => ignore(),
            (Completed, PaymentApproved(_) | PaymentDeclined(_) | PaymentFailed(_) | OrderOverdue(_)) => ignore(),
            (Completed, PaymentRefunded(_) | RefundFailed(_)) => reject("no refund was asked for"),

            (Expired, OrderSubmitted(_) | OrderCreated(_)) => ignore(),
            (Expired, PaymentApproved(on)) => on.stay(refund),
            (Expired, PaymentDeclined(_) | PaymentFailed(_) | OrderOverdue(_)) => ignore(),
            (Expired, PaymentRefunded(on)) => on.stay(note_refunded),
            (Expired, RefundFailed(on)) => on.stay(note_refund_failed),
        }
    }

    fn correlate(event: OrderEvent) -> Correlation {
        match event {
            OrderSubmitted(on) => on.by(|event| event.order_id),
            OrderCreated(on) => on.by(|event| event.order_id),
            PaymentApproved(on) => on.by(|event| event.order_id),
            PaymentDeclined(on) => on.by(|event| event.order_id),
            PaymentFailed(on) => on.by(|event| event.order_id),
            OrderOverdue(on) => on.by(|event| event.order_id),
            PaymentRefunded(on) => on.by(|event| event.order_id),
            RefundFailed(on) => on.by(|event| event.order_id),
        }
    }
}

/// What an order remembers from one message to the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Whose it is.
    pub user_id: String,
    /// The sum of its items.
    pub total: Decimal,
    /// When its status changed last, to the microsecond, as `orders.updated_at` says it too.
    pub changed_at: DateTime<Utc>,
    /// What became of its payment so far.
    pub payment: Payment,
}

fn submit(order: &mut Order, event: &OrderSubmitted, ctx: &Ctx<'_>) -> Effects<Order> {
    let now = ctx.now;
    *order = Order { user_id: event.user_id.clone(), total: event.total, changed_at: now, payment: Payment::Open };
    let row = StoredOrder::submitted(event, ctx.message_id, now);
    let created = OrderCreated { order_id: ctx.correlation_id, user_id: event.user_id.clone(), total: event.total };
    Effects::none().write(OrderRow::Submitted(row)).publish(created)
}

fn start_payment(order: &mut Order, _: &OrderCreated, ctx: &Ctx<'_>) -> Effects<Order> {
    let payment = ProcessPayment { order_id: ctx.correlation_id, amount: order.total };
    order.change(OrderStatus::Processing, ctx).call(payment)
}

fn complete(order: &mut Order, event: &PaymentApproved, ctx: &Ctx<'_>) -> Effects<Order> {
    order.payment = Payment::Approved { reference: event.reference.clone() };
    let completed = OrderCompleted { order_id: ctx.correlation_id, user_id: order.user_id.clone(), total: order.total };
    order.change(OrderStatus::Completed, ctx).publish(completed)
}

fn note_declined(order: &mut Order, event: &PaymentDeclined, _: &Ctx<'_>) -> Effects<Order> {
    order.payment = Payment::Declined { reason: event.reason.clone() };
    Effects::none()
}

fn show_fault(order: &mut Order, event: &PaymentFailed, _: &Ctx<'_>) -> Effects<Order> {
    order.payment = Payment::Failed { fault: event.error.clone() };
    Effects::none()
}

fn expire_pending(order: &mut Order, event: &OrderOverdue, ctx: &Ctx<'_>) -> (OrderState, Effects<Order>) {
    order.expire(event, ctx).map_or((Pending, Effects::none()), |effects| (Expired, effects))
}

fn expire_processing(order: &mut Order, event: &OrderOverdue, ctx: &Ctx<'_>) -> (OrderState, Effects<Order>) {
    order.expire(event, ctx).map_or((Processing, Effects::none()), |effects| (Expired, effects))
}

fn refund(order: &mut Order, event: &PaymentApproved, ctx: &Ctx<'_>) -> Effects<Order> {
    let reference = event.reference.clone();
    order.payment = Payment::Refunding { reference: reference.clone() };
    Effects::none().call(RefundPayment { order_id: ctx.correlation_id, amount: event.amount, reference })
}

fn note_refunded(order: &mut Order, _: &PaymentRefunded, _: &Ctx<'_>) -> Effects<Order> {
    order.payment = Payment::Refunded;
    Effects::none()
}

fn note_refund_failed(order: &mut Order, event: &RefundFailed, _: &Ctx<'_>) -> Effects<Order> {
    order.payment = Payment::RefundFailed { fault: event.error.clone() };
    Effects::none()
}

impl Order {
    /// Expires the order, unless it has moved since the expiry job saw it.
    fn expire(&mut self, event: &OrderOverdue, ctx: &Ctx<'_>) -> Option<Effects<Self>> {
        (event.since == self.changed_at).then(|| {
            let (order_id, user_id) = (ctx.correlation_id, self.user_id.clone());
            let expired = OrderExpired { order_id, user_id, total: self.total, since: self.changed_at };
            self.change(OrderStatus::Expired, ctx).publish(expired)
        })
    }

    /// The status changes now: in the saga's data and, in the same transaction, in `orders`.
    fn change(&mut self, status: OrderStatus, ctx: &Ctx<'_>) -> Effects<Self> {
        self.changed_at = ctx.now;
        Effects::none().write(OrderRow::Status { id: ctx.correlation_id, status, at: self.changed_at })
    }
}
