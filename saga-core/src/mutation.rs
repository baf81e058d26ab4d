//! Protections that can be taken out, one in each process, to see that the tests miss them. Feature `mutations`, which is
//! never on in a build that ships: without it, whatever asks here is compiled to nothing, and with it nothing changes
//! unless [`VARIABLE`](Mutation::VARIABLE) names one.

/// One thing that keeps messages from being lost or handled twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "mutations"),
    allow(dead_code, unreachable_pub, reason = "a name for what is compiled to nothing, in any set of features")
)]
pub enum Mutation {
    /// It is known which messages an endpoint has handled.
    InboxCheck,
    /// A step is written only over the version that it was computed from.
    VersionCheck,
    /// A row stays in the outbox until its message is confirmed.
    ConfirmBeforeSettle,
    /// A message to a saga is acknowledged when its outcome is committed, not when it comes.
    AckAfterSagaCommit,
    /// A message to an activity or a consumer is acknowledged when its outcome is committed, not when it comes.
    AckAfterHandlerCommit,
    /// Rows of a host are left to it for as long as its lease runs.
    LeaseFencing,
    /// What a cancelled call has left open on a pooled connection is rolled back before the connection is used again.
    Rollback,
    /// A connection of the flow whose work has not ended well is closed, and not used again.
    SoundConnections,
    /// A timer is handled only if its token is the one that its instance knows.
    TimerToken,
    /// A timer that is not there any more does not fire.
    FiredOnce,
}

#[cfg(feature = "mutations")]
impl Mutation {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::InboxCheck,
        Self::VersionCheck,
        Self::ConfirmBeforeSettle,
        Self::AckAfterSagaCommit,
        Self::AckAfterHandlerCommit,
        Self::LeaseFencing,
        Self::Rollback,
        Self::SoundConnections,
        Self::TimerToken,
        Self::FiredOnce,
    ];

    /// The variable of the environment that names the protection to take out; none, if it is not set.
    pub const VARIABLE: &str = "SAGA_MUTATION";

    /// What it is called there.
    pub fn name(self) -> &'static str {
        match self {
            Self::InboxCheck => "inbox-check",
            Self::VersionCheck => "version-check",
            Self::ConfirmBeforeSettle => "confirm-before-settle",
            Self::AckAfterSagaCommit => "ack-after-saga-commit",
            Self::AckAfterHandlerCommit => "ack-after-handler-commit",
            Self::LeaseFencing => "lease-fencing",
            Self::Rollback => "rollback",
            Self::SoundConnections => "sound-connections",
            Self::TimerToken => "timer-token",
            Self::FiredOnce => "fired-once",
        }
    }

    /// The one that is taken out of this process.
    ///
    /// # Panics
    /// When the variable names none: a test that takes nothing out would prove nothing.
    fn taken_out() -> Option<Self> {
        static OUT: std::sync::OnceLock<Option<Mutation>> = std::sync::OnceLock::new();
        *OUT.get_or_init(|| {
            let name = std::env::var(Self::VARIABLE).ok()?;
            let out = Self::ALL.into_iter().find(|it| it.name() == name);
            assert!(out.is_some(), "{} is {name}, which is none of {:?}", Self::VARIABLE, Self::ALL.map(Self::name));
            out
        })
    }
}

/// Whether a protection is taken out.
#[cfg(feature = "mutations")]
pub(crate) fn is_out(protection: Mutation) -> bool {
    Mutation::taken_out() == Some(protection)
}

/// Whether a protection is taken out: never.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn is_out(_: Mutation) -> bool {
    false
}
