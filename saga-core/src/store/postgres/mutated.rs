//! What this store does where a protection is taken out of it, to see that the tests miss it. Feature `mutations`.

use sqlx::PgConnection;

use super::Core;
use super::error::of_statement;
use crate::commit::Commit;
use crate::mutation::{Mutation, is_out};
use crate::store::StoreError;

/// Without the check of versions: each instance is at the version that is expected.
pub(super) async fn expect_any_version(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    let rows = commit.instances.iter().filter(|_| is_out(Mutation::VersionCheck));
    for row in rows {
        let update = sqlx::query("UPDATE saga_instances SET version = $1 WHERE id = $2 AND saga = $3");
        let update = update.bind(row.expected as i64).bind(row.id).bind(row.saga);
        update.execute(&mut *connection).await.map_err(|error| of_statement("a mutation", &error))?;
    }
    Ok(())
}

/// Without the fence of leases: that of every other host is over.
pub(super) async fn end_leases(core: &Core) -> Result<(), StoreError> {
    if is_out(Mutation::LeaseFencing) {
        let update = sqlx::query("UPDATE saga_hosts SET lease_until = '-infinity' WHERE id <> $1");
        core.database.tell("a mutation", update.bind(core.host.id)).await?;
    }
    Ok(())
}
