//! What the properties write and read.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::TestRow;
use crate::commit::{
    Commit, DeadLetterRow, InboxRow, InstanceRow, JournalOutcome, JournalRow, OutboxRow, StoredInstance, TimerKind,
    TimerRow,
};
use crate::failure::FailureKind;
use crate::message::{Body, Envelope, derive_id};
use crate::saga::Row;
use crate::store::{Backlog, DeadLetterPage, LoadQuery, Store, StoreError};

pub(super) const SAGA: &str = "conformance";
pub(super) const ENDPOINT: &str = "conformance-saga";

/// An id by name, so that a failure can be read.
pub(super) fn id(name: impl std::fmt::Display) -> Uuid {
    derive_id(Uuid::NAMESPACE_OID, &name.to_string())
}

/// A time, in microseconds from a fixed one: the precision that every store keeps.
pub(super) fn at(micros: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::microseconds(micros)
}

pub(super) fn commit(fill: impl FnOnce(&mut Commit)) -> Arc<Commit> {
    let mut commit = Commit::new(at(0));
    fill(&mut commit);
    Arc::new(commit)
}

pub(super) fn inbox(message: Uuid) -> InboxRow {
    InboxRow { endpoint: ENDPOINT.into(), message_id: message }
}

pub(super) fn instance(id: Uuid, expected: u64, version: u64) -> InstanceRow {
    InstanceRow {
        saga: SAGA,
        id,
        expected,
        version,
        state: if version == 1 { "Begun" } else { "Moved" },
        data: format!(r#"{{"steps":{version}}}"#),
        timers: "{}".to_owned(),
    }
}

pub(super) fn journal(id: Uuid, version: u64) -> JournalRow {
    JournalRow {
        saga: SAGA.into(),
        id,
        version: Some(version),
        endpoint: ENDPOINT.into(),
        message_id: derive_id(id, &version.to_string()),
        message_type: "Conformance:Stepped".into(),
        message: Body::of(&version),
        conversation_id: id,
        initiator_id: None,
        user: None,
        attempt: 1,
        outcome: JournalOutcome::Moved,
        from: None,
        to: None,
        effects: Vec::new(),
        error: None,
        at: at(0),
    }
}

pub(super) fn envelope(message: Uuid) -> Arc<Envelope> {
    Arc::new(Envelope::raw(message, "Conformance:Stepped", Body::of(&message)).correlated(id("instance")))
}

pub(super) fn outbox(message: Uuid) -> OutboxRow {
    OutboxRow { destination: None, envelope: envelope(message) }
}

pub(super) fn timer(token: Uuid, due: DateTime<Utc>) -> TimerRow {
    TimerRow { token, endpoint: ENDPOINT.into(), kind: TimerKind::Timer, due, envelope: envelope(token) }
}

pub(super) fn dead_letter(message: Uuid, at: DateTime<Utc>) -> DeadLetterRow {
    DeadLetterRow::new(&envelope(message), ENDPOINT.into(), FailureKind::Permanent, "no use", at)
}

pub(super) fn test_row(text: impl std::fmt::Display) -> TestRow {
    TestRow { text: text.to_string(), spoiled: false }
}

pub(super) fn row(text: impl std::fmt::Display) -> Arc<dyn Row> {
    Arc::new(test_row(text))
}

pub(super) fn spoiled() -> Arc<dyn Row> {
    Arc::new(TestRow { text: "spoiled".to_owned(), spoiled: true })
}

/// A commit that writes to every part, under names that begin with `name`.
pub(super) fn full(name: &str) -> Commit {
    let part = |part: &str| id(format!("{name}/{part}"));
    let mut commit = Commit::new(at(1));
    commit.inbox = vec![inbox(part("message"))];
    commit.instances = vec![instance(part("instance"), 0, 1)];
    commit.journal = vec![journal(part("instance"), 1)];
    commit.rows = vec![row(name)];
    commit.timers = vec![timer(part("timer"), at(10))];
    commit.outbox = vec![outbox(part("out"))];
    commit.dead_letters = vec![dead_letter(part("dead"), at(5))];
    commit
}

/// Everything that can be read of what [`full`] has written under a name.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    handled: HashSet<Uuid>,
    instance: Option<StoredInstance>,
    journal: Vec<JournalRow>,
    outbox: Vec<OutboxRow>,
    timers: Vec<TimerRow>,
    dead_letters: Vec<DeadLetterRow>,
    backlog: Backlog,
}

pub(super) async fn seen(store: &dyn Store, name: &str) -> Result<Seen, StoreError> {
    let part = |part: &str| id(format!("{name}/{part}"));
    let message = [part("message")];
    Ok(Seen {
        handled: handled(store, ENDPOINT, &message).await?,
        instance: store.instance(SAGA, part("instance")).await?,
        journal: store.journal(SAGA, part("instance")).await?,
        outbox: store.outbox(0, 100).await?.rows.into_iter().map(|(_, row)| row).collect(),
        timers: store.due_timers(at(100), 100).await?.rows,
        dead_letters: store.dead_letters(&DeadLetterPage { before: None, limit: 100 }).await?,
        backlog: store.backlog().await?,
    })
}

pub(super) async fn handled(store: &dyn Store, endpoint: &str, messages: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    Ok(store.load(&LoadQuery { endpoint, messages, saga: SAGA, instances: &[] }).await?.handled)
}

/// The version of an instance; 0 if there is none.
pub(super) async fn version(store: &dyn Store, id: Uuid) -> Result<u64, StoreError> {
    Ok(store.instance(SAGA, id).await?.map_or(0, |it| it.version))
}

#[track_caller]
pub(super) fn assert_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict(_))), "expected a conflict, got {result:?}");
}

#[track_caller]
pub(super) fn assert_rejected<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Rejected(_))), "expected a rejection, got {result:?}");
}
