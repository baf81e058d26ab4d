//! The pure heart: a step, an envelope, a picture. `cargo bench --bench step`

#![allow(missing_docs, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use chrono::DateTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use saga_core::{
    Correlation, Ctx, Effects, Envelope, Instance, Machine, Message, Rule, Saga, events, ignore, reject, states,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! messages {
    ($($name:ident),+) => { $(
        #[derive(Debug, Clone, Serialize, Deserialize)]
        struct $name { order_id: Uuid, total: String }
        impl Message for $name { const NAME: &'static str = concat!("Bench:", stringify!($name)); }
    )+ };
}
messages!(Submitted, Approved, Completed, Late);

states! { enum OrderState { New, Processing, Completed } }
events! { enum OrderEvent { Submitted, Approved, Late } }

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    total: String,
    approvals: u32,
}

impl Saga for Order {
    const NAME: &'static str = "bench-order";
    const ENDPOINT: &'static str = "bench-order-saga";
    type State = OrderState;
    type Event = OrderEvent;
    type Row = ();

    fn correlate(event: OrderEvent) -> Correlation {
        match event {
            OrderEvent::Submitted(on) => on.by(|it| it.order_id),
            OrderEvent::Approved(on) => on.by(|it| it.order_id),
            OrderEvent::Late(on) => on.by(|it| it.order_id),
        }
    }

    fn table(state: OrderState, event: OrderEvent) -> Rule<Self> {
        use OrderEvent::{Approved, Late, Submitted};
        use OrderState::{Completed, New, Processing};
        match (state, event) {
            (New, Submitted(on)) => on.to(Processing, submit),
            (New, Approved(_) | Late(_)) => reject("no such order"),
            (Processing, Approved(on)) => on.stay(approve),
            (Processing, Late(on)) => on.to(Completed, complete),
            (Processing | Completed, Submitted(_)) | (Completed, Approved(_) | Late(_)) => ignore(),
        }
    }
}

fn submit(order: &mut Order, event: &Submitted, _: &Ctx<'_>) -> Effects<Order> {
    order.total.clone_from(&event.total);
    let late = Late { order_id: event.order_id, total: event.total.clone() };
    Effects::none().schedule(late, Duration::from_secs(600))
}

fn approve(order: &mut Order, _: &Approved, _: &Ctx<'_>) -> Effects<Order> {
    order.approvals += 1;
    Effects::none()
}

fn complete(_: &mut Order, event: &Late, _: &Ctx<'_>) -> Effects<Order> {
    Effects::none().publish(Completed { order_id: event.order_id, total: event.total.clone() })
}

const ID: Uuid = Uuid::from_u128(7);

fn ctx() -> Ctx<'static> {
    Ctx {
        now: DateTime::UNIX_EPOCH,
        message_id: ID,
        correlation_id: ID,
        conversation_id: ID,
        initiator_id: None,
        attempt: 1,
        user: Some("ada"),
    }
}

fn steps(criterion: &mut Criterion) {
    let machine = Machine::<Order>::new();
    let total = "49.90".to_owned();
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements(1));
    let approved = Approved { order_id: ID, total: total.clone() };
    let mut instance = Instance { state: OrderState::Processing, ..Instance::<Order>::new(ID) };
    group.bench_function("stay, no effect", |bencher| {
        bencher.iter(|| machine.step(black_box(&mut instance), black_box(&approved), &ctx()));
    });
    let late = Late { order_id: ID, total: total.clone() };
    group.bench_function("move, one message published", |bencher| {
        bencher.iter(|| {
            instance.state = OrderState::Processing;
            machine.step(black_box(&mut instance), black_box(&late), &ctx())
        });
    });
    let envelope = Envelope::new(ID, &approved);
    group.bench_function("read by its envelope, then stay", |bencher| {
        let mut instance = Instance { state: OrderState::Processing, ..Instance::<Order>::new(ID) };
        bencher.iter(|| {
            let event = machine.read(black_box(&envelope)).ok()?;
            Some(machine.step_event(&mut instance, &event, &ctx()))
        });
    });
    group.finish();
}

fn envelopes(criterion: &mut Criterion) {
    let submitted = Submitted { order_id: ID, total: "49.90".to_owned() };
    let envelope = Envelope::new(ID, &submitted).for_user("ada").correlated(ID);
    let json = serde_json::to_string(&envelope).unwrap_or_default();
    let mut group = criterion.benchmark_group("envelope");
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| serde_json::to_vec(black_box(&envelope))));
    group.bench_function("decode", |bencher| bencher.iter(|| serde_json::from_str::<Envelope>(black_box(&json))));
    group.finish();
}

fn graphs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("graph");
    group.bench_function("machine", |bencher| bencher.iter(Machine::<Order>::new));
    let machine = Machine::<Order>::new();
    group.bench_function("mermaid", |bencher| bencher.iter(|| machine.mermaid()));
    group.bench_function("table", |bencher| bencher.iter(|| machine.table()));
    group.finish();
}

criterion_group!(benches, steps, envelopes, graphs);
criterion_main!(benches);
