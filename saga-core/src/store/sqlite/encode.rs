//! Rows as SQLite takes them. Whoever commits makes them, on its own thread: the writer, which everybody waits for, only
//! hands them over.

use serde::Serialize;
use sqlx::Sqlite;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo};

use super::text;
use crate::commit::{Commit, DeadLetterRow, InboxRow, InstanceRow, JournalRow, OutboxRow, TimerRow};
use crate::message::Body;

/// One value of one row, made by `From` out of texts, ids and numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum SqliteCell {
    /// NULL.
    Null,
    /// An INTEGER.
    Number(i64),
    /// A TEXT.
    Text(String),
}

/// The rows of one statement, value after value.
pub type SqliteCells = Vec<SqliteCell>;

/// The rows of one commit, or of several, by the statement that writes them.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) inbox: SqliteCells,
    pub(super) new_instances: SqliteCells,
    pub(super) instances: SqliteCells,
    pub(super) journal: SqliteCells,
    pub(super) timers: SqliteCells,
    /// Without their ids, which the writer gives.
    pub(super) outbox: SqliteCells,
    pub(super) dead_letters: SqliteCells,
}

impl Encoded {
    pub(super) fn of(commit: &Commit) -> Self {
        let at = text::time(commit.at);
        let (new, old): (Vec<_>, Vec<_>) = commit.instances.iter().partition(|it| it.expected == 0);
        Self {
            inbox: commit.inbox.iter().flat_map(|row| inbox(row, &at)).collect(),
            new_instances: new.into_iter().flat_map(|row| new_instance(row, &at)).collect(),
            instances: old.into_iter().flat_map(|row| instance(row, &at)).collect(),
            journal: commit.journal.iter().flat_map(journal).collect(),
            timers: commit.timers.iter().flat_map(|row| timer(row, &at)).collect(),
            outbox: commit.outbox.iter().flat_map(|row| outbox(row, &at)).collect(),
            dead_letters: commit.dead_letters.iter().flat_map(dead_letter).collect(),
        }
    }

    /// Puts the rows of another commit behind these.
    pub(super) fn append(&mut self, other: Self) {
        self.inbox.extend(other.inbox);
        self.new_instances.extend(other.new_instances);
        self.instances.extend(other.instances);
        self.journal.extend(other.journal);
        self.timers.extend(other.timers);
        self.outbox.extend(other.outbox);
        self.dead_letters.extend(other.dead_letters);
    }
}

impl sqlx::Type<Sqlite> for SqliteCell {
    fn type_info() -> SqliteTypeInfo {
        <str as sqlx::Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for SqliteCell {
    fn encode(self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => Encode::<Sqlite>::encode(number, buffer),
            Self::Text(text) => Encode::<Sqlite>::encode(text, buffer),
        }
    }

    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => Encode::<Sqlite>::encode_by_ref(number, buffer),
            Self::Text(text) => Encode::<Sqlite>::encode_by_ref(text, buffer),
        }
    }
}

impl From<&str> for SqliteCell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for SqliteCell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<uuid::Uuid> for SqliteCell {
    fn from(id: uuid::Uuid) -> Self {
        Self::Text(text::id(id).into())
    }
}
impl From<i64> for SqliteCell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}
impl<T: Into<SqliteCell>> From<Option<T>> for SqliteCell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

fn inbox(row: &InboxRow, at: &str) -> [SqliteCell; 3] {
    [row.message_id.into(), (&*row.endpoint).into(), at.into()]
}

fn new_instance(row: &InstanceRow, at: &str) -> [SqliteCell; 8] {
    let version = text::number(row.version);
    let (data, timers) = ((&*row.data).into(), (&*row.timers).into());
    [row.id.into(), row.saga.into(), version.into(), row.state.into(), data, timers, at.into(), at.into()]
}

fn instance(row: &InstanceRow, at: &str) -> [SqliteCell; 8] {
    let (expected, version) = (text::number(row.expected), text::number(row.version));
    let (data, timers) = ((&*row.data).into(), (&*row.timers).into());
    [row.id.into(), row.saga.into(), expected.into(), version.into(), row.state.into(), data, timers, at.into()]
}

fn journal(row: &JournalRow) -> [SqliteCell; 17] {
    let effects = match &row.effects[..] {
        [] => "[]".to_owned(),
        effects => json(&effects),
    };
    [
        row.id.into(),
        (&*row.saga).into(),
        row.version.map(text::number).into(),
        (&*row.endpoint).into(),
        row.message_id.into(),
        (&*row.message_type).into(),
        row.message.as_str().into(),
        row.conversation_id.into(),
        row.initiator_id.into(),
        row.user.as_deref().into(),
        i64::from(row.attempt).into(),
        row.outcome.name().into(),
        row.from.as_deref().into(),
        row.to.as_deref().into(),
        effects.into(),
        row.error.as_deref().into(),
        text::time(row.at).into(),
    ]
}

fn timer(row: &TimerRow, at: &str) -> [SqliteCell; 8] {
    let (kind, endpoint, due) = (row.kind.name().into(), (&*row.endpoint).into(), text::time(row.due).into());
    let (id, name) = (row.envelope.message_id.into(), row.envelope.name().into());
    [row.token.into(), kind, endpoint, due, id, name, json(&*row.envelope).into(), at.into()]
}

fn outbox(row: &OutboxRow, at: &str) -> [SqliteCell; 5] {
    let (id, name) = (row.envelope.message_id.into(), row.envelope.name().into());
    [id, name, row.destination.as_deref().into(), json(&*row.envelope).into(), at.into()]
}

fn dead_letter(row: &DeadLetterRow) -> [SqliteCell; 10] {
    let (id, name) = (row.envelope.message_id.into(), row.envelope.name().into());
    let (reason, error, attempts) = ((&*row.reason).into(), (&*row.error).into(), i64::from(row.attempts).into());
    let (endpoint, saga) = ((&*row.endpoint).into(), row.saga.as_deref().into());
    let (envelope, at) = (json(&*row.envelope).into(), text::time(row.at).into());
    [row.id.into(), endpoint, saga, reason, error, attempts, id, name, envelope, at]
}

fn json(value: &impl Serialize) -> String {
    Body::of(value).into_string()
}
