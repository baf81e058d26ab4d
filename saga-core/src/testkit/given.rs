//! Given, when, then: one step of a saga, synchronous, without a store.

use std::fmt::{Debug, Write};
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::activity::Activity;
use crate::alphabet::{Accepts, Finite};
use crate::effect::{Effect, Effects, Outgoing};
use crate::machine::{Machine, Step};
use crate::message::{Message, derive_id};
use crate::saga::{Ctx, Instance, Saga};

/// Begins a test of one step: an instance that nothing has happened to, at a fixed time.
///
/// ```text
/// given::<Order>().in_state(Pending).with(order).when(&OrderCreated { id })
///     .then_state(Processing).then_calls(&ProcessPayment { id, amount }).then_nothing_else();
/// ```
pub fn given<S: Saga>() -> Given<S> {
    Given {
        machine: Machine::new(),
        instance: Instance::new(Uuid::from_u128(1)),
        now: DateTime::UNIX_EPOCH,
        message_id: Uuid::from_u128(2),
        initiator_id: None,
        attempt: 1,
        user: None,
    }
}

/// What is so before the step.
pub struct Given<S: Saga> {
    machine: Machine<S>,
    instance: Instance<S>,
    now: DateTime<Utc>,
    message_id: Uuid,
    initiator_id: Option<Uuid>,
    attempt: u32,
    user: Option<String>,
}

impl<S: Saga> Given<S> {
    /// The instance's state.
    #[must_use]
    pub fn in_state(mut self, state: S::State) -> Self {
        self.instance.state = state;
        self
    }

    /// The instance's data.
    #[must_use]
    pub fn with(mut self, data: S) -> Self {
        self.instance.data = data;
        self
    }

    /// The instance's id.
    #[must_use]
    pub fn id(mut self, id: Uuid) -> Self {
        self.instance.id = id;
        self
    }

    /// The time; the beginning of 1970 if not said.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.now = now;
        self
    }

    /// The handled message's id, from which other ids are derived.
    #[must_use]
    pub fn message_id(mut self, id: Uuid) -> Self {
        self.message_id = id;
        self
    }

    /// What caused the handled message.
    #[must_use]
    pub fn initiator(mut self, id: Uuid) -> Self {
        self.initiator_id = Some(id);
        self
    }

    /// Which attempt at the message this is; the first if not said.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The user on whose behalf.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The instance has handled this event before.
    ///
    /// # Panics
    /// When it does not move by it: then the test's ground is not what it says.
    #[must_use]
    #[track_caller]
    pub fn after<E: Message>(self, event: &E) -> Self
    where
        S::Event: Accepts<E>,
    {
        let then = self.when(event);
        let Step::Moved(_) = then.step else {
            then.fail("the step before it", "moved", &outcome(&then.step));
        };
        // Another message is another id, as it would be in life.
        let message_id = derive_id(then.given.message_id, E::NAME);
        Self { instance: then.instance, message_id, ..then.given }
    }

    /// The event comes.
    pub fn when<E: Message>(self, event: &E) -> Then<S>
    where
        S::Event: Accepts<E>,
    {
        let mut instance = self.instance.clone();
        let ctx = Ctx {
            now: self.now,
            message_id: self.message_id,
            correlation_id: instance.id,
            conversation_id: self.message_id,
            initiator_id: self.initiator_id,
            attempt: self.attempt,
            user: self.user.as_deref(),
        };
        let step = self.machine.step(&mut instance, event, &ctx);
        let left = match &step {
            Step::Moved(effects) => effects.as_slice().to_vec(),
            _ => Vec::new(),
        };
        let what = format!("{} in {}, when {} comes", S::NAME, self.instance.state.name(), E::NAME);
        Then { given: self, instance, step, left, what }
    }
}

/// What is so after the step. Every check returns it, so that checks are a chain.
pub struct Then<S: Saga> {
    given: Given<S>,
    instance: Instance<S>,
    step: Step<S>,
    /// The effects that no check has asked for yet.
    left: Vec<Effect<S::Row>>,
    what: String,
}

impl<S: Saga> Then<S> {
    /// The instance stands in `state`.
    #[track_caller]
    pub fn then_state(self, state: S::State) -> Self {
        let (expected, actual) = (state.name(), self.instance.state.name());
        let holds = state == self.instance.state;
        self.check(holds, "the state", expected, actual)
    }

    /// The instance's data satisfies the check, which says what is wrong by an assertion of its own.
    #[track_caller]
    pub fn then_data(self, check: impl FnOnce(&S)) -> Self {
        check(&self.instance.data);
        self
    }

    /// It publishes the event.
    #[track_caller]
    pub fn then_publishes<M: Message>(self, event: &M) -> Self {
        self.takes(&Effect::Publish(Outgoing::of(event)))
    }

    /// It sends the command to the endpoint.
    #[track_caller]
    pub fn then_sends<M: Message>(self, endpoint: &'static str, command: &M) -> Self {
        self.takes(&Effect::Send { endpoint: endpoint.into(), message: Outgoing::of(command) })
    }

    /// It answers the message that it handles.
    #[track_caller]
    pub fn then_responds<M: Message>(self, answer: &M) -> Self {
        self.takes(&Effect::Respond(Outgoing::of(answer)))
    }

    /// It calls the activity.
    #[track_caller]
    pub fn then_calls<A: Activity>(self, command: &A) -> Self {
        self.takes(&Effect::Call { endpoint: A::ENDPOINT, message: Outgoing::of(command) })
    }

    /// It starts the timer, whatever its message says.
    #[track_caller]
    pub fn then_schedules<M: Message>(self, after: Duration) -> Self {
        let same = |effect: &Effect<S::Row>| match effect {
            Effect::Schedule { message, after: it } => message.name == M::NAME && *it == after,
            _ => false,
        };
        self.takes_what(same, &format!("schedule {} after {after:?}", M::NAME))
    }

    /// It cancels the timer.
    #[track_caller]
    pub fn then_unschedules<M: Message>(self) -> Self {
        self.takes(&Effect::Unschedule { name: M::NAME })
    }

    /// It writes the row.
    #[track_caller]
    pub fn then_writes(self, row: impl Into<S::Row>) -> Self {
        self.takes(&Effect::Write(row.into()))
    }

    /// It moved, and every effect was asked for by a check before this one.
    #[track_caller]
    pub fn then_nothing_else(self) -> Self {
        let moved = matches!(self.step, Step::Moved(_));
        let actual = if moved { lines(&self.left) } else { outcome(&self.step) };
        let holds = moved && self.left.is_empty();
        self.check(holds, "what is left", "nothing else", &actual)
    }

    /// The table ignores the event.
    #[track_caller]
    pub fn then_ignored(self) -> Self {
        self.came_to("ignored")
    }

    /// The table defers the event, for this reason.
    #[track_caller]
    pub fn then_deferred(self, why: &str) -> Self {
        self.came_to(&format!("deferred: {why}"))
    }

    /// The table rejects the event, for this reason.
    #[track_caller]
    pub fn then_rejected(self, why: &str) -> Self {
        self.came_to(&format!("rejected: {why}"))
    }

    /// The instance after the step, for checks of one's own.
    pub fn into_instance(self) -> Instance<S> {
        self.instance
    }

    /// What the step came to, for checks of one's own.
    pub fn into_step(self) -> Step<S> {
        self.step
    }

    #[track_caller]
    fn came_to(self, expected: &str) -> Self {
        let actual = outcome(&self.step);
        self.check(actual == expected, "the outcome", expected, &actual)
    }

    #[track_caller]
    fn takes(self, effect: &Effect<S::Row>) -> Self {
        self.takes_what(|it| it == effect, &line(effect))
    }

    #[track_caller]
    fn takes_what(mut self, same: impl Fn(&Effect<S::Row>) -> bool, expected: &str) -> Self {
        match self.left.iter().position(same) {
            Some(place) => {
                self.left.remove(place);
                self
            }
            None => {
                let actual = match &self.step {
                    Step::Moved(_) if self.left.is_empty() => "nothing that was not asked for before".to_owned(),
                    Step::Moved(_) => lines(&self.left),
                    other => outcome(other),
                };
                self.fail("an effect", expected, &actual)
            }
        }
    }

    #[track_caller]
    fn check(self, holds: bool, what: &str, expected: &str, actual: &str) -> Self {
        if !holds {
            self.fail(what, expected, actual);
        }
        self
    }

    #[track_caller]
    fn fail(&self, what: &str, expected: &str, actual: &str) -> ! {
        let table = side_by_side(expected, actual);
        panic!("{}: {what} is not as expected\n{table}", self.what);
    }
}

/// What a step came to, in the words of the checks.
fn outcome<S: Saga>(step: &Step<S>) -> String {
    match step {
        Step::Moved(effects) => format!("moved\n{}", moved(effects)),
        Step::Ignored => "ignored".to_owned(),
        Step::Deferred(why) => format!("deferred: {why}"),
        Step::Rejected(why) => format!("rejected: {why}"),
    }
}

fn moved<S: Saga>(effects: &Effects<S>) -> String {
    lines(effects.as_slice())
}

fn lines<R: Debug>(effects: &[Effect<R>]) -> String {
    effects.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One effect in one line.
fn line<R: Debug>(effect: &Effect<R>) -> String {
    match effect {
        Effect::Publish(it) => format!("publish {} {}", it.name, it.body.as_str()),
        Effect::Send { endpoint, message } => format!("send to {endpoint} {} {}", message.name, message.body.as_str()),
        Effect::Respond(it) => format!("respond {} {}", it.name, it.body.as_str()),
        Effect::Call { message, .. } => format!("call {} {}", message.name, message.body.as_str()),
        Effect::Schedule { message, after } => format!("schedule {} after {after:?}", message.name),
        Effect::Unschedule { name } => format!("unschedule {name}"),
        Effect::Write(row) => format!("write {row:?}"),
    }
}

/// Two texts in two columns, line by line.
fn side_by_side(expected: &str, actual: &str) -> String {
    let width = expected.lines().chain(["expected"]).map(|line| line.chars().count()).max().unwrap_or(0);
    let (mut left, mut right) = (expected.lines(), actual.lines());
    let mut out = format!("  {:width$} | actual", "expected");
    loop {
        match (left.next(), right.next()) {
            (None, None) => return out,
            (l, r) => {
                let _ = write!(out, "\n  {:width$} | {}", l.unwrap_or_default(), r.unwrap_or_default());
            }
        }
    }
}
