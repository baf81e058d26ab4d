//! A history against its table: one legal path, no step missing, each cause once; and against what a witness has seen on
//! the bus.

mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use uuid::Uuid;

use crate::alphabet::Finite;
use crate::commit::{JournalOutcome, JournalRow, Name, StoredInstance};
use crate::machine::Machine;
use crate::message::produced_id;
use crate::saga::Saga;
use crate::table::Kind;

/// The most redrives of one message under which the ids of what it produced are looked for: an operator who has taken it
/// out of the dead letters so often has looked at it as often.
pub const MAX_REDRIVES: u32 = 32;

/// What is wrong with the history of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Between two steps, one is missing or was taken twice.
    Versions {
        /// The version that comes next.
        expected: u64,
        /// The version that is there.
        found: u64,
    },
    /// A step begins in another state than the one before has ended in.
    Broken {
        /// The version after the step.
        version: u64,
        /// Where the step before has ended.
        ended: String,
        /// Where this one says that it begins.
        begins: String,
    },
    /// The table has no such step.
    Illegal {
        /// The version after the step.
        version: u64,
        /// The state before.
        from: String,
        /// The name of the message's type.
        message_type: String,
        /// The state after.
        to: String,
    },
    /// A message was handled more than once by one endpoint.
    Twice {
        /// The message.
        message_id: Uuid,
        /// Who handled it.
        endpoint: Name,
    },
    /// A timer fired that did not run any more, or fired before.
    Timer {
        /// The version after the step.
        version: u64,
        /// The name of the timer's message.
        message_type: Name,
    },
    /// A step says that it has produced a message whose id does not follow from the message that was handled: sent again
    /// after a crash, it would be another message.
    Underived {
        /// The version after the step.
        version: u64,
        /// The produced message.
        message_id: Uuid,
    },
    /// A message that the saga has sent for this instance was seen on the bus, and none of its steps has produced it.
    Ghost {
        /// The message.
        message_id: Uuid,
        /// The name of its type.
        message_type: String,
    },
    /// A step has produced a message, and nobody has seen it on the bus.
    Zombie {
        /// The version after the step.
        version: u64,
        /// The message.
        message_id: Uuid,
        /// The name of its type.
        message_type: Name,
    },
    /// The instance is not what its last step has left.
    End {
        /// What the history ends with.
        history: String,
        /// What is stored.
        stored: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Versions { expected, found } => write!(f, "version {expected} comes next, and {found} is there"),
            Self::Broken { version, ended, begins } => {
                write!(f, "the step to version {version} begins in {begins}; the one before has ended in {ended}")
            }
            Self::Illegal { version, from, message_type, to } => {
                write!(f, "the step to version {version}, {from} → {to} by {message_type}, is not in the table")
            }
            Self::Twice { message_id, endpoint } => write!(f, "message {message_id} was handled twice by {endpoint}"),
            Self::Timer { version, message_type } => {
                write!(f, "the step to version {version} is a timer {message_type} that did not run any more")
            }
            Self::Underived { version, message_id } => {
                write!(
                    f,
                    "the step to version {version} has produced {message_id}, which does not follow from its cause"
                )
            }
            Self::Ghost { message_id, message_type } => {
                write!(f, "message {message_id} ({message_type}) was seen on the bus, and no step has produced it")
            }
            Self::Zombie { version, message_id, message_type } => {
                write!(
                    f,
                    "the step to version {version} has produced {message_id} ({message_type}); nobody has seen it"
                )
            }
            Self::End { history, stored } => write!(f, "the history ends with {history}, and {stored} is stored"),
        }
    }
}

impl<S: Saga> Machine<S> {
    /// Everything that is wrong with the history of one instance of this saga, as the journal has it; nothing, if its
    /// steps are one legal path of the table without gaps to what is stored, each message has caused one, no timer fired
    /// that did not run any more, and the ids of all produced messages follow from their causes.
    ///
    /// A history whose beginning was purged begins where it begins.
    pub fn check(&self, instance: Option<&StoredInstance>, journal: &[JournalRow]) -> Vec<Violation> {
        let mut steps: Vec<_> = journal.iter().filter_map(|row| Some((row.version?, row))).collect();
        // Hosts write side by side: the version tells the order of the steps, the place in the journal does not.
        steps.sort_by_key(|(version, _)| *version);
        let mut found = twice(journal);
        found.extend(late_timers(&steps));
        found.extend(steps.iter().flat_map(|(version, row)| underived(*version, row)));
        let first = steps.first().map(|(_, row)| row.from.as_deref().unwrap_or_default().to_owned());
        let mut state = first.unwrap_or_else(|| S::State::ALL[0].name().to_owned());
        let mut last = steps.first().map_or(0, |(version, _)| version.saturating_sub(1));
        if last == 0 && state != S::State::ALL[0].name() {
            let ended = S::State::ALL[0].name().to_owned();
            found.push(Violation::Broken { version: 1, ended, begins: state.clone() });
        }
        for (version, row) in steps {
            let (from, to) = (row.from.as_deref().unwrap_or_default(), row.to.as_deref().unwrap_or_default());
            // What an editor by hand has written may be any number.
            let expected = last.saturating_add(1);
            if version != expected || version == last {
                found.push(Violation::Versions { expected, found: version });
            }
            if from != state {
                found.push(Violation::Broken { version, ended: state, begins: from.to_owned() });
            }
            if !self.allows(row, from, to) {
                let (from, to, message_type) = (from.to_owned(), to.to_owned(), row.message_type.to_string());
                found.push(Violation::Illegal { version, from, message_type, to });
            }
            (last, state) = (version, to.to_owned());
        }
        let stored = instance.map_or((0, S::State::ALL[0].name()), |it| (it.version, it.state.as_str()));
        // Of an instance whose whole history was purged nothing can be told.
        let purged = instance.is_some() && last == 0;
        if !purged && (last, state.as_str()) != stored {
            let told = |(version, state): (u64, &str)| format!("version {version}, {state}");
            found.push(Violation::End { history: told((last, &state)), stored: told(stored) });
        }
        found
    }

    fn allows(&self, row: &JournalRow, from: &str, to: &str) -> bool {
        let Some(state) = S::State::from_name(from) else { return false };
        let Some(column) = self.columns().iter().position(|it| row.message_type == it.name) else { return false };
        match self.rule(state, column) {
            Kind::Go { targets, stays, .. } if row.outcome == JournalOutcome::Moved => {
                (*stays && from == to) || targets.iter().any(|target| target.name() == to)
            }
            // A timer that fired and changed nothing is still taken off the instance.
            Kind::Ignore => row.outcome == JournalOutcome::Ignored && from == to,
            _ => false,
        }
    }
}

/// Timers that were started by one of the steps, and fired in another when they had been replaced or cancelled.
fn late_timers(steps: &[(u64, &JournalRow)]) -> Vec<Violation> {
    let mut found = Vec::new();
    let (mut started, mut running) = (BTreeSet::new(), BTreeMap::new());
    for (version, row) in steps {
        let name = row.message_type.as_ref();
        if started.contains(&row.message_id) && running.remove(name) != Some(row.message_id) {
            found.push(Violation::Timer { version: *version, message_type: row.message_type.clone() });
        }
        for effect in &row.effects {
            let Some(name) = effect.name.as_deref() else { continue };
            match (&*effect.kind, effect.message_id) {
                ("schedule", Some(token)) => {
                    started.insert(token);
                    running.insert(name, token);
                }
                ("unschedule", _) => drop(running.remove(name)),
                _ => {}
            }
        }
    }
    found
}

/// What a step has produced under an id that the handled message does not give it, however often it was redriven.
fn underived(version: u64, row: &JournalRow) -> impl Iterator<Item = Violation> {
    let produced = row.effects.iter().enumerate().filter_map(|(index, effect)| Some((index, effect.message_id?)));
    let derived = |index, id| {
        (0..=MAX_REDRIVES).any(|redrives| produced_id(row.message_id, redrives, &row.endpoint, index) == id)
    };
    let underived = produced.filter(move |(index, id)| !derived(*index, *id));
    underived.map(move |(_, message_id)| Violation::Underived { version, message_id })
}

/// Messages that an endpoint has handled more than once. One that was given up was not handled, so a redrive adds none.
fn twice(journal: &[JournalRow]) -> Vec<Violation> {
    let mut handled: BTreeMap<(Uuid, &str), usize> = BTreeMap::new();
    for row in journal.iter().filter(|row| matches!(row.outcome, JournalOutcome::Moved | JournalOutcome::Ignored)) {
        *handled.entry((row.message_id, &row.endpoint)).or_default() += 1;
    }
    let twice = handled.into_iter().filter(|(_, times)| *times > 1).map(|(key, _)| key);
    twice.map(|(message_id, endpoint)| Violation::Twice { message_id, endpoint: endpoint.to_owned().into() }).collect()
}
