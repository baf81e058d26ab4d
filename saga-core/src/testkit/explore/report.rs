//! What an exploration has to say: the way to a violation, as a table.

use std::collections::BTreeSet;
use std::fmt;

use uuid::Uuid;

use super::Explored;
use super::world::{Handled, Pending};
use crate::commit::{JournalOutcome, JournalRow};
use crate::saga::Saga;
use crate::unit_of_work::Verdict;

/// Why an exploration did not end well.
#[non_exhaustive]
pub enum ExploreError {
    /// An end violates the invariant.
    Violation(Box<Violation>),
    /// There was more to try than the bound allows; nothing is proved.
    Bound {
        /// The bound.
        bound: usize,
        /// How much was tried until then.
        explored: Explored,
    },
    /// The saga calls an activity of which the exploration was told nothing.
    UnknownActivity {
        /// The name of its command.
        command: String,
    },
}

/// An end that violates the invariant, and the shortest way to it.
pub struct Violation {
    /// What the invariant says.
    pub reason: String,
    pub(super) path: Vec<Line>,
}

/// One step of a way.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) instance: Option<Uuid>,
    pub(super) message: String,
    pub(super) delivery: String,
    pub(super) states: String,
    pub(super) effects: String,
}

impl Violation {
    /// How many steps the shortest way has.
    pub fn steps(&self) -> usize {
        self.path.len()
    }

    /// The way as a table: one row for each message that was handled.
    pub fn table(&self) -> String {
        let instances: BTreeSet<_> = self.path.iter().filter_map(|line| line.instance).collect();
        let mut rows = vec![["step", "instance", "message", "delivery", "from → to", "effects"].map(str::to_owned)];
        for (index, line) in self.path.iter().enumerate() {
            // The end of an id tells instances apart; its beginning is the time at which it was made.
            let instance = line.instance.map(|id| format!("…{:04x}", id.as_u128() & 0xffff)).unwrap_or_default();
            let Line { message, delivery, states, effects, .. } = line.clone();
            rows.push([(index + 1).to_string(), instance, message, delivery, states, effects]);
        }
        let hidden = if instances.len() > 1 { None } else { Some(1) };
        let columns: Vec<_> = (0..6).filter(|column| Some(*column) != hidden).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for (index, row) in rows.iter().enumerate() {
            let cell = |&column: &usize| format!("{:width$}", row[column], width = width(column));
            out.push_str(&format!("| {} |\n", columns.iter().map(cell).collect::<Vec<_>>().join(" | ")));
            if index == 0 {
                let rule = columns.iter().map(|&column| "-".repeat(width(column)));
                out.push_str(&format!("| {} |\n", rule.collect::<Vec<_>>().join(" | ")));
            }
        }
        out
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nThe shortest way there has {} steps:\n{}", self.reason, self.steps(), self.table())
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ExploreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => fmt::Display::fmt(violation, f),
            Self::Bound { bound, explored } => write!(
                f,
                "there are more than {bound} states, so nothing is proved ({explored:?}); give fewer messages or \
                 fewer answers, or raise the bound with `Explore::bound`"
            ),
            Self::UnknownActivity { command } => write!(
                f,
                "the saga calls {command}, and nobody said what it may come to; say so with `Explore::activity`"
            ),
        }
    }
}

/// As `Display`, so that a test that unwraps prints the table as a table.
impl fmt::Debug for ExploreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ExploreError {}

/// The line of one delivery in the table of a way.
pub(super) fn line<S: Saga>(pending: &Pending, handled: Option<&Handled>) -> Line {
    let envelope = &pending.envelope;
    let mut delivery = match (envelope.timer_token().is_some(), pending.late) {
        (true, true) => "cancelled timer, late".to_owned(),
        (true, false) => "timer".to_owned(),
        _ if pending.endpoint != S::ENDPOINT => format!("to {}", pending.endpoint),
        _ => "message".to_owned(),
    };
    if envelope.attempt() > 1 {
        delivery.push_str(&format!(", attempt {}", envelope.attempt()));
    }
    if pending.again {
        delivery.push_str(", again");
    }
    let journal = handled.and_then(|it| it.commit.journal.first());
    Line {
        instance: handled.and_then(|it| it.instance),
        message: short(envelope.name()).to_owned(),
        delivery,
        states: journal.map(states).unwrap_or_default(),
        effects: handled.map_or_else(|| "no answer".to_owned(), effects),
    }
}

fn states(row: &JournalRow) -> String {
    match (&row.from, &row.to) {
        (Some(from), Some(to)) if from != to => format!("{from} → {to}"),
        (Some(from), _) => from.to_string(),
        _ => String::new(),
    }
}

fn effects(handled: &Handled) -> String {
    let row = handled.commit.journal.first();
    match &handled.verdict {
        Verdict::Again(failure) => format!("later: {failure}"),
        Verdict::Dead(failure) => format!("dead letter: {failure}"),
        Verdict::Handled(JournalOutcome::Ignored) => match row.and_then(|row| row.error.as_deref()) {
            Some(why) => format!("ignored: {why}"),
            None => "ignored".to_owned(),
        },
        Verdict::Handled(_) => match row {
            Some(row) => {
                let effects = row.effects.iter().map(|it| match &it.name {
                    Some(name) => format!("{} {}", it.kind, short(name)),
                    None => it.kind.to_string(),
                });
                effects.collect::<Vec<_>>().join(", ")
            }
            None => {
                let answers = handled.commit.outbox.iter().map(|row| format!("answer {}", short(row.envelope.name())));
                answers.collect::<Vec<_>>().join(", ")
            }
        },
    }
}

fn short(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}
