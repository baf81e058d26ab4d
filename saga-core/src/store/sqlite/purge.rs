//! Which rows are old. They are looked for by a reader, so that the writer, which everybody waits for, only removes what was
//! found.

use sqlx::{Row as _, SqlitePool};

use super::error::of_query;
use super::text;
use crate::store::{Old, StoreError};

/// Rows to remove together.
pub(super) struct Bite {
    /// The statement that removes them.
    pub(super) sql: &'static str,
    /// Their keys, a JSON array; absent where there are none.
    pub(super) keys: Option<String>,
    /// Whether there may be more.
    pub(super) is_full: bool,
}

pub(super) async fn find(pool: &SqlitePool, old: Old, limit: usize) -> Result<Bite, StoreError> {
    let (find, sql, before) = match old {
        // Ids are made by time, so the oldest are found at the beginning, and a look that finds nothing reads what
        // there is once.
        Old::Inbox(before) => (
            "SELECT json_array(message_id, endpoint) FROM saga_inbox WHERE handled_at < ? LIMIT ?",
            "DELETE FROM saga_inbox WHERE (message_id, endpoint) IN
               (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
            before,
        ),
        // The journal grows at its end: only its first rows can be old.
        Old::Journal(before) => (
            "SELECT cast(seq AS TEXT) FROM (SELECT seq, at FROM saga_journal ORDER BY seq LIMIT ?2) WHERE at < ?1",
            "DELETE FROM saga_journal WHERE seq IN (SELECT value FROM json_each(?))",
            before,
        ),
        Old::Redriven(before) => (
            "SELECT json_quote(id) FROM saga_dead_letters WHERE redriven_at < ? LIMIT ?",
            "DELETE FROM saga_dead_letters WHERE id IN (SELECT value FROM json_each(?))",
            before,
        ),
    };
    let rows = sqlx::query(find).bind(text::time(before)).bind(text::number(limit as u64)).fetch_all(pool).await;
    let rows = rows.map_err(|error| of_query("old rows can not be looked for", &error))?;
    let keys = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|error| of_query("old rows can not be looked for", &error))?;
    let is_full = keys.len() == limit;
    let keys = (!keys.is_empty()).then(|| text::list(keys.into_iter()));
    Ok(Bite { sql, keys, is_full })
}
