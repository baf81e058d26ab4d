//! One transaction for one commit, in a task of its own: a caller who is dropped cancels nothing.

use std::sync::Arc;

use sqlx::Connection;

use super::apply::{apply, settle};
use super::error::of_statement;
use super::open::{ANSWER_TIMEOUT, keep_if_sound};
use super::{Core, closed};
use crate::commit::{Commit, OutboxId};
use crate::store::StoreError;

/// Runs `work` to its end, whoever waits for it.
pub(super) async fn unhurried<T: Send + 'static>(
    core: &Core,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    if core.transactions.is_closed() {
        return Err(closed());
    }
    core.transactions.spawn(work).await.unwrap_or_else(|error| {
        Err(StoreError::Unavailable(format!("the transaction's task has ended, and it may stand: {error}")))
    })
}

/// Writes all of a commit or nothing of it.
pub(super) async fn commit(core: Arc<Core>, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
    let owner = commit.handed_over.then_some(core.host.id);
    if owner.is_some() && !commit.outbox.is_empty() {
        core.host.register(&core.database).await?;
    }
    let mut connection = core.database.acquire(&core.database.flow, "nothing was committed").await?;
    let work = async {
        if settles_only(&commit) {
            // One statement is a transaction by itself.
            settle(&mut connection, &commit.settled).await?;
            return Ok(Vec::new());
        }
        let begun = connection.begin().await;
        let mut transaction = begun.map_err(|error| of_statement("no transaction can be begun", &error))?;
        let applied = apply(&mut transaction, &commit, owner, &core.writers, &core.probes).await;
        match applied {
            Ok(ids) => transaction.commit().await.map_err(of_commit).map(|()| ids),
            Err(error) => {
                roll_back(transaction).await;
                Err(error)
            }
        }
    };
    let outcome = tokio::time::timeout(ANSWER_TIMEOUT, work).await.unwrap_or_else(|_| {
        Err(StoreError::Unavailable(format!(
            "the transaction has not ended within {ANSWER_TIMEOUT:?}; it may stand, or be rolled back later"
        )))
    });
    keep_if_sound(&mut connection, &outcome);
    outcome
}

/// Rolls back. Where that fails, the connection is broken, which is seen before it is used again.
pub(super) async fn roll_back(transaction: sqlx::Transaction<'_, sqlx::Postgres>) {
    if let Err(error) = transaction.rollback().await {
        tracing::debug!(%error, "a transaction was not rolled back; it ends with its connection");
    }
}

/// The error of a COMMIT. If the server has answered, nothing stands; if not, nobody knows.
fn of_commit(error: sqlx::Error) -> StoreError {
    match of_statement("the transaction was not committed", &error) {
        StoreError::Unavailable(_) => StoreError::Unavailable(format!(
            "it is unknown whether the transaction was committed; it may stand: {error}"
        )),
        refused => refused,
    }
}

/// Whether the commit does nothing but remove outbox rows.
fn settles_only(commit: &Commit) -> bool {
    let Commit { forgotten, redriven, inbox, instances, marks, journal, .. } = commit;
    let Commit { rows, timers, cancelled, fired, outbox, dead_letters, .. } = commit;
    forgotten.is_empty()
        && redriven.is_empty()
        && inbox.is_empty()
        && instances.is_empty()
        && marks.is_empty()
        && journal.is_empty()
        && rows.is_empty()
        && timers.is_empty()
        && cancelled.is_empty()
        && fired.is_empty()
        && outbox.is_empty()
        && dead_letters.is_empty()
}
