//! What this store does where a protection is taken out of it, to see that the tests miss it. Feature `mutations`.

use rusqlite::{Connection, params};

use super::error::of_statement;
use super::text;
use crate::commit::InstanceRow;
use crate::mutation::{Mutation, is_out};
use crate::store::StoreError;

/// Without the check of versions: each instance is at the version that is expected.
pub(super) fn expect_any_version(connection: &Connection, rows: &[InstanceRow]) -> Result<(), StoreError> {
    for row in rows.iter().filter(|row| row.expected > 0 && is_out(Mutation::VersionCheck)) {
        let updated = connection.execute(
            "UPDATE saga_instances SET version = ? WHERE id = ? AND saga = ?",
            params![text::number(row.expected), text::id(row.id), row.saga],
        );
        updated.map_err(|error| of_statement("a mutation", &error, StoreError::Rejected))?;
    }
    Ok(())
}
