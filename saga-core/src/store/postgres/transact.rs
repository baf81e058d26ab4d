//! One transaction for one commit, in a task of its own: a caller who is dropped cancels nothing.

use std::sync::Arc;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::apply::{apply, settle};
use super::error::of_statement;
use super::open::{ANSWER_TIMEOUT, is_sound};
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
    let mut lent = core.database.take("nothing was committed").await?;
    let ended = tokio::time::timeout(ANSWER_TIMEOUT, write(&core, &mut lent.connection, &commit, owner)).await;
    let (outcome, is_sound) = ended.unwrap_or_else(|_| {
        let text =
            format!("the transaction has not ended within {ANSWER_TIMEOUT:?}; it may stand, or be rolled back later");
        (Err(StoreError::Unavailable(text)), false)
    });
    lent.give_back(is_sound);
    outcome
}

/// Says whether the connection can be used again, too.
async fn write(
    core: &Core,
    connection: &mut PgConnection,
    commit: &Commit,
    owner: Option<Uuid>,
) -> (Result<Vec<OutboxId>, StoreError>, bool) {
    if commit.settles_only() {
        // One statement is a transaction by itself.
        let settled = settle(connection, &commit.settled).await;
        let sound = is_sound(&settled);
        return (settled.map(|()| Vec::new()), sound);
    }
    let mut transaction = match connection.begin().await {
        Ok(transaction) => transaction,
        Err(error) => return (Err(of_statement("no transaction can be begun", &error)), false),
    };
    match apply(&mut transaction, commit, owner, &core.writers, &core.probes).await {
        Ok(ids) => {
            let committed = transaction.commit().await.map_err(of_commit);
            // A COMMIT that is refused has rolled back.
            let sound = is_sound(&committed);
            (committed.map(|()| ids), sound)
        }
        Err(error) => {
            let sound = !matches!(error, StoreError::Unavailable(_)) && transaction.rollback().await.is_ok();
            (Err(error), sound)
        }
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
