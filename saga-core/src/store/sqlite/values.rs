//! Statements over many rows at once.

use std::sync::{Arc, OnceLock};

use sqlx::query::Query;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::encode::{SqliteCell, SqliteCells};

/// The largest statement's number of rows is two to this power. A statement costs a way to SQLite's thread and back
/// whatever it does, which is little beside 256 rows.
const MAX_POWER: usize = 8;
/// No statement has more values than this: it stays prepared, and each value of it takes memory.
const MAX_VALUES: usize = 2_048;
/// So many rows may be padded in any case: they cost less than another statement does.
const CHEAP: usize = 16;

/// A statement over many rows at once, for the store and for the application's writers.
///
/// Its text exists once for each power of two up to 256 rows, so the few texts stay prepared on the connection; what is
/// missing to a power of two is padded with rows of NULL, which are passed over. So a row's first value is never NULL.
///
/// ```
/// # use saga_core::SqliteRows;
/// static PARCELS: SqliteRows = SqliteRows::new("INSERT OR FAIL INTO parcels (id, weight)", "(?,?)", "");
/// assert_eq!(PARCELS.columns(), 2);
/// ```
pub struct SqliteRows {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; MAX_POWER + 1],
}

impl SqliteRows {
    /// `head`, a `SELECT` of the rows, `tail`. `row` is a question mark for each value: `(?,?)`. A tail that begins
    /// with `ON CONFLICT` needs nothing before it.
    pub const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Self {
        Self { head, row, tail, texts: [const { OnceLock::new() }; MAX_POWER + 1] }
    }

    /// How many values a row has.
    pub fn columns(&self) -> usize {
        self.row.matches('?').count()
    }

    /// Executes it over all rows, given value after value, in as few statements as may be; returns how many rows of the
    /// table it touched.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub async fn execute(&self, connection: &mut SqliteConnection, cells: SqliteCells) -> Result<u64, sqlx::Error> {
        let columns = self.columns();
        let mut cells = cells.into_iter();
        let mut touched = 0;
        while cells.len() > 0 {
            let power = power_for(cells.len() / columns, columns);
            let values = columns << power;
            let padding = values.saturating_sub(cells.len());
            // Joined from this program's own literals; every value is bound.
            let statement = sqlx::query(AssertSqlSafe(self.text(power)));
            let filled = cells.by_ref().take(values).chain((0..padding).map(|_| SqliteCell::Null));
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
fn power_for(rows: usize, columns: usize) -> usize {
    let padded = rows.next_power_of_two();
    let power = if padded - rows <= CHEAP.max(rows / 2) { padded.ilog2() } else { rows.ilog2() };
    (power as usize).min(MAX_POWER).min((MAX_VALUES / columns).ilog2() as usize)
}
