//! One message against one instance: decides everything that is to be written, and writes nothing. Pure; the runtime
//! and the explorer both live by it.

mod answer;
mod live;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::alphabet::Finite;
use crate::commit::{
    Commit, DeadLetterRow, FaultMark, InboxRow, JournalEffect, JournalOutcome, JournalRow, Mark, Name, OutboxRow,
    TimerKind, TimerRow,
};
use crate::effect::{Effect, Effects, Outgoing};
use crate::failure::{Failure, FailureKind};
use crate::machine::{Event, Machine, Step};
use crate::message::{Body, Envelope, header};
use crate::mutation::{Mutation, is_out};
use crate::retry::RetryPolicy;
use crate::saga::{Ctx, Instance, Saga};
use crate::wire::address_of;

pub(crate) use answer::respond;
pub(crate) use live::Live;

/// What became of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is handled.
    Handled(JournalOutcome),
    /// It is tried again later.
    Again(Failure),
    /// It is a dead letter.
    Dead(Failure),
}

/// The step of one message, with everything it writes added to the commit.
pub(crate) fn step<S: Saga>(
    machine: &Machine<S>,
    live: &mut Live<S>,
    event: &Event,
    envelope: &Arc<Envelope>,
    retry: &RetryPolicy,
    commit: &mut Commit,
) -> Verdict {
    let before = match live.copy() {
        Ok(before) => before,
        Err(failure) => return faulted(live, failure, envelope, retry, commit),
    };
    // MassTransit's own scheduler marks its messages with the same header: those are no timers of this saga.
    let token = envelope.timer_token().filter(|_| envelope.saga() == Some(S::NAME));
    let fired = match token {
        None => false,
        Some(token) if live.instance.timers.get(envelope.name()) == Some(&token) || is_out(Mutation::TimerToken) => {
            live.instance.timers.remove(envelope.name());
            true
        }
        Some(_) => {
            let mut row = journal::<S>(&before, envelope, JournalOutcome::Ignored, commit.at);
            row.error = Some("the timer had been cancelled or replaced".to_owned());
            return handled(envelope, S::ENDPOINT, row, commit);
        }
    };
    let ctx = Ctx {
        now: commit.at,
        message_id: envelope.message_id,
        correlation_id: before.id,
        conversation_id: envelope.conversation(),
        initiator_id: envelope.initiator_id,
        attempt: envelope.attempt(),
        user: envelope.user(),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let step = machine.step_event(&mut live.instance, event, &ctx);
        // Data that can not be written must spoil this message alone, not the batch that writes it.
        let data = matches!(step, Step::Moved(_)).then(|| Body::of(&live.instance.data));
        (step, data)
    }));
    let failure = match outcome {
        Ok((Step::Moved(effects), data)) => {
            live.data = data;
            let mut row = journal::<S>(&before, envelope, JournalOutcome::Moved, commit.at);
            row.to = Some(Cow::Borrowed(live.instance.state.name()));
            row.version = Some(live.instance.version);
            row.effects = carry_out(live, effects, envelope, commit);
            return handled(envelope, S::ENDPOINT, row, commit);
        }
        Ok((Step::Ignored, _)) => {
            let mut row = journal::<S>(&before, envelope, JournalOutcome::Ignored, commit.at);
            if fired {
                live.instance.version += 1;
                row.version = Some(live.instance.version);
            }
            return handled(envelope, S::ENDPOINT, row, commit);
        }
        Ok((Step::Deferred(why), _)) => Failure::new(FailureKind::Deferred, why),
        Ok((Step::Rejected(why), _)) => Failure::new(FailureKind::Rejected, why),
        Err(panic) => Failure::panicked(&*panic),
    };
    live.instance = before;
    faulted(live, failure, envelope, retry, commit)
}

/// A step that failed; the instance is as it was before.
fn faulted<S: Saga>(
    live: &Live<S>,
    failure: Failure,
    envelope: &Arc<Envelope>,
    retry: &RetryPolicy,
    commit: &mut Commit,
) -> Verdict {
    let row = journal::<S>(&live.instance, envelope, JournalOutcome::Faulted, commit.at);
    fail(Failed { envelope, endpoint: S::ENDPOINT.into(), journal: Some(row), failure, answer: None }, retry, commit)
}

/// A message that can not be handled, whatever its instance's state: nobody can read it or its instance, or the store
/// refuses what its step writes. `id` is the instance that it belongs to, where that is known.
pub(crate) fn refuse<S: Saga>(
    id: Option<Uuid>,
    failure: Failure,
    envelope: &Arc<Envelope>,
    retry: &RetryPolicy,
    commit: &mut Commit,
) -> Verdict {
    let row = id.map(|id| JournalRow {
        from: None,
        to: None,
        ..journal::<S>(&Instance::new(id), envelope, JournalOutcome::Faulted, commit.at)
    });
    let refused = Failed { envelope, endpoint: S::ENDPOINT.into(), journal: row, failure, answer: None };
    let verdict = fail(refused, retry, commit);
    if let (Verdict::Dead(_), Some(letter)) = (&verdict, commit.dead_letters.last_mut()) {
        letter.saga = Some(S::NAME.into());
    }
    verdict
}

/// A failed attempt at a message.
pub(crate) struct Failed<'a> {
    pub(crate) envelope: &'a Arc<Envelope>,
    pub(crate) endpoint: Name,
    /// The line for the history of the instance that the message belongs to, if it belongs to one; its outcome and
    /// error are filled in.
    pub(crate) journal: Option<JournalRow>,
    pub(crate) failure: Failure,
    /// What the caller of an activity is told, if this was the last attempt.
    pub(crate) answer: Option<Outgoing>,
}

/// When a message that has failed is tried again; `None`: this was the last attempt.
pub(crate) fn again(envelope: &Envelope, kind: FailureKind, retry: &RetryPolicy) -> Option<Duration> {
    retry.delay(envelope.attempt(), envelope.message_id).filter(|_| kind.is_retryable())
}

/// Counts a failure: another attempt later, or a dead letter, a `Fault`, the instance marked.
pub(crate) fn fail(failed: Failed<'_>, retry: &RetryPolicy, commit: &mut Commit) -> Verdict {
    let Failed { envelope, endpoint, journal, failure, answer } = failed;
    let kind = failure.kind();
    let again = again(envelope, kind, retry);
    let outcome = match (again, kind) {
        (Some(_), FailureKind::Deferred) => JournalOutcome::Deferred,
        (Some(_), _) => JournalOutcome::Retried,
        (None, FailureKind::Rejected) => JournalOutcome::Rejected,
        (None, _) => JournalOutcome::Faulted,
    };
    let saga = journal.as_ref().map(|row| row.saga.clone());
    if let Some(row) = journal {
        let fault = if again.is_some() { FaultMark::Keep } else { FaultMark::Set(failure.message().to_owned()) };
        commit.marks.push(mark(row.saga.clone(), row.id, u32::from(again.is_some()), fault));
        commit.journal.push(JournalRow { outcome, error: Some(failure.message().to_owned()), ..row });
    }
    if let Some(delay) = again {
        let attempt = envelope.attempt().saturating_add(1);
        commit.timers.push(TimerRow {
            token: envelope.produced_id(&format!("{endpoint}/attempt"), attempt as usize),
            endpoint,
            kind: TimerKind::Redelivery,
            due: due(commit.at, delay),
            envelope: Arc::new(envelope.with_attempt(attempt)),
        });
        return Verdict::Again(failure);
    }
    if let Some(answer) = answer {
        // Told apart from a success that a redrive may still bring: the saga's inbox must not take one for the other.
        let id = envelope.produced_id(&format!("{endpoint}/failed"), 0);
        commit.outbox.push(respond(envelope, &endpoint, id, answer, commit.at));
    }
    commit.outbox.extend(answer::fault(envelope, &endpoint, &failure, commit.at));
    let letter = DeadLetterRow::new(envelope, endpoint.clone(), kind, failure.message(), commit.at);
    commit.dead_letters.push(DeadLetterRow { saga: saga.or(letter.saga), ..letter });
    commit.inbox.push(InboxRow { endpoint, message_id: envelope.message_id });
    Verdict::Dead(failure)
}

/// Turns effects into rows; returns what the journal says of them.
fn carry_out<S: Saga>(
    live: &mut Live<S>,
    effects: Effects<S>,
    envelope: &Envelope,
    commit: &mut Commit,
) -> Vec<JournalEffect> {
    let now = commit.at;
    let mut journal = Vec::new();
    for (index, effect) in effects.into_vec().into_iter().enumerate() {
        let id = envelope.produced_id(S::ENDPOINT, index);
        let mut line = JournalEffect { kind: "write".into(), name: None, message_id: None, endpoint: None, due: None };
        let mut send = |kind: &'static str, destination: Option<Name>, out: Outgoing, answer: bool| {
            line.kind = kind.into();
            line.name = Some(out.name.into());
            line.message_id = Some(id);
            line.endpoint.clone_from(&destination);
            let mut out = produced::<S>(live.instance.id, envelope, id, out, now);
            out.destination_address = destination.as_deref().map(address_of);
            out.response_address = answer.then(|| address_of(S::ENDPOINT));
            OutboxRow { destination, envelope: Arc::new(out) }
        };
        match effect {
            Effect::Publish(out) => commit.outbox.push(send("publish", None, out, false)),
            Effect::Send { endpoint, message } => commit.outbox.push(send("send", Some(endpoint), message, false)),
            Effect::Respond(message) => {
                let mut row = respond(envelope, S::ENDPOINT, id, message, now);
                let out = Arc::make_mut(&mut row.envelope);
                out.correlation_id = Some(live.instance.id);
                out.headers.insert(header::SAGA.into(), Value::String(S::NAME.to_owned()));
                line.kind = "respond".into();
                (line.name, line.message_id) = (Some(out.message_type[0].clone()), Some(id));
                line.endpoint.clone_from(&row.destination);
                commit.outbox.push(row);
            }
            Effect::Call { endpoint, message } => {
                commit.outbox.push(send("call", Some(endpoint.into()), message, true));
            }
            Effect::Schedule { message, after } => {
                let due = due(now, after);
                let name = message.name;
                let mut out = produced::<S>(live.instance.id, envelope, id, message, now);
                out.headers.insert(header::TIMER_TOKEN.into(), Value::String(id.to_string()));
                commit.cancelled.extend(live.instance.timers.insert(name.to_owned(), id));
                commit.timers.push(TimerRow {
                    token: id,
                    endpoint: S::ENDPOINT.into(),
                    kind: TimerKind::Timer,
                    due,
                    envelope: Arc::new(out),
                });
                line.kind = "schedule".into();
                (line.name, line.message_id, line.due) = (Some(name.into()), Some(id), Some(due));
            }
            Effect::Unschedule { name } => {
                commit.cancelled.extend(live.instance.timers.remove(name));
                line.kind = "unschedule".into();
                line.name = Some(name.into());
            }
            Effect::Write(row) => commit.rows.push(Arc::new(row)),
        }
        journal.push(line);
    }
    journal
}

/// No timer is due later than the end of the year 9999: the last that every database and four-digit years can hold.
const LATEST: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).expect("the year 9999 is a time");

/// When something is due that was put off by `after`.
fn due(now: DateTime<Utc>, after: Duration) -> DateTime<Utc> {
    let due = TimeDelta::from_std(after).ok().and_then(|after| now.checked_add_signed(after));
    due.map_or(LATEST, |due| due.min(LATEST))
}

/// An envelope that the saga's instance `id` sends.
fn produced<S: Saga>(id: Uuid, cause: &Envelope, message_id: Uuid, out: Outgoing, now: DateTime<Utc>) -> Envelope {
    let mut envelope = cause.cause(message_id, out.name, out.body, now).correlated(id);
    envelope.source_address = Some(address_of(S::ENDPOINT));
    envelope.headers.insert(header::SAGA.into(), Value::String(S::NAME.to_owned()));
    envelope
}

fn handled(envelope: &Envelope, endpoint: &'static str, row: JournalRow, commit: &mut Commit) -> Verdict {
    let outcome = row.outcome;
    if envelope.redrives() > 0 {
        commit.marks.push(mark(row.saga.clone(), row.id, 0, FaultMark::Clear));
    }
    commit.journal.push(row);
    commit.inbox.push(InboxRow { endpoint: endpoint.into(), message_id: envelope.message_id });
    Verdict::Handled(outcome)
}

pub(crate) fn mark(saga: Name, id: Uuid, retries: u32, fault: FaultMark) -> Mark {
    Mark { saga, id, retries, fault }
}

fn journal<S: Saga>(
    before: &Instance<S>,
    envelope: &Envelope,
    outcome: JournalOutcome,
    at: DateTime<Utc>,
) -> JournalRow {
    let state = Some(Cow::Borrowed(before.state.name()));
    let line = journal_line(S::NAME.into(), before.id, S::ENDPOINT.into(), envelope, outcome, at);
    JournalRow { from: state.clone(), to: state, ..line }
}

/// A line of history without states: what an activity or a consumer leaves in the history of the instance.
pub(crate) fn journal_line(
    saga: Name,
    id: Uuid,
    endpoint: Name,
    envelope: &Envelope,
    outcome: JournalOutcome,
    at: DateTime<Utc>,
) -> JournalRow {
    JournalRow {
        saga,
        id,
        version: None,
        endpoint,
        message_id: envelope.message_id,
        message_type: envelope.message_type.first().cloned().unwrap_or_default(),
        message: envelope.message.clone(),
        conversation_id: envelope.conversation(),
        initiator_id: envelope.initiator_id,
        user: envelope.user().map(str::to_owned),
        attempt: envelope.attempt(),
        outcome,
        from: None,
        to: None,
        effects: Vec::new(),
        error: None,
        at,
    }
}

#[cfg(test)]
mod tests;
