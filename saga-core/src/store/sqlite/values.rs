//! Statements over many rows at once.

use std::sync::{Arc, OnceLock};

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

/// A statement that is being filled with values.
pub(super) type Statement = Query<'static, Sqlite, SqliteArguments>;

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

    /// Executes it over all rows, in as few statements as may be; returns how many rows of the table it touched.
    pub(super) async fn execute<T: Send>(
        &self,
        connection: &mut SqliteConnection,
        rows: Vec<T>,
        bind: impl Fn(Statement, T) -> Statement + Send,
    ) -> Result<u64, sqlx::Error> {
        let columns = self.row.matches('?').count();
        let mut rows = rows.into_iter();
        let mut touched = 0;
        while rows.len() > 0 {
            let power = power_for(rows.len());
            let padding = (1_usize << power).saturating_sub(rows.len());
            // Joined from this program's own literals; every value is bound.
            let statement = sqlx::query(AssertSqlSafe(self.text(power)));
            let statement = rows.by_ref().take(1 << power).fold(statement, &bind);
            let statement = (0..padding * columns).fold(statement, |statement, _| statement.bind(None::<&str>));
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
