//! What a check has found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table, presets};
use saga_core::DeadLetterRow;
use serde::Serialize;
use uuid::Uuid;

use super::judge::{Finding, Kind, Messages};

/// What was looked at, and what is wrong.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    store: String,
    /// Where a message may be that is neither waiting nor handled, and why that is believed.
    assumed: &'static str,
    pub(super) is_sound: bool,
    pub(super) orders: u64,
    pub(super) journal: u64,
    pub(super) outbox: u64,
    pub(super) messages: Messages,
    pub(super) notifications: u64,
    pub(super) violations: Violations,
    pub(super) dead_letters: DeadLetters,
}

/// What is wrong: all of it is counted, the first of it is listed.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Violations {
    pub(super) total: u64,
    by_kind: BTreeMap<Kind, u64>,
    listed: Vec<Finding>,
}

/// What was given up and not redriven, no violation: all of it is counted, the newest is listed.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetters {
    pub(super) total: u64,
    pub(super) listed: Vec<DeadLetter>,
}

/// A dead letter, as far as it is named.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetter {
    id: Uuid,
    endpoint: String,
    message_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Uuid>,
    reason: String,
    error: String,
    at: DateTime<Utc>,
}

impl From<DeadLetterRow> for DeadLetter {
    fn from(row: DeadLetterRow) -> Self {
        Self {
            id: row.id,
            endpoint: row.endpoint.into_owned(),
            message_type: row.envelope.name().to_owned(),
            order: row.envelope.correlation_id,
            reason: row.reason.into_owned(),
            error: row.error,
            at: row.at,
        }
    }
}

impl Report {
    pub(super) fn of(store: &impl fmt::Display, assumed: &'static str) -> Self {
        Self {
            store: store.to_string(),
            assumed,
            is_sound: true,
            orders: 0,
            journal: 0,
            outbox: 0,
            messages: Messages::default(),
            notifications: 0,
            violations: Violations::default(),
            dead_letters: DeadLetters::default(),
        }
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Counts what is wrong; as long as there are less than `limit`, it is listed.
    pub(super) fn add(&mut self, finding: Finding, limit: usize) {
        self.is_sound = false;
        self.violations.total += 1;
        *self.violations.by_kind.entry(finding.kind).or_default() += 1;
        if self.violations.listed.len() < limit {
            self.violations.listed.push(finding);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Messages { produced, handled, given_up, under_way, too_old } = self.messages;
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let counts = [
            ("orders", self.orders),
            ("lines of history", self.journal),
            ("notifications", self.notifications),
            ("outbox rows", self.outbox),
            ("messages produced", produced),
            ("  handled", handled),
            ("  given up", given_up),
            ("  under way", under_way),
            ("  too old to tell", too_old),
            ("dead letters", self.dead_letters.total),
            ("violations", self.violations.total),
        ];
        for (what, count) in counts {
            table.add_row([what.to_owned(), count.to_string()]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{}\n{}\n{table}", self.store, self.assumed)?;
        for it in &self.violations.listed {
            let order = it.order.map(|id| format!(" order {id}:")).unwrap_or_default();
            writeln!(f, "✗ {}:{order} {}", it.kind.name(), it.what)?;
        }
        let more = |total: u64, listed: usize| total.saturating_sub(listed as u64);
        match more(self.violations.total, self.violations.listed.len()) {
            0 => {}
            more => writeln!(f, "✗ and {more} more; --limit lists more of them")?,
        }
        for it in &self.dead_letters.listed {
            let order = it.order.map(|id| format!(" of order {id}")).unwrap_or_default();
            let (id, name, endpoint, at) = (it.id, &it.message_type, &it.endpoint, it.at.format("%Y-%m-%d %H:%M:%S"));
            writeln!(f, "dead letter {id}: {name} at {endpoint}{order}, {at}: {} ({})", it.error, it.reason)?;
        }
        match more(self.dead_letters.total, self.dead_letters.listed.len()) {
            0 => {}
            more => writeln!(f, "and {more} more dead letters")?,
        }
        f.write_str(if self.is_sound { "sound" } else { "not sound" })
    }
}
