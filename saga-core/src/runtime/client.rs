//! The way into a runtime from its own process.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::commit::{Commit, InboxRow, JournalOutcome, Name, OutboxRow};
use crate::message::Envelope;
use crate::runtime::core::Core;
use crate::runtime::deliver::Submission;
use crate::runtime::settle::PUBLISHED;
use crate::runtime::shards::Doors;
use crate::saga::Saga;
use crate::store::StoreError;

/// The way into a runtime from its own process. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    pub(crate) submissions: Arc<HashMap<&'static str, Doors>>,
}

/// What became of a submission. It is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It was handled now.
    Handled {
        /// What happened to it.
        outcome: JournalOutcome,
        /// The time of its commit, which is the handlers' `now`.
        at: DateTime<Utc>,
    },
    /// A message of that id was handled before; nothing changed.
    Duplicate,
}

impl Submitted {
    /// What happened to it now; `None`: it was handled before.
    pub fn outcome(&self) -> Option<JournalOutcome> {
        match self {
            Self::Handled { outcome, .. } => Some(*outcome),
            Self::Duplicate => None,
        }
    }
}

/// Why a submission was not taken. Nothing of it is stored, but after [`Unknown`](Self::Unknown) something may be.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The runtime has more to do than it can hold: try again later.
    #[error("the saga's endpoint has more to do than it can hold; try again later")]
    Busy,
    /// The runtime is shutting down, or gone, or does not run the saga.
    #[error("the runtime is not running")]
    Stopped,
    /// The runtime ended with the submission in hand: it may or may not be stored. Submit again under the same message
    /// id, which can not be handled twice.
    #[error(
        "the runtime ended meanwhile; the message may or may not be stored: submit it again under the same message id"
    )]
    Unknown,
    /// The saga does not take the message: rejected or deferred by the table, undecodable, or its handler failed.
    #[error("the saga does not take the message: {0}")]
    Refused(String),
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

impl Client {
    /// Brings a message to the saga `S` and waits until its step is committed. A failure is told to the caller and
    /// leaves nothing behind: no retry, no dead letter.
    ///
    /// # Errors
    /// When it was not taken, or nobody knows whether it was ([`SubmitError::Unknown`]). A caller that stops waiting
    /// knows as little: submit again under the same message id.
    pub async fn submit<S: Saga>(&self, envelope: Envelope) -> Result<Submitted, SubmitError> {
        let doors = self.submissions.get(S::ENDPOINT).ok_or(SubmitError::Stopped)?;
        let sender = doors.of(&envelope).ok_or(SubmitError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        sender.try_send(Submission { envelope: Arc::new(envelope), reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Stopped,
        })?;
        answer.await.unwrap_or(Err(SubmitError::Unknown))
    }

    /// Publishes a message; it is durable when this returns.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn publish(&self, envelope: Envelope) -> Result<(), StoreError> {
        self.store(None, envelope).await
    }

    /// Sends a message to one endpoint; it is durable when this returns.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn send(&self, endpoint: &str, envelope: Envelope) -> Result<(), StoreError> {
        self.store(Some(endpoint.to_owned().into()), envelope).await
    }

    /// Takes a dead letter out again: its message is delivered once more, with attempts counted from 1. Done or not
    /// done as a whole, and durable when this returns.
    ///
    /// # Errors
    /// When there is no such dead letter, or it was redriven before.
    pub async fn redrive(&self, dead_letter: Uuid) -> Result<(), RedriveError> {
        let row = self.core.store.dead_letter(dead_letter).await?.ok_or(RedriveError::Unknown(dead_letter))?;
        if row.redriven_at.is_some() {
            return Err(RedriveError::Already(dead_letter));
        }
        let destination = Some(row.endpoint.clone()).filter(|name| name != PUBLISHED);
        let mut commit = Commit::new(self.core.clock.now());
        commit.redriven.push(dead_letter);
        commit.forgotten.push(InboxRow { endpoint: row.endpoint, message_id: row.envelope.message_id });
        commit.outbox.push(OutboxRow { destination, envelope: Arc::new(row.envelope.redriven()) });
        match self.commit(commit).await {
            Err(StoreError::Conflict(_)) => Err(RedriveError::Already(dead_letter)),
            outcome => Ok(outcome?),
        }
    }

    /// Whether the bus can send and receive now; if not, why.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn bus_health(&self) -> Result<(), String> {
        self.core.bus.health()
    }

    async fn store(&self, destination: Option<Name>, envelope: Envelope) -> Result<(), StoreError> {
        let mut commit = Commit::new(self.core.clock.now());
        commit.outbox.push(OutboxRow { destination, envelope: Arc::new(envelope) });
        self.commit(commit).await
    }

    /// Commits in a task of its own: a caller that is dropped in the middle must not cut the commit from the
    /// handing-over that follows it.
    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let core = self.core.clone();
        match tokio::spawn(async move { core.commit(commit).await }).await {
            Ok(outcome) => outcome,
            Err(error) => Err(StoreError::Unavailable(format!("the commit did not end: {error}"))),
        }
    }
}
