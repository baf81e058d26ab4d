//! Replay: a recorded flow, taken through today's table again, and where the two disagree. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::alphabet::Finite;
use crate::commit::{Commit, JournalEffect, JournalOutcome, JournalRow};
use crate::flow::Flow;
use crate::machine::Machine;
use crate::message::{Body, Envelope, header};
use crate::retry::RetryPolicy;
use crate::saga::Saga;
use crate::unit_of_work::{self, Live};

/// A flow that was taken through today's table, step by step. Its `Display` shows every step with the data before and
/// after, and every disagreement.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Every line of the recording, in its order.
    pub steps: Vec<ReplayStep>,
    /// Where the end of the recording and today's end disagree.
    pub end: Vec<Disagreement>,
}

/// One line of the recording, and what today's table makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayStep {
    /// The line.
    pub recorded: JournalRow,
    /// What today's table does; absent where the saga was not asked (a failed attempt of an activity, for example) or
    /// can not read the message.
    pub today: Option<JournalRow>,
    /// The saga's data before.
    pub before: Body,
    /// The saga's data after.
    pub after: Body,
    /// Where the line and today's table disagree.
    pub disagreements: Vec<Disagreement>,
}

/// One thing that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// What: `message`, `instance`, `from`, `to`, `outcome`, `version`, `effects`, `state` or `data`.
    pub what: &'static str,
    /// As it was recorded.
    pub recorded: String,
    /// As it is today.
    pub today: String,
}

/// Why a flow can not be replayed at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It was recorded from another saga.
    #[error("the flow is one of saga {recorded}, and {today} is replayed here")]
    Saga {
        /// The saga that it was recorded from.
        recorded: String,
        /// The saga that was asked to replay it.
        today: &'static str,
    },
}

/// Takes a recorded flow through the table of `S` as it is today.
///
/// Each step goes on from what today's table made of the steps before, so the first disagreement is the one to look
/// at. A recording does not hold the retry policy, and none is judged. Times are compared to the microsecond,
/// because that is what a database keeps: a saga that stores `Ctx::now` in its data truncates it.
///
/// # Errors
/// When the flow is another saga's.
pub fn replay<S: Saga>(flow: &Flow) -> Result<Replay, ReplayError> {
    if flow.header.saga != S::NAME {
        return Err(ReplayError::Saga { recorded: flow.header.saga.clone().into_owned(), today: S::NAME });
    }
    let mut player = Player::<S> {
        machine: Machine::new(),
        live: Live::new(flow.header.id),
        scheduled: HashSet::new(),
        given_up: HashMap::new(),
    };
    let steps = flow.steps.iter().map(|row| player.step(row)).collect();
    let instance = &player.live.instance;
    let mut end = Vec::new();
    compare_state::<S>(&mut end, "state", &flow.end.state, instance.state.name());
    compare(&mut end, "version", flow.end.version, instance.version);
    let (recorded, today) = (&flow.end.data, Body::of(&instance.data));
    if value(recorded) != value(&today) {
        end.push(Disagreement::new("data", recorded.as_str(), today.as_str()));
    }
    Ok(Replay { steps, end })
}

impl Replay {
    /// Whether today's table does what was recorded.
    pub fn agrees(&self) -> bool {
        self.disagreements().next().is_none()
    }

    /// Every disagreement, with the number of its step, from 1; those of the end have none.
    pub fn disagreements(&self) -> impl Iterator<Item = (Option<usize>, &Disagreement)> {
        let steps = self.steps.iter().enumerate();
        let of_steps = steps.flat_map(|(index, step)| step.disagreements.iter().map(move |it| (Some(index + 1), it)));
        of_steps.chain(self.end.iter().map(|it| (None, it)))
    }
}

impl Disagreement {
    fn new(what: &'static str, recorded: impl Into<String>, today: impl Into<String>) -> Self {
        Self { what, recorded: recorded.into(), today: today.into() }
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: recorded {}, today {}", self.what, self.recorded, self.today)
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {step}", index + 1)?;
        }
        for it in &self.end {
            writeln!(f, "end  ✗ {it}")?;
        }
        match self.disagreements().count() {
            0 => writeln!(f, "{} steps; today's table agrees with the recording", self.steps.len()),
            1 => writeln!(f, "{} steps; 1 disagreement", self.steps.len()),
            count => {
                writeln!(f, "{} steps; {count} disagreements, the first one leads to the others", self.steps.len())
            }
        }
    }
}

impl fmt::Display for ReplayStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = &self.recorded;
        write!(f, "{} {}", row.at.format("%Y-%m-%d %H:%M:%S%.3f"), row.message_type)?;
        if row.attempt > 1 {
            write!(f, ", attempt {}", row.attempt)?;
        }
        write!(f, " at {}: {}", row.endpoint, row.outcome.name())?;
        if let (Some(from), Some(to)) = (&row.from, &row.to) {
            write!(f, ", {from} → {to}")?;
        }
        if let Some(error) = &row.error {
            write!(f, "\n       error   {error}")?;
        }
        if !row.effects.is_empty() {
            write!(f, "\n       effects {}", effects(&row.effects, false))?;
        }
        if row.from.is_some() {
            write!(f, "\n       before  {:?}", self.before)?;
            let changed = self.before != self.after;
            if changed {
                write!(f, "\n       after   {:?}", self.after)?
            } else {
                write!(f, "\n       after   the same")?
            }
        }
        for it in &self.disagreements {
            write!(f, "\n     ✗ {it}")?;
        }
        Ok(())
    }
}

struct Player<S: Saga> {
    machine: Machine<S>,
    live: Live<S>,
    /// The ids of all timers that were recorded as started, running or not: a message under such an id is a timer that fired.
    scheduled: HashSet<Uuid>,
    /// How often a message was given up: it comes again only by a redrive, so that many it has behind it.
    given_up: HashMap<Uuid, u32>,
}

impl<S: Saga> Player<S> {
    fn step(&mut self, row: &JournalRow) -> ReplayStep {
        let before = Body::of(&self.live.instance.data);
        let mut disagreements = Vec::new();
        let asked = row.endpoint == S::ENDPOINT && row.from.is_some();
        let today = if asked { self.ask(row, &mut disagreements) } else { None };
        if asked && matches!(row.outcome, JournalOutcome::Faulted | JournalOutcome::Rejected) {
            *self.given_up.entry(row.message_id).or_default() += 1;
        }
        let timers = row.effects.iter().filter(|effect| effect.kind == "schedule");
        self.scheduled.extend(timers.filter_map(|effect| effect.message_id));
        let after = Body::of(&self.live.instance.data);
        ReplayStep { recorded: row.clone(), today, before, after, disagreements }
    }

    fn ask(&mut self, row: &JournalRow, disagreements: &mut Vec<Disagreement>) -> Option<JournalRow> {
        let envelope = Arc::new(self.envelope(row));
        let event = match self.machine.read(&envelope) {
            Ok(event) => event,
            Err(failure) => {
                let was = format!("{} as {}", row.outcome.name(), row.message_type);
                disagreements.push(Disagreement::new("message", was, failure.message()));
                return None;
            }
        };
        if event.id != row.id {
            disagreements.push(Disagreement::new("instance", row.id.to_string(), event.id.to_string()));
            return None;
        }
        // Whether a retry was left was the policy's to say then: it is taken over, so that the table alone is judged.
        let ended = matches!(row.outcome, JournalOutcome::Faulted | JournalOutcome::Rejected);
        let retry = RetryPolicy { limit: if ended { 0 } else { row.attempt }, ..RetryPolicy::default() };
        let mut commit = Commit::new(row.at);
        unit_of_work::step(&self.machine, &mut self.live, &event, &envelope, &retry, &mut commit);
        let today = commit.journal.pop()?;
        compare_rows::<S>(disagreements, row, &today);
        Some(today)
    }

    /// The envelope, as far as a step can tell it from the one that was recorded.
    fn envelope(&self, row: &JournalRow) -> Envelope {
        let mut envelope = Envelope::raw(row.message_id, row.message_type.clone(), row.message.clone());
        envelope.correlation_id = Some(row.id);
        envelope.conversation_id = Some(row.conversation_id);
        envelope.initiator_id = row.initiator_id;
        if let Some(user) = &row.user {
            envelope = envelope.for_user(user.as_str());
        }
        for _ in 0..self.given_up.get(&row.message_id).copied().unwrap_or(0) {
            envelope = envelope.redriven();
        }
        envelope = envelope.with_attempt(row.attempt);
        if self.scheduled.contains(&row.message_id) {
            let headers = [(header::TIMER_TOKEN, row.message_id.to_string()), (header::SAGA, S::NAME.to_owned())];
            envelope.headers.extend(headers.map(|(name, text)| (name.into(), Value::String(text))));
        }
        envelope
    }
}

fn compare_rows<S: Saga>(found: &mut Vec<Disagreement>, recorded: &JournalRow, today: &JournalRow) {
    for (what, recorded, today) in [("from", &recorded.from, &today.from), ("to", &recorded.to, &today.to)] {
        let (recorded, today) = (recorded.as_deref().unwrap_or("none"), today.as_deref().unwrap_or("none"));
        compare_state::<S>(found, what, recorded, today);
    }
    if recorded.outcome != today.outcome {
        let why = today.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        let today = format!("{}{why}", today.outcome.name());
        found.push(Disagreement::new("outcome", recorded.outcome.name(), today));
    }
    let version = |row: &JournalRow| row.version.map_or_else(|| "none".to_owned(), |it| it.to_string());
    compare(found, "version", version(recorded), version(today));
    let same = |(old, new): (&JournalEffect, &JournalEffect)| {
        let names = (&old.kind, &old.name, &old.endpoint) == (&new.kind, &new.name, &new.endpoint);
        names && old.message_id == new.message_id && same_time(old.due, new.due)
    };
    let (old, new) = (&recorded.effects, &today.effects);
    if old.len() != new.len() || !old.iter().zip(new).all(same) {
        let in_full = effects(old, false) == effects(new, false);
        found.push(Disagreement::new("effects", effects(old, in_full), effects(new, in_full)));
    }
}

fn compare(found: &mut Vec<Disagreement>, what: &'static str, recorded: impl ToString, today: impl ToString) {
    let (recorded, today) = (recorded.to_string(), today.to_string());
    if recorded != today {
        found.push(Disagreement { what, recorded, today });
    }
}

fn compare_state<S: Saga>(found: &mut Vec<Disagreement>, what: &'static str, recorded: &str, today: &str) {
    if recorded == today {
        return;
    }
    let mut recorded = recorded.to_owned();
    if S::State::from_name(&recorded).is_none() {
        let known: Vec<_> = S::State::ALL.iter().map(|state| state.name()).collect();
        recorded.push_str(&format!(" (no state of today's table, which has {})", known.join(", ")));
    }
    found.push(Disagreement::new(what, recorded, today));
}

/// Journals keep microseconds; what was computed from a finer time may be off by less than one.
fn same_time(recorded: Option<DateTime<Utc>>, today: Option<DateTime<Utc>>) -> bool {
    match (recorded, today) {
        (Some(recorded), Some(today)) => (recorded - today).abs() <= TimeDelta::microseconds(1),
        (recorded, today) => recorded == today,
    }
}

fn effects(effects: &[JournalEffect], in_full: bool) -> String {
    if effects.is_empty() {
        return "none".to_owned();
    }
    let one = |effect: &JournalEffect| {
        let mut text = effect.kind.to_string();
        for part in [effect.name.as_deref(), effect.endpoint.as_deref().filter(|_| in_full)].into_iter().flatten() {
            text.push(' ');
            text.push_str(part);
        }
        if let (Some(id), true) = (effect.message_id, in_full) {
            text.push_str(&format!(" {id}"));
        }
        if let Some(due) = effect.due {
            text.push_str(&format!(" due {}", due.to_rfc3339()));
        }
        text
    };
    effects.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The meaning of a body, whatever the order of its fields; text that is no JSON means nothing.
fn value(body: &Body) -> Option<Value> {
    body.read().ok()
}
