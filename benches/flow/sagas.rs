//! Sagas that do as little as a saga can, so that what is measured is everything around them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use saga_core::{Correlation, Ctx, Effects, Message, Rule, Saga, events, ignore, reject, states};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! messages {
    ($($name:ident { $($field:ident: $type:ty),+ })+) => { $(
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(crate) struct $name { $(pub(crate) $field: $type),+ }
        impl Message for $name { const NAME: &'static str = concat!("Bench:", stringify!($name)); }
    )+ };
}
messages! {
    Ask { echo_id: Uuid, text: String }
    Answer { echo_id: Uuid, text: String }
    Tick { counter_id: Uuid, amount: u64 }
    Set { alarm_id: Uuid, due: DateTime<Utc> }
    Rang { alarm_id: Uuid }
}

states! { pub(crate) enum EchoState { New, Answered } }
events! { pub(crate) enum EchoEvent { Ask } }

/// Answers what it is asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Echo {
    text: String,
}

impl Saga for Echo {
    const NAME: &'static str = "bench-echo";
    const ENDPOINT: &'static str = "bench-echo-saga";
    type State = EchoState;
    type Event = EchoEvent;
    type Row = ();

    fn table(state: EchoState, event: EchoEvent) -> Rule<Self> {
        match (state, event) {
            (EchoState::New, EchoEvent::Ask(on)) => on.to(EchoState::Answered, answer),
            (EchoState::Answered, EchoEvent::Ask(_)) => ignore(),
        }
    }

    fn correlate(event: EchoEvent) -> Correlation {
        match event {
            EchoEvent::Ask(on) => on.by(|it| it.echo_id),
        }
    }
}

fn answer(echo: &mut Echo, event: &Ask, _: &Ctx<'_>) -> Effects<Echo> {
    echo.text.clone_from(&event.text);
    Effects::none().respond(Answer { echo_id: event.echo_id, text: event.text.clone() })
}

states! { pub(crate) enum CounterState { New, Counting } }
events! { pub(crate) enum CounterEvent { Tick } }

/// Adds up what it hears.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) total: u64,
}

impl Saga for Counter {
    const NAME: &'static str = "bench-counter";
    const ENDPOINT: &'static str = "bench-counter-saga";
    type State = CounterState;
    type Event = CounterEvent;
    type Row = ();

    fn table(state: CounterState, event: CounterEvent) -> Rule<Self> {
        match (state, event) {
            (CounterState::New, CounterEvent::Tick(on)) => on.to(CounterState::Counting, count),
            (CounterState::Counting, CounterEvent::Tick(on)) => on.stay(count),
        }
    }

    fn correlate(event: CounterEvent) -> Correlation {
        match event {
            CounterEvent::Tick(on) => on.by(|it| it.counter_id),
        }
    }
}

fn count(counter: &mut Counter, event: &Tick, _: &Ctx<'_>) -> Effects<Counter> {
    counter.total += event.amount;
    Effects::none()
}

states! { pub(crate) enum AlarmState { New, Set, Rung } }
events! { pub(crate) enum AlarmEvent { Set, Rang } }

/// Rings when it is due.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alarm {
    due: DateTime<Utc>,
}

impl Saga for Alarm {
    const NAME: &'static str = "bench-alarm";
    const ENDPOINT: &'static str = "bench-alarm-saga";
    type State = AlarmState;
    type Event = AlarmEvent;
    type Row = ();

    fn table(state: AlarmState, event: AlarmEvent) -> Rule<Self> {
        match (state, event) {
            (AlarmState::New, AlarmEvent::Set(on)) => on.to(AlarmState::Set, set),
            (AlarmState::New, AlarmEvent::Rang(_)) => reject("no such alarm"),
            (AlarmState::Set, AlarmEvent::Rang(on)) => on.to(AlarmState::Rung, ring),
            (AlarmState::Set | AlarmState::Rung, AlarmEvent::Set(_)) => ignore(),
            (AlarmState::Rung, AlarmEvent::Rang(_)) => ignore(),
        }
    }

    fn correlate(event: AlarmEvent) -> Correlation {
        match event {
            AlarmEvent::Set(on) => on.by(|it| it.alarm_id),
            AlarmEvent::Rang(on) => on.by(|it| it.alarm_id),
        }
    }
}

fn set(alarm: &mut Alarm, event: &Set, ctx: &Ctx<'_>) -> Effects<Alarm> {
    alarm.due = event.due;
    let after = (event.due - ctx.now).to_std().unwrap_or(Duration::ZERO);
    Effects::none().schedule(Rang { alarm_id: event.alarm_id }, after)
}

fn ring(_: &mut Alarm, _: &Rang, _: &Ctx<'_>) -> Effects<Alarm> {
    Effects::none()
}
