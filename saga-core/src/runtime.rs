//! The runtime: one way through the house for every message.
//!
//! inbound → gather a batch → load → step (pure) → commit → acknowledge; relay → bus → confirm → settle.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::activity::Activity;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::commit::JournalOutcome;
use crate::handler::{ActivityHandler, Consumer};
use crate::message::{Envelope, Message};
use crate::probe::Probe;
use crate::retry::RetryPolicy;
use crate::saga::Saga;
use crate::store::{Store, StoreError};

/// Collects what a runtime runs.
pub struct RuntimeBuilder {
    _private: (),
}

/// A runtime that is ready to run.
pub struct Runtime {
    _private: (),
}

/// How the handlers of one endpoint are run. The first registration on an endpoint decides for all of it.
#[derive(Debug, Clone, Copy)]
pub struct HandlerOptions {
    /// How many of the endpoint's messages are handled at the same time.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self { concurrency: 64, timeout: Duration::from_secs(30) }
    }
}

impl Runtime {
    /// Begins to build a runtime over a store and a bus.
    pub fn builder(store: Arc<dyn Store>, bus: Arc<dyn Bus>) -> RuntimeBuilder {
        let _ = (store, bus);
        unimplemented!()
    }

    /// The way in from this process: submissions, publications, redrives.
    pub fn client(&self) -> Client {
        unimplemented!()
    }

    /// Runs until `shutdown` completes; then takes no more, finishes what is in hand within the drain limit, and
    /// leaves the rest stored.
    ///
    /// # Errors
    /// When it can not start.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RuntimeError> {
        shutdown.await;
        unimplemented!()
    }
}

impl RuntimeBuilder {
    /// Where time comes from; the machine's clock if not said.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        let _ = clock;
        self
    }

    /// How failed messages are retried.
    #[must_use]
    pub fn retry(self, retry: RetryPolicy) -> Self {
        let _ = retry;
        self
    }

    /// How long a shutdown waits for what is in hand; 10 seconds if not said.
    #[must_use]
    pub fn drain(self, limit: Duration) -> Self {
        let _ = limit;
        self
    }

    /// Who is told of named points; nobody if not said. For crash tests.
    #[must_use]
    pub fn probe(self, probe: Arc<dyn Probe>) -> Self {
        let _ = probe;
        self
    }

    /// Runs a saga on its endpoint.
    #[must_use]
    pub fn saga<S: Saga>(self) -> Self {
        self
    }

    /// Performs an activity on its endpoint.
    #[must_use]
    pub fn activity<A: Activity>(self, handler: impl ActivityHandler<A>, options: HandlerOptions) -> Self {
        let _ = (handler, options);
        self
    }

    /// Consumes an event on `endpoint`.
    #[must_use]
    pub fn consumer<M: Message>(
        self,
        endpoint: &'static str,
        consumer: impl Consumer<M>,
        options: HandlerOptions,
    ) -> Self {
        let _ = (endpoint, consumer, options);
        self
    }

    /// Checks that everything fits together.
    ///
    /// # Errors
    /// When two registrations clash, or the store has no writer for a row type: says which and what to do.
    pub fn build(self) -> Result<Runtime, RuntimeError> {
        unimplemented!()
    }
}

/// Why a runtime can not be built or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The registrations do not fit together: says which, and what to do.
    #[error("{0}")]
    Setup(String),
    /// The bus can not start.
    #[error("the bus can not start: {0}")]
    Bus(#[from] crate::bus::BusError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The way into a runtime from its own process. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    _private: (),
}

/// What became of a submission. It is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It was handled now.
    Handled(JournalOutcome),
    /// A message of that id was handled before; nothing changed.
    Duplicate,
}

/// Why a submission was not taken. Nothing of it is stored.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The runtime has more to do than it can hold: try again later.
    #[error("the saga's endpoint has more to do than it can hold; try again later")]
    Busy,
    /// The runtime is shutting down, or gone.
    #[error("the runtime is not running")]
    Stopped,
    /// The saga does not take the message: rejected or deferred by the table, undecodable, or its handler failed.
    #[error("the saga does not take the message: {0}")]
    Refused(String),
}

impl Client {
    /// Brings a message to the saga `S` and waits until its step is committed. A failure is told to the caller and
    /// leaves nothing behind: no retry, no dead letter.
    ///
    /// # Errors
    /// When it was not taken. A caller that stops waiting does not know whether it was: submit again under the same
    /// message id.
    pub async fn submit<S: Saga>(&self, envelope: Envelope) -> Result<Submitted, SubmitError> {
        let _ = envelope;
        unimplemented!()
    }

    /// Publishes a message; it is durable when this returns.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn publish(&self, envelope: Envelope) -> Result<(), StoreError> {
        let _ = envelope;
        unimplemented!()
    }

    /// Sends a message to one endpoint; it is durable when this returns.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn send(&self, endpoint: &str, envelope: Envelope) -> Result<(), StoreError> {
        let _ = (endpoint, envelope);
        unimplemented!()
    }

    /// Takes a dead letter out again: its message is delivered once more, with attempts counted from 1.
    ///
    /// # Errors
    /// When there is no such dead letter, or it was redriven before.
    pub async fn redrive(&self, dead_letter: Uuid) -> Result<(), RedriveError> {
        let _ = dead_letter;
        unimplemented!()
    }

    /// Whether the bus can send and receive now; if not, why.
    pub fn bus_health(&self) -> Result<(), String> {
        unimplemented!()
    }
}

/// Why a dead letter was not redriven.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// There is none of that id.
    #[error("there is no dead letter {0}")]
    Unknown(Uuid),
    /// It was redriven before.
    #[error("the dead letter {0} was redriven before")]
    Already(Uuid),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
