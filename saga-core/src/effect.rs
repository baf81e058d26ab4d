//! What a transition asks for: plain data, carried out by the runtime after the transition is committed.

use std::borrow::Cow;
use std::time::Duration;

use crate::activity::{AcceptedBy, Activity};
use crate::alphabet::Accepts;
use crate::message::{Body, Message};
use crate::saga::{Row, Saga};

/// A message on its way out: its type's name, and its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// [`Message::NAME`] of its type.
    pub name: &'static str,
    /// The body, already written as JSON.
    pub body: Body,
}

impl Outgoing {
    /// Writes `message`.
    ///
    /// # Panics
    /// When the type's `Serialize` fails, which is a defect of the type. Inside a handler the runtime catches the
    /// panic and counts it as a failure of the message that was handled.
    pub fn of<M: Message>(message: &M) -> Self {
        Self { name: M::NAME, body: Body::of(message) }
    }
}

/// One thing that a transition asks for. `R` is the saga's own row type.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect<R> {
    /// Publish an event to whoever subscribed to it.
    Publish(Outgoing),
    /// Send a command to one endpoint.
    Send {
        /// The endpoint's name.
        endpoint: Cow<'static, str>,
        /// The command.
        message: Outgoing,
    },
    /// Answer whoever sent the message that is handled.
    Respond(Outgoing),
    /// Call an activity; its outcome comes back to this saga.
    Call {
        /// The activity's endpoint.
        endpoint: &'static str,
        /// The activity's command.
        message: Outgoing,
    },
    /// Deliver a message to this instance later. It replaces a timer of the same message type.
    Schedule {
        /// What will be delivered.
        message: Outgoing,
        /// How long after the handled message's commit time.
        after: Duration,
    },
    /// Cancel the timer of that message type; no timer is no mistake.
    Unschedule {
        /// [`Message::NAME`] of the timer's message type.
        name: &'static str,
    },
    /// Write a row of the domain in the transaction that moves the saga.
    Write(R),
}

/// Everything that one transition asks for, in order. Nothing happens until it is returned and committed.
#[must_use = "effects do nothing unless the handler returns them"]
#[derive(Debug, Clone, PartialEq)]
pub struct Effects<S: Saga>(Vec<Effect<S::Row>>);

impl<S: Saga> Default for Effects<S> {
    fn default() -> Self {
        Self::none()
    }
}

impl<S: Saga> Effects<S> {
    /// Nothing is asked for.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Publishes an event, at least once and always under the same message id, if and only if the transition commits.
    pub fn publish<M: Message>(self, message: M) -> Self {
        self.and(Effect::Publish(Outgoing::of(&message)))
    }

    /// Sends a command to one endpoint, with the same promise as [`Effects::publish`].
    pub fn send<M: Message>(self, endpoint: impl Into<Cow<'static, str>>, message: M) -> Self {
        self.and(Effect::Send { endpoint: endpoint.into(), message: Outgoing::of(&message) })
    }

    /// Answers the message that is handled: the answer goes to the response address that it names, as part of the same
    /// request; it is published where it names none.
    pub fn respond<M: Message>(self, message: M) -> Self {
        self.and(Effect::Respond(Outgoing::of(&message)))
    }

    /// Calls an activity. Exactly one of its outcomes, or its failure message, comes back; the saga must have a
    /// column for each of them.
    pub fn call<A: Activity>(self, activity: A) -> Self
    where
        A::Outcome: AcceptedBy<S::Event>,
        S::Event: Accepts<A::Failed>,
    {
        self.and(Effect::Call { endpoint: A::ENDPOINT, message: Outgoing::of(&activity) })
    }

    /// Starts a timer: `message` is delivered to this instance after `after`. A timer of the same message type that
    /// is still running is replaced and never fires.
    pub fn schedule<M: Message>(self, message: M, after: Duration) -> Self
    where
        S::Event: Accepts<M>,
    {
        self.and(Effect::Schedule { message: Outgoing::of(&message), after })
    }

    /// Cancels the timer of message type `M`: it never fires after this transition is committed, not even when it
    /// was already on its way.
    pub fn unschedule<M: Message>(self) -> Self
    where
        S::Event: Accepts<M>,
    {
        self.and(Effect::Unschedule { name: M::NAME })
    }

    /// Writes a domain row in the same transaction, through the writer that the store was given for it.
    pub fn write(self, row: impl Into<S::Row>) -> Self
    where
        S::Row: Row,
    {
        self.and(Effect::Write(row.into()))
    }

    /// What is asked for, in order.
    pub fn as_slice(&self) -> &[Effect<S::Row>] {
        &self.0
    }

    pub(crate) fn into_vec(self) -> Vec<Effect<S::Row>> {
        self.0
    }

    fn and(mut self, effect: Effect<S::Row>) -> Self {
        self.0.push(effect);
        self
    }
}
