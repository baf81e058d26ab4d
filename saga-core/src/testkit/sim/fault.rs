//! What can go wrong in a simulation, and how often it really did.

use std::collections::BTreeMap;
use std::fmt;

use crate::probe::Point;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A host was killed, at whatever it was doing.
    Crash,
    /// A host was killed at a named point.
    CrashAt(&'static str),
    /// A host stood still for longer than its lease, and went on.
    Freeze,
    /// A host was asked to stop and was started again.
    Restart,
    /// A host's clock was set forward or back.
    ClockJump,
    /// A host could not reach the database.
    Partition,
    /// The database was away for everybody.
    DatabaseDown,
    /// The database did not answer, and had not done what it was asked.
    Unavailable,
    /// The database did not answer, and had committed.
    Unknown,
    /// The database did not answer, and committed later.
    Late,
    /// The commit of a host that was killed was carried out all the same.
    Posthumous,
    /// The database had to serialise and refused one of two.
    Conflict,
    /// The database refused the rows of a message.
    Refusal,
    /// The database took long.
    Slow,
    /// Rows of a lost host were taken over.
    TakeOver,
    /// The connection of a host to the broker was lost.
    ConnectionLost,
    /// A published message was lost with its connection.
    PublishLost,
    /// The broker stored a message, and the connection was lost before its confirm.
    ConfirmCutOff,
    /// The broker was killed and started again.
    BrokerCrash,
    /// The broker forgot a message that it had not confirmed.
    Forgotten,
    /// A message waited for a broker that took none for a while.
    Blocked,
    /// The broker did not take a message and said so.
    Nack,
    /// A confirm was late.
    LateConfirm,
    /// A confirm did not come.
    LostConfirm,
    /// A message was stored twice.
    Duplicate,
    /// A message was delivered before an older one.
    Reorder,
    /// A delivery took long.
    LateDelivery,
    /// A message was delivered again.
    Redelivery,
    /// An acknowledgement came over a connection that was gone.
    VoidReceipt,
}

impl Fault {
    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "host crash",
            Self::CrashAt(point) => point,
            Self::Freeze => "host freeze",
            Self::Restart => "host restart",
            Self::ClockJump => "clock jump",
            Self::Partition => "database cut off",
            Self::DatabaseDown => "database down",
            Self::Unavailable => "database silent",
            Self::Unknown => "commit unknown",
            Self::Late => "commit late",
            Self::Posthumous => "commit of the dead",
            Self::Conflict => "conflict",
            Self::Refusal => "rows refused",
            Self::Slow => "database slow",
            Self::TakeOver => "rows taken over",
            Self::ConnectionLost => "connection lost",
            Self::PublishLost => "publish lost",
            Self::ConfirmCutOff => "confirm cut off",
            Self::BrokerCrash => "broker crash",
            Self::Forgotten => "message forgotten",
            Self::Blocked => "broker blocked",
            Self::Nack => "nack",
            Self::LateConfirm => "confirm late",
            Self::LostConfirm => "confirm lost",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::LateDelivery => "delivery late",
            Self::Redelivery => "redelivery",
            Self::VoidReceipt => "void receipt",
        }
    }

    /// Every fault; those at named points each by itself.
    pub fn all() -> Vec<Self> {
        let points = Point::ALL.into_iter().map(|point| Self::CrashAt(point.name()));
        let others = [
            Self::Crash,
            Self::Freeze,
            Self::Restart,
            Self::ClockJump,
            Self::Partition,
            Self::DatabaseDown,
            Self::Unavailable,
            Self::Unknown,
            Self::Late,
            Self::Posthumous,
            Self::Conflict,
            Self::Refusal,
            Self::Slow,
            Self::TakeOver,
            Self::ConnectionLost,
            Self::PublishLost,
            Self::ConfirmCutOff,
            Self::BrokerCrash,
            Self::Forgotten,
            Self::Blocked,
            Self::Nack,
            Self::LateConfirm,
            Self::LostConfirm,
            Self::Duplicate,
            Self::Reorder,
            Self::LateDelivery,
            Self::Redelivery,
            Self::VoidReceipt,
        ];
        points.chain(others).collect()
    }
}

/// The faults that really happened, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<Fault, u64>);

impl Faults {
    /// How often one happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// How many happened, of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those that happened less often than `least` times.
    pub fn rarer_than(&self, least: u64) -> Vec<(Fault, u64)> {
        let counted = Fault::all().into_iter().map(|fault| (fault, self.of(fault)));
        counted.filter(|(_, times)| *times < least).collect()
    }

    pub(super) fn count(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (fault, times) in &other.0 {
            *self.0.entry(*fault).or_default() += times;
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = Fault::all();
        for row in lines.chunks(4) {
            for fault in row {
                write!(f, "{:>18} {:<8}", fault.name(), self.of(*fault))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
