//! Statements over many rows at once.

use std::sync::{Arc, OnceLock};

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

/// A statement that is being filled with values.
pub(super) type Statement = Query<'static, Sqlite, SqliteArguments>;

/// Most rows of one statement, a power of two. A statement costs a way to SQLite's thread and back whatever it does;
/// at 64 rows that is little beside the rows, and more rows make it no faster.
const MAX_ROWS: usize = 1 << MAX_POWER;
const MAX_POWER: usize = 6;

/// A statement around a list of `VALUES`. Its text exists once for each power of two up to [`MAX_ROWS`], so the few
/// texts stay prepared on the connection.
pub(super) struct Values {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; MAX_POWER + 1],
}

impl Values {
    /// `head VALUES row, row, … tail`
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
        let mut rows = rows.into_iter();
        let mut touched = 0;
        while let Some(power) = rows.len().min(MAX_ROWS).checked_ilog2() {
            let text = self.text(power as usize);
            // Joined from this program's own literals; every value is bound.
            let statement = sqlx::query(AssertSqlSafe(text));
            let statement = rows.by_ref().take(1 << power).fold(statement, &bind);
            touched += statement.execute(&mut *connection).await?.rows_affected();
        }
        Ok(touched)
    }

    fn text(&self, power: usize) -> Arc<str> {
        let text = self.texts[power].get_or_init(|| {
            let rows = vec![self.row; 1 << power].join(",");
            format!("{} VALUES {rows}{}", self.head, self.tail).into()
        });
        text.clone()
    }
}
