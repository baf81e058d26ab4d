//! The JSON of a commit's rows. Whoever commits makes it, on its own thread: the writer, which everybody waits for, only
//! hands it over.

use serde::Serialize;

use super::text;
use crate::commit::{Commit, JournalRow};
use crate::message::Body;

/// What is made of the rows of one commit before the writer has it, row by row.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The time of the commit.
    pub(super) at: String,
    /// What each row of the journal caused.
    pub(super) effects: Vec<String>,
    /// The envelopes of the timers, of the outbox and of the dead letters.
    pub(super) timers: Vec<String>,
    pub(super) outbox: Vec<String>,
    pub(super) dead_letters: Vec<String>,
}

impl Encoded {
    pub(super) fn of(commit: &Commit) -> Self {
        Self {
            at: text::time(commit.at),
            effects: commit.journal.iter().map(effects).collect(),
            timers: commit.timers.iter().map(|row| json(&*row.envelope)).collect(),
            outbox: commit.outbox.iter().map(|row| json(&*row.envelope)).collect(),
            dead_letters: commit.dead_letters.iter().map(|row| json(&*row.envelope)).collect(),
        }
    }
}

fn effects(row: &JournalRow) -> String {
    match &row.effects[..] {
        [] => "[]".to_owned(),
        effects => json(&effects),
    }
}

fn json(value: &impl Serialize) -> String {
    Body::of(value).into_string()
}
