//! What this store does where a protection is taken out of it, to see that the tests miss it. Feature `mutations`.

use sqlx::SqliteConnection;

use super::error::of_statement;
use super::text;
use crate::commit::InstanceRow;
use crate::mutation::{Mutation, is_out};
use crate::store::StoreError;

/// Without the check of versions: each instance is at the version that is expected.
pub(super) async fn expect_any_version(
    connection: &mut SqliteConnection,
    rows: &[&InstanceRow],
) -> Result<(), StoreError> {
    let rows = rows.iter().filter(|_| is_out(Mutation::VersionCheck));
    for row in rows {
        let update = sqlx::query("UPDATE saga_instances SET version = ? WHERE id = ? AND saga = ?");
        let update = update.bind(row.expected as i64).bind(text::id(row.id).to_string()).bind(row.saga);
        let updated = update.execute(&mut *connection).await;
        updated.map_err(|error| of_statement("a mutation", &error, StoreError::Rejected))?;
    }
    Ok(())
}
