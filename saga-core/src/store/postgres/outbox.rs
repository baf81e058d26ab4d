//! The outbox: whose rows are whose, and who takes over a lost host's.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::{Connection, PgConnection};
use tokio::sync::OwnedMutexGuard;

use super::Core;
use super::open::in_time;
use super::read::{Columns, read_outbox};
use super::text::{count, stored};
use super::transact::unhurried;
use super::watch::Host;
use crate::commit::{Lane, OutboxId, OutboxRow};
use crate::store::sql::add;
use crate::store::{Page, StoreError};

const NOT_TAKEN: &str = "outbox rows can not be taken over";

/// The hosts that have outbox rows and no lease, nor had one for so many seconds, `$1` excepted. The owners are found one
/// after another in the index, so that it costs as much as there are owners, and not as there are rows.
macro_rules! gone {
    ($seconds:literal) => {
        concat!(
            "WITH RECURSIVE owners AS (
           (SELECT owner FROM saga_outbox WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
           UNION ALL
           SELECT (SELECT it.owner FROM saga_outbox AS it WHERE it.owner > owners.owner ORDER BY it.owner LIMIT 1)
           FROM owners WHERE owners.owner IS NOT NULL
         ), gone AS MATERIALIZED (
           SELECT owner FROM owners WHERE owner <> $1
             AND NOT EXISTS (SELECT FROM saga_hosts WHERE id = owners.owner
               AND lease_until > now() - make_interval(secs => ",
            $seconds,
            "))
         ), "
        )
    };
}

/// The rows of one lane, of one endpoint `$4` or of one event `$5`, or of all.
macro_rules! lane {
    () => {
        "($4::text IS NULL OR destination = $4) AND ($5::text IS NULL OR destination IS NULL AND message_type = $5)"
    };
}

/// Takes over what nobody has or a lost host had, behind `$2`, and answers it with this host's own rows, `$3` at the most.
const SWEEP: &str = concat!(
    gone!("$6"),
    "nobodys AS MATERIALIZED (
       SELECT id FROM saga_outbox WHERE owner IS NULL AND id > $2 AND ",
    lane!(),
    " ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
     ), found AS MATERIALIZED (
       SELECT id FROM nobodys
       UNION ALL
       SELECT late.id FROM gone CROSS JOIN LATERAL (
         SELECT id FROM saga_outbox WHERE owner = gone.owner AND id > $2 AND ",
    lane!(),
    "     ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
       ) AS late
     ), taken AS (
       UPDATE saga_outbox AS it SET owner = $1 FROM (SELECT id FROM found ORDER BY id LIMIT $3) AS first
       WHERE it.id = first.id RETURNING it.id, it.destination, it.envelope
     )
     SELECT id, destination, envelope FROM taken
     UNION ALL
     (SELECT id, destination, envelope FROM saga_outbox WHERE owner = $1 AND id > $2 AND ",
    lane!(),
    " ORDER BY id LIMIT $3)
     ORDER BY id LIMIT $3"
);

/// Takes over what nobody has or a lost host had, and what this host has taken before and given to nobody (`$3`); `$2`
/// at the most.
const TAKE_OVER: &str = concat!(
    gone!("$4"),
    "nobodys AS MATERIALIZED (
       SELECT id FROM saga_outbox WHERE owner IS NULL ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
     ), found AS MATERIALIZED (
       SELECT id FROM nobodys
       UNION ALL
       SELECT late.id FROM gone CROSS JOIN LATERAL (
         SELECT id FROM saga_outbox WHERE owner = gone.owner ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
       ) AS late
       UNION ALL
       SELECT id FROM saga_outbox WHERE owner = $1 AND id = ANY($3)
     )
     UPDATE saga_outbox AS it SET owner = $1 FROM (SELECT id FROM found ORDER BY id LIMIT $2) AS first
     WHERE it.id = first.id RETURNING it.id, it.destination, it.envelope"
);

/// This host's rows, those of a lost one and nobody's; of one lane, or of all.
pub(super) async fn sweep(
    core: &Core,
    lane: Option<&Lane>,
    after: OutboxId,
    limit: usize,
) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
    core.host.register(&core.database).await?;
    #[cfg(feature = "mutations")]
    super::mutated::end_leases(core).await?;
    let mut page = Page { rows: Vec::new(), unreadable: Vec::new() };
    let mut after = after;
    while page.rows.len() < limit {
        let wanted = limit - page.rows.len();
        let (endpoint, event) = match lane {
            None => (None, None),
            Some(Lane::Endpoint(name)) => (Some(stored(name)), None),
            Some(Lane::Event(name)) => (None, Some(stored(name))),
        };
        let sweep = sqlx::query(SWEEP).bind(core.host.id).bind(after).bind(count(wanted)).bind(endpoint).bind(event);
        let sweep = sweep.bind(core.host.leniency().as_secs_f64());
        let rows = core.database.ask("the outbox can not be read", sweep).await?;
        for row in &rows {
            after = Columns(row, "saga_outbox").get(0)?;
            add(&mut page, after.to_string(), read_outbox(row));
        }
        if rows.len() < wanted {
            break;
        }
    }
    Ok(page)
}

/// Takes over rows that nobody sends.
///
/// Rows that were taken and then given to nobody, because the answer to the COMMIT was lost or the caller is gone, are
/// adrift: nobody else would look for them while this host lives. The next call gives them, too.
pub(super) async fn take_over(core: &Arc<Core>, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
    core.host.register(&core.database).await?;
    #[cfg(feature = "mutations")]
    super::mutated::end_leases(core).await?;
    // One call at a time: what one leaves adrift is the next one's.
    let adrift = core.adrift.clone().lock_owned().await;
    let (page, ids, mut adrift) = unhurried(core, take_all(core.clone(), limit, adrift)).await?;
    adrift.retain(|id| !ids.contains(id));
    Ok(page)
}

type Adrift = OwnedMutexGuard<HashSet<OutboxId>>;

/// Fills a page, and gives back the lock; the ids are those of all rows that were taken.
async fn take_all(
    core: Arc<Core>,
    limit: usize,
    mut adrift: Adrift,
) -> Result<(Page<(OutboxId, OutboxRow)>, HashSet<OutboxId>, Adrift), StoreError> {
    let (mut page, mut ids) = (Page { rows: Vec::new(), unreadable: Vec::new() }, HashSet::new());
    while page.rows.len() < limit {
        let wanted = limit - page.rows.len();
        let before: Vec<_> = adrift.difference(&ids).copied().collect();
        let taken = take(&core, wanted, &before, &mut adrift).await?;
        ids.extend(taken.iter().map(|(id, _)| *id));
        let is_last = taken.len() < wanted;
        for (id, row) in taken {
            add(&mut page, id.to_string(), row);
        }
        if is_last {
            // Of those that were adrift before, what was not found is gone, or another's.
            adrift.retain(|id| ids.contains(id));
            break;
        }
    }
    page.rows.sort_unstable_by_key(|(id, _)| *id);
    Ok((page, ids, adrift))
}

type Taken = Vec<(OutboxId, Result<(OutboxId, OutboxRow), StoreError>)>;

/// One transaction.
async fn take(core: &Core, limit: usize, before: &[OutboxId], adrift: &mut Adrift) -> Result<Taken, StoreError> {
    let mut lent = core.database.take(NOT_TAKEN).await?;
    let taken = take_with(&mut lent.connection, &core.host, limit, before, adrift).await;
    lent.give_back(taken.is_ok());
    taken
}

async fn take_with(
    connection: &mut PgConnection,
    host: &Host,
    limit: usize,
    before: &[OutboxId],
    adrift: &mut Adrift,
) -> Result<Taken, StoreError> {
    let mut transaction = in_time(NOT_TAKEN, connection.begin()).await?;
    let take = sqlx::query(TAKE_OVER).bind(host.id).bind(count(limit)).bind(before).bind(host.leniency().as_secs_f64());
    let rows = in_time(NOT_TAKEN, take.fetch_all(&mut *transaction)).await?;
    let ids = rows.iter().map(|row| Columns(row, "saga_outbox").get(0)).collect::<Result<Vec<OutboxId>, _>>()?;
    // From here on they may be this host's.
    adrift.extend(&ids);
    in_time(NOT_TAKEN, transaction.commit()).await?;
    Ok(ids.into_iter().zip(rows.iter().map(read_outbox)).collect())
}
