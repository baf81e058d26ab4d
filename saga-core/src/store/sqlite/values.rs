//! Statements over many rows at once.

use std::sync::{Arc, OnceLock};

use sqlx::query::Query;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::encode::{Cell, Cells};

/// The largest statement's number of rows is two to this power. A statement costs a way to SQLite's thread and back whatever it does;
/// at 256 rows of 17 values it is still far from SQLite's limit of 32,766 values.
const MAX_POWER: usize = 8;
/// So many rows may be padded in any case: they cost less than another statement does.
const CHEAP: usize = 16;

/// A statement around a list of `VALUES`. Its text exists once for each power of two up to the largest, so the few
/// texts stay prepared on the connection. A row whose first value is NULL is padding, and passed over.
pub(super) struct Values {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; MAX_POWER + 1],
}

impl Values {
    /// `head row, row, … tail`
    pub(super) const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Self {
        Self { head, row, tail, texts: [const { OnceLock::new() }; MAX_POWER + 1] }
    }

    /// How many values a row has.
    pub(super) fn columns(&self) -> usize {
        self.row.matches('?').count()
    }

    /// Executes it over all rows, in as few statements as may be; returns how many rows of the table it touched.
    pub(super) async fn execute(&self, connection: &mut SqliteConnection, cells: Cells) -> Result<u64, sqlx::Error> {
        let columns = self.columns();
        let mut cells = cells.into_iter();
        let mut touched = 0;
        while cells.len() > 0 {
            let power = power_for(cells.len() / columns);
            let values = columns << power;
            let padding = values.saturating_sub(cells.len());
            // Joined from this program's own literals; every value is bound.
            let statement = sqlx::query(AssertSqlSafe(self.text(power)));
            let filled = cells.by_ref().take(values).chain((0..padding).map(|_| Cell::Null));
            let statement = filled.fold(statement, Query::bind);
            touched += statement.execute(&mut *connection).await?.rows_affected();
        }
        Ok(touched)
    }

    fn text(&self, power: usize) -> Arc<str> {
        let text = self.texts[power].get_or_init(|| {
            let rows = vec![self.row; 1 << power].join(",");
            format!("{} SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL{}", self.head, self.tail).into()
        });
        text.clone()
    }
}

/// The power of two that the next statement is made for: padded up with rows of NULL where that is cheap, else the
/// largest that can be filled.
fn power_for(rows: usize) -> usize {
    let padded = rows.next_power_of_two();
    let power = if padded - rows <= CHEAP.max(rows / 2) { padded.ilog2() } else { rows.ilog2() };
    (power as usize).min(MAX_POWER)
}
