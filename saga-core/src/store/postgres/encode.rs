//! Rows as PostgreSQL takes them: an array for each column. Rows with a key of their own are in its order, so that two
//! transactions that meet wait for each other and do not lock each other out.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::text::{Json, number, stored, time};
use crate::commit::{
    DeadLetterRow, FaultMark, InboxRow, InstanceRow, JournalEffect, JournalRow, Mark, OutboxRow, TimerRow,
};
use crate::message::Envelope;

type Text<'a> = Cow<'a, str>;

/// Keys of the inbox.
pub(super) struct Inbox<'a> {
    pub(super) messages: Vec<Uuid>,
    pub(super) endpoints: Vec<Text<'a>>,
}

impl<'a> Inbox<'a> {
    pub(super) fn of(rows: &'a [InboxRow]) -> Self {
        let mut rows: Vec<_> = rows.iter().collect();
        rows.sort_unstable_by_key(|row| (row.message_id, &row.endpoint));
        Self {
            messages: rows.iter().map(|row| row.message_id).collect(),
            endpoints: rows.iter().map(|row| stored(&row.endpoint)).collect(),
        }
    }
}

/// New instances, or steps of those that are there.
pub(super) struct Instances<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) sagas: Vec<Text<'a>>,
    pub(super) expected: Vec<i64>,
    pub(super) versions: Vec<i64>,
    pub(super) states: Vec<Text<'a>>,
    pub(super) data: Vec<&'a str>,
    pub(super) timers: Vec<&'a str>,
}

impl<'a> Instances<'a> {
    pub(super) fn of(rows: impl Iterator<Item = &'a InstanceRow>) -> Self {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by_key(|row| (row.id, row.saga));
        Self {
            ids: rows.iter().map(|row| row.id).collect(),
            sagas: rows.iter().map(|row| stored(row.saga)).collect(),
            expected: rows.iter().map(|row| number(row.expected)).collect(),
            versions: rows.iter().map(|row| number(row.version)).collect(),
            states: rows.iter().map(|row| stored(row.state)).collect(),
            data: rows.iter().map(|row| &*row.data).collect(),
            timers: rows.iter().map(|row| &*row.timers).collect(),
        }
    }
}

/// One mark for each instance, because an update takes each row once: retries added up, the last word on the fault.
pub(super) struct Marks<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) sagas: Vec<Text<'a>>,
    pub(super) retries: Vec<i64>,
    pub(super) touches_fault: Vec<bool>,
    pub(super) faults: Vec<Option<Text<'a>>>,
}

impl<'a> Marks<'a> {
    pub(super) fn of(marks: &'a [Mark]) -> Self {
        let mut merged: HashMap<(Uuid, &str), (i64, &FaultMark)> = HashMap::new();
        for mark in marks {
            let (retries, fault) = merged.entry((mark.id, &*mark.saga)).or_insert((0, &FaultMark::Keep));
            *retries += i64::from(mark.retries);
            if mark.fault != FaultMark::Keep {
                *fault = &mark.fault;
            }
        }
        let mut merged: Vec<_> = merged.into_iter().collect();
        merged.sort_unstable_by_key(|(key, _)| *key);
        let fault = |fault: &'a FaultMark| if let FaultMark::Set(text) = fault { Some(stored(text)) } else { None };
        Self {
            ids: merged.iter().map(|((id, _), _)| *id).collect(),
            sagas: merged.iter().map(|((_, saga), _)| stored(saga)).collect(),
            retries: merged.iter().map(|(_, (retries, _))| *retries).collect(),
            touches_fault: merged.iter().map(|(_, (_, fault))| **fault != FaultMark::Keep).collect(),
            faults: merged.iter().map(|(_, (_, it))| fault(it)).collect(),
        }
    }
}

/// Lines of history, in their order.
pub(super) struct Journal<'a> {
    pub(super) instances: Vec<Uuid>,
    pub(super) sagas: Vec<Text<'a>>,
    pub(super) versions: Vec<Option<i64>>,
    pub(super) endpoints: Vec<Text<'a>>,
    pub(super) message_ids: Vec<Uuid>,
    pub(super) message_types: Vec<Text<'a>>,
    pub(super) messages: Vec<&'a str>,
    pub(super) conversations: Vec<Uuid>,
    pub(super) initiators: Vec<Option<Uuid>>,
    pub(super) users: Vec<Option<Text<'a>>>,
    pub(super) attempts: Vec<i64>,
    pub(super) outcomes: Vec<&'static str>,
    pub(super) from: Vec<Option<Text<'a>>>,
    pub(super) to: Vec<Option<Text<'a>>>,
    pub(super) effects: Vec<Json<'a, Vec<JournalEffect>>>,
    pub(super) errors: Vec<Option<Text<'a>>>,
    pub(super) times: Vec<DateTime<Utc>>,
}

impl<'a> Journal<'a> {
    pub(super) fn of(rows: &'a [JournalRow]) -> Self {
        Self {
            instances: rows.iter().map(|row| row.id).collect(),
            sagas: rows.iter().map(|row| stored(&row.saga)).collect(),
            versions: rows.iter().map(|row| row.version.map(number)).collect(),
            endpoints: rows.iter().map(|row| stored(&row.endpoint)).collect(),
            message_ids: rows.iter().map(|row| row.message_id).collect(),
            message_types: rows.iter().map(|row| stored(&row.message_type)).collect(),
            messages: rows.iter().map(|row| row.message.as_str()).collect(),
            conversations: rows.iter().map(|row| row.conversation_id).collect(),
            initiators: rows.iter().map(|row| row.initiator_id).collect(),
            users: rows.iter().map(|row| row.user.as_deref().map(stored)).collect(),
            attempts: rows.iter().map(|row| i64::from(row.attempt)).collect(),
            outcomes: rows.iter().map(|row| row.outcome.name()).collect(),
            from: rows.iter().map(|row| row.from.as_deref().map(stored)).collect(),
            to: rows.iter().map(|row| row.to.as_deref().map(stored)).collect(),
            effects: rows.iter().map(|row| Json(&row.effects)).collect(),
            errors: rows.iter().map(|row| row.error.as_deref().map(stored)).collect(),
            times: rows.iter().map(|row| time(row.at)).collect(),
        }
    }
}

/// Timers; of several with one token, the last.
pub(super) struct Timers<'a> {
    pub(super) tokens: Vec<Uuid>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) endpoints: Vec<Text<'a>>,
    pub(super) due: Vec<DateTime<Utc>>,
    pub(super) message_ids: Vec<Uuid>,
    pub(super) message_types: Vec<Text<'a>>,
    pub(super) envelopes: Vec<Json<'a, Envelope>>,
}

impl<'a> Timers<'a> {
    pub(super) fn of(rows: &'a [TimerRow]) -> Self {
        let rows = last_of_each(rows, |row| row.token);
        Self {
            tokens: rows.iter().map(|row| row.token).collect(),
            kinds: rows.iter().map(|row| row.kind.name()).collect(),
            endpoints: rows.iter().map(|row| stored(&row.endpoint)).collect(),
            due: rows.iter().map(|row| time(row.due)).collect(),
            message_ids: rows.iter().map(|row| row.envelope.message_id).collect(),
            message_types: rows.iter().map(|row| stored(row.envelope.name())).collect(),
            envelopes: rows.iter().map(|row| Json(&*row.envelope)).collect(),
        }
    }
}

/// Messages to send, in their order.
pub(super) struct Outbox<'a> {
    pub(super) message_ids: Vec<Uuid>,
    pub(super) message_types: Vec<Text<'a>>,
    pub(super) destinations: Vec<Option<Text<'a>>>,
    pub(super) envelopes: Vec<Json<'a, Envelope>>,
}

impl<'a> Outbox<'a> {
    pub(super) fn of(rows: &'a [OutboxRow]) -> Self {
        Self {
            message_ids: rows.iter().map(|row| row.envelope.message_id).collect(),
            message_types: rows.iter().map(|row| stored(row.envelope.name())).collect(),
            destinations: rows.iter().map(|row| row.destination.as_deref().map(stored)).collect(),
            envelopes: rows.iter().map(|row| Json(&*row.envelope)).collect(),
        }
    }
}

/// Dead letters; of several with one id, the last.
pub(super) struct DeadLetters<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) endpoints: Vec<Text<'a>>,
    pub(super) sagas: Vec<Option<Text<'a>>>,
    pub(super) reasons: Vec<Text<'a>>,
    pub(super) errors: Vec<Text<'a>>,
    pub(super) attempts: Vec<i64>,
    pub(super) message_ids: Vec<Uuid>,
    pub(super) message_types: Vec<Text<'a>>,
    pub(super) envelopes: Vec<Json<'a, Envelope>>,
    pub(super) times: Vec<DateTime<Utc>>,
}

impl<'a> DeadLetters<'a> {
    pub(super) fn of(rows: &'a [DeadLetterRow]) -> Self {
        let rows = last_of_each(rows, |row| row.id);
        Self {
            ids: rows.iter().map(|row| row.id).collect(),
            endpoints: rows.iter().map(|row| stored(&row.endpoint)).collect(),
            sagas: rows.iter().map(|row| row.saga.as_deref().map(stored)).collect(),
            reasons: rows.iter().map(|row| stored(&row.reason)).collect(),
            errors: rows.iter().map(|row| stored(&row.error)).collect(),
            attempts: rows.iter().map(|row| i64::from(row.attempts)).collect(),
            message_ids: rows.iter().map(|row| row.envelope.message_id).collect(),
            message_types: rows.iter().map(|row| stored(row.envelope.name())).collect(),
            envelopes: rows.iter().map(|row| Json(&*row.envelope)).collect(),
            times: rows.iter().map(|row| time(row.at)).collect(),
        }
    }
}

/// Keys in their order.
pub(super) fn sorted<T: Copy + Ord>(keys: &[T]) -> Vec<T> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys
}

/// The last row of each key, by key: one statement writes a row once.
fn last_of_each<T>(rows: &[T], key: impl Fn(&T) -> Uuid) -> Vec<&T> {
    let mut rows: Vec<_> = rows.iter().collect();
    // Stable, so that of one key the last comes last.
    rows.sort_by_key(|row| key(row));
    let mut last: Vec<&T> = Vec::with_capacity(rows.len());
    for row in rows {
        match last.last_mut() {
            Some(earlier) if key(earlier) == key(row) => *earlier = row,
            _ => last.push(row),
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_rows_of_one_key_when_they_are_written_together_then_the_last_counts() {
        let rows = [(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd'), (3, 'e')];
        let last = last_of_each(&rows, |(key, _)| Uuid::from_u128(*key));
        assert_eq!(last, [&(1, 'd'), &(2, 'c'), &(3, 'e')]);
    }
}
