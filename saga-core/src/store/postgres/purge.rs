//! Removes old rows, a few at a time. Of two hosts that do so at once, the second finds that the first was quicker.

use super::open::Database;
use super::text::{count, time};
use crate::store::{Old, StoreError};

const INBOX: &str = "DELETE FROM saga_inbox WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM saga_inbox WHERE handled_at < $1 ORDER BY handled_at LIMIT $2))";

/// The journal grows at its end: only its first rows can be old.
const JOURNAL: &str = "DELETE FROM saga_journal WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM (SELECT ctid, at FROM saga_journal ORDER BY seq LIMIT $2) AS first
    WHERE at < $1))";

const REDRIVEN: &str = "DELETE FROM saga_dead_letters WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM saga_dead_letters WHERE redriven_at < $1 ORDER BY redriven_at LIMIT $2))";

/// Removes up to `limit` rows; says whether there may be more.
pub(super) async fn purge(database: &Database, old: Old, limit: usize) -> Result<bool, StoreError> {
    let (sql, before) = match old {
        Old::Inbox(before) => (INBOX, before),
        Old::Journal(before) => (JOURNAL, before),
        Old::Redriven(before) => (REDRIVEN, before),
    };
    let delete = sqlx::query(sql).bind(time(before)).bind(count(limit));
    Ok(database.execute("old rows can not be removed", delete).await? >= limit as u64)
}
