//! Faults, and how many of them really happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One kind of thing that is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL of a host that serves; it is started again at once.
    HostKill,
    /// SIGSTOP of a host for longer than its lease, then SIGCONT.
    HostPause,
    /// The broker is stopped as for a maintenance, and started again.
    BrokerStop,
    /// SIGKILL of the broker, and a start.
    BrokerKill,
    /// SIGSTOP of the broker for longer than two heartbeats, then SIGCONT.
    BrokerPause,
    /// `pg_ctl stop -m immediate`, and a start.
    DatabaseStop,
    /// SIGSTOP of all of PostgreSQL for seconds, then SIGCONT.
    DatabasePause,
    /// `pg_terminate_backend` of every connection of the hosts.
    BackendKill,
    /// All connections of one host to one of its servers are closed.
    Cut,
    /// Everything between one host and its servers comes late.
    Delay,
    /// Bytes between one host and one of its servers are swallowed, then the connections are closed.
    HalfOpen,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::HostKill,
        Self::HostPause,
        Self::BrokerStop,
        Self::BrokerKill,
        Self::BrokerPause,
        Self::DatabaseStop,
        Self::DatabasePause,
        Self::BackendKill,
        Self::Cut,
        Self::Delay,
        Self::HalfOpen,
    ];

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::HostKill => "hosts killed",
            Self::HostPause => "hosts paused",
            Self::BrokerStop => "broker stopped",
            Self::BrokerKill => "broker killed",
            Self::BrokerPause => "broker paused",
            Self::DatabaseStop => "database stopped at once",
            Self::DatabasePause => "database paused",
            Self::BackendKill => "backends killed",
            Self::Cut => "connections cut",
            Self::Delay => "connections delayed",
            Self::HalfOpen => "connections stalled, then cut",
        }
    }
}

/// How many of each kind there are, or are to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally(BTreeMap<Fault, u64>);

impl Tally {
    /// So many of each.
    pub fn of(counts: impl IntoIterator<Item = (Fault, u64)>) -> Self {
        Self(counts.into_iter().collect())
    }

    /// How many of that kind.
    pub fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or_default()
    }

    /// One more happened.
    pub fn add(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// Of which kinds too few happened, for so many asked.
    pub fn shortfalls(&self, asked: &Self) -> Vec<Shortfall> {
        let kinds = Fault::ALL.into_iter().map(|fault| Shortfall {
            fault,
            asked: asked.count(fault),
            happened: self.count(fault),
        });
        kinds.filter(|it| it.happened < it.asked).collect()
    }
}

/// A kind of fault of which too few happened: then the run proves less than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// The kind.
    pub fault: Fault,
    /// How many were asked for.
    pub asked: u64,
    /// How many there were.
    pub happened: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} asked for, {} happened", self.fault.name(), self.asked, self.happened)
    }
}

/// A tally that several threads count in.
#[derive(Debug, Default)]
pub(crate) struct Counter(Mutex<Tally>);

impl Counter {
    pub(crate) fn add(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(fault);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
