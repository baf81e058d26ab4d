//! The impure side: what performs an activity, and what consumes an event.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::activity::Activity;
use crate::clock::Clock;
use crate::commit::Name;
use crate::effect::Outgoing;
use crate::failure::Failure;
use crate::message::{Envelope, Message};
use crate::saga::Row;

/// Performs an activity's command.
///
/// It runs at least once: a crash, or a lost connection, between its work and the commit of its outcome repeats it,
/// with the same [`HandlerContext::idempotency_key`]. Failures are retried by the endpoint's policy.
#[async_trait]
pub trait ActivityHandler<A: Activity>: Send + Sync + 'static {
    /// Does the work.
    ///
    /// # Errors
    /// [`Failure::retry`] when trying again may help, [`Failure::permanent`] when not.
    async fn execute(&self, command: &A, context: &HandlerContext) -> Result<A::Outcome, Failure>;
}

/// Consumes an event.
///
/// It runs at least once, as an [`ActivityHandler`] does; its rows and messages are committed together with the note
/// that the event is handled, so they are written once.
#[async_trait]
pub trait Consumer<M: Message>: Send + Sync + 'static {
    /// The rows that it writes; `()` if it writes none.
    type Row: Row;

    /// Does the work, and says what to write and to send.
    ///
    /// # Errors
    /// As [`ActivityHandler::execute`].
    async fn consume(&self, event: &M, context: &HandlerContext) -> Result<Output<Self::Row>, Failure>;
}

/// What a consumer asks for: rows to write and messages to send, in one transaction.
#[derive(Debug)]
#[must_use = "an output does nothing unless the consumer returns it"]
pub struct Output<R> {
    pub(crate) rows: Vec<R>,
    pub(crate) messages: Vec<(Option<Name>, Outgoing)>,
    pub(crate) answer: Option<Outgoing>,
}

impl<R> Output<R> {
    /// Nothing is asked for.
    pub fn none() -> Self {
        Self { rows: Vec::new(), messages: Vec::new(), answer: None }
    }

    /// Writes a row of the domain, through the writer that the store was given for it.
    pub fn write(mut self, row: R) -> Self {
        self.rows.push(row);
        self
    }

    /// Publishes an event.
    pub fn publish<M: Message>(mut self, message: &M) -> Self {
        self.messages.push((None, Outgoing::of(message)));
        self
    }

    /// Answers the message that is consumed: the answer goes to the response address that it names, as part of the same
    /// request; it is published where it names none. The last answer counts.
    pub fn respond<M: Message>(mut self, message: &M) -> Self {
        self.answer = Some(Outgoing::of(message));
        self
    }

    /// Sends a command to one endpoint.
    pub fn send<M: Message>(mut self, endpoint: impl Into<Name>, message: &M) -> Self {
        self.messages.push((Some(endpoint.into()), Outgoing::of(message)));
        self
    }
}

/// What a handler may know of the message in its hands.
#[derive(Clone)]
pub struct HandlerContext {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl HandlerContext {
    /// The context of `envelope`: made by the runtime, and by unit tests of handlers.
    pub fn new(envelope: Arc<Envelope>, clock: Arc<dyn Clock>) -> Self {
        Self { envelope, clock }
    }

    /// The key under which an outside party can tell a repeated call from a new one: the same for every attempt at
    /// this message, after crashes and redrives too.
    pub fn idempotency_key(&self) -> Uuid {
        self.envelope.message_id
    }

    /// The message's id.
    pub fn message_id(&self) -> Uuid {
        self.envelope.message_id
    }

    /// The saga instance, or other unit, that the message belongs to.
    pub fn correlation_id(&self) -> Option<Uuid> {
        self.envelope.correlation_id
    }

    /// The conversation that the message belongs to.
    pub fn conversation_id(&self) -> Uuid {
        self.envelope.conversation()
    }

    /// 1 on the first delivery, one more for each retry.
    pub fn attempt(&self) -> u32 {
        self.envelope.attempt()
    }

    /// The user on whose behalf the conversation began.
    pub fn user(&self) -> Option<&str> {
        self.envelope.user()
    }

    /// Now.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Waits by the runtime's clock, which a test may move.
    pub async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}
