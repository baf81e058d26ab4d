//! Why a message could not be handled, and whether trying again may help.

use std::fmt::{self, Display};

/// The failure of an activity, a consumer or a transition, as it is counted, stored and shown.
///
/// The text goes to the journal, the dead letter and the `Fault` message: say what was wrong, and leave secrets out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    message: String,
}

/// What a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// May pass: try again by the retry policy.
    Transient,
    /// Trying again is of no use: dead letter at once.
    Permanent,
    /// The handler panicked; counted and retried like a transient failure.
    Panic,
    /// The handler did not return in time; counted and retried like a transient failure.
    Timeout,
    /// The message came too early for the instance's state; retried.
    Deferred,
    /// The table rejects the message in the instance's state; dead letter at once.
    Rejected,
    /// The body is not what its type says, or the type is not one of the endpoint's; dead letter at once.
    Undecodable,
    /// The bus has no place for the message; set aside at once.
    Unroutable,
    /// It was delivered again and again and never handled, so it may end the process that handles it; dead letter
    /// before it is tried once more.
    Crashing,
}

impl FailureKind {
    /// The kind's stored name: part of the durable contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
            Self::Undecodable => "undecodable",
            Self::Unroutable => "unroutable",
            Self::Crashing => "crashing",
        }
    }

    /// Whether the retry policy applies; otherwise the message is a dead letter at once.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Panic | Self::Timeout | Self::Deferred)
    }
}

impl Failure {
    /// A failure that may pass: the message is retried by the retry policy.
    pub fn retry(message: impl Display) -> Self {
        Self::new(FailureKind::Transient, message)
    }

    /// A failure that will not pass: the message is a dead letter at once.
    pub fn permanent(message: impl Display) -> Self {
        Self::new(FailureKind::Permanent, message)
    }

    pub(crate) fn new(kind: FailureKind, message: impl Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// The failure of a handler that panicked with `payload`.
    pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without a text");
        Self::new(FailureKind::Panic, format_args!("the handler panicked: {text}"))
    }

    /// What it was.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What was wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
