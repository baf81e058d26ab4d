//! What a transaction writes: the parts of a commit, in the order in which `Commit` declares them. A part without rows
//! costs no statement, any other costs one, however many rows it has.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};
use uuid::Uuid;

use super::domain::{self, Writers};
use super::encode::{DeadLetters, Inbox, Instances, Journal, Marks, Outbox, Timers, sorted};
use super::error::{of_insert, of_statement};
use super::text::time;
use super::watch;
use crate::commit::{Commit, InboxRow, OutboxId};
use crate::mutation::{Mutation, is_out};
use crate::probe::{Point, Probes};
use crate::store::StoreError;

/// How many ids the outbox's sequence gives at once; the migration says so, too.
const BLOCK: usize = 4_096;

/// Writes the commit into the transaction that is open on the connection; `owner` is the host that sends its outbox
/// rows, if it has any that does. Answers the ids of these rows, in their order.
pub(super) async fn apply(
    connection: &mut PgConnection,
    commit: &Commit,
    owner: Option<Uuid>,
    writers: &Writers,
    probes: &Probes,
) -> Result<Vec<OutboxId>, StoreError> {
    redrive(connection, commit).await?;
    if !commit.inbox.is_empty() {
        handle(connection, commit).await?;
        probes.reached(Point::InboxWritten).await;
    }
    if !commit.instances.is_empty() {
        move_instances(connection, commit).await?;
        probes.reached(Point::InstanceWritten).await;
    }
    mark(connection, commit).await?;
    write_journal(connection, commit).await?;
    domain::write(writers, connection, &commit.rows).await?;
    write_timers(connection, commit).await?;
    if !commit.cancelled.is_empty() {
        delete_timers(connection, &commit.cancelled).await?;
    }
    fire(connection, commit).await?;
    let ids = write_outbox(connection, commit, owner).await?;
    settle(connection, &commit.settled).await?;
    bury(connection, commit).await?;
    if !commit.handed_over {
        watch::tell(connection, commit).await?;
    }
    if !commit.rows.is_empty() && ends_with_rows(commit) {
        // A writer that passes over an error leaves a transaction whose COMMIT rolls back and says nothing.
        execute(connection, "the domain rows can not be committed", sqlx::query("SELECT")).await?;
    }
    Ok(ids)
}

/// Removes sent rows, whoever's they are; one that is not there is no mistake.
pub(super) async fn settle(connection: &mut PgConnection, settled: &[OutboxId]) -> Result<(), StoreError> {
    if settled.is_empty() {
        return Ok(());
    }
    let delete = sqlx::query("DELETE FROM saga_outbox WHERE id = ANY($1)").bind(sorted(settled));
    execute(connection, "outbox rows can not be removed", delete).await.map(drop)
}

async fn redrive(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    if !commit.forgotten.is_empty() {
        forget(connection, &commit.forgotten).await?;
    }
    if commit.redriven.is_empty() {
        return Ok(());
    }
    let update =
        sqlx::query("UPDATE saga_dead_letters SET redriven_at = $1 WHERE redriven_at IS NULL AND id = ANY($2)");
    let update = update.bind(time(commit.at)).bind(sorted(&commit.redriven));
    let redriven = execute(connection, "a dead letter can not be redriven", update).await?;
    if redriven == commit.redriven.len() as u64 {
        return Ok(());
    }
    Err(StoreError::Conflict(match &commit.redriven[..] {
        [id] => format!("dead letter {id} is not there, or was redriven before"),
        ids => format!("one of {} dead letters is not there, or was redriven before", ids.len()),
    }))
}

async fn forget(connection: &mut PgConnection, forgotten: &[InboxRow]) -> Result<(), StoreError> {
    let rows = Inbox::of(forgotten);
    let delete = sqlx::query(
        "DELETE FROM saga_inbox AS it USING unnest($1::uuid[], $2::text[]) AS old (message_id, endpoint)
         WHERE it.message_id = old.message_id AND it.endpoint = old.endpoint",
    );
    let delete = delete.bind(rows.messages).bind(rows.endpoints);
    execute(connection, "the inbox can not forget", delete).await.map(drop)
}

async fn handle(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    if is_out(Mutation::InboxCheck) {
        forget(connection, &commit.inbox).await?;
    }
    let rows = Inbox::of(&commit.inbox);
    // Almost never is one of them there: who loads before it commits knows of all but those of this very moment. So the
    // error is cheaper than the care that ON CONFLICT takes with each row.
    let insert = sqlx::query(
        "INSERT INTO saga_inbox (message_id, endpoint, handled_at)
         SELECT message_id, endpoint, $3 FROM unnest($1::uuid[], $2::text[]) AS new (message_id, endpoint)",
    );
    let insert = insert.bind(rows.messages).bind(rows.endpoints).bind(time(commit.at)).execute(connection).await;
    insert.map(drop).map_err(|error| of_insert("one of the messages was handled before", &error))
}

async fn move_instances(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    let new = Instances::of(commit.instances.iter().filter(|row| row.expected == 0));
    let old = Instances::of(commit.instances.iter().filter(|row| row.expected != 0));
    if !new.ids.is_empty() {
        let insert = sqlx::query(
            "INSERT INTO saga_instances (id, saga, version, state, data, timers, created_at, updated_at)
             SELECT id, saga, version, state, data, timers, $7, $7
             FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[])
               AS new (id, saga, version, state, data, timers)",
        );
        let insert = insert.bind(new.ids).bind(new.sagas).bind(new.versions).bind(new.states).bind(new.data);
        let insert = insert.bind(new.timers).bind(time(commit.at)).execute(&mut *connection).await;
        insert.map_err(|error| of_insert("an instance that was to be new is there already", &error))?;
    }
    let expected = old.ids.len() as u64;
    if expected == 0 {
        return Ok(());
    }
    #[cfg(feature = "mutations")]
    super::mutated::expect_any_version(connection, commit).await?;
    let update = sqlx::query(
        "UPDATE saga_instances AS old
         SET version = new.version, state = new.state, data = new.data, timers = new.timers, updated_at = $8
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[])
           AS new (id, saga, expected, version, state, data, timers)
         WHERE old.id = new.id AND old.saga = new.saga AND old.version = new.expected",
    );
    let update = update.bind(old.ids).bind(old.sagas).bind(old.expected).bind(old.versions).bind(old.states);
    let update = update.bind(old.data).bind(old.timers).bind(time(commit.at));
    let moved = execute(connection, "an instance can not be written", update).await?;
    if moved == expected {
        return Ok(());
    }
    let which = match &commit.instances[..] {
        [it] => format!(": {} {} was expected at version {}", it.saga, it.id, it.expected),
        _ => String::new(),
    };
    Err(StoreError::Conflict(format!("{} of {expected} instances have moved{which}", expected - moved)))
}

async fn mark(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    if commit.marks.is_empty() {
        return Ok(());
    }
    let marks = Marks::of(&commit.marks);
    let update = sqlx::query(
        "UPDATE saga_instances AS it SET retry_count = it.retry_count + mark.retries,
           fault = CASE WHEN mark.touches_fault THEN mark.fault ELSE it.fault END
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::boolean[], $5::text[])
           AS mark (id, saga, retries, touches_fault, fault)
         WHERE it.id = mark.id AND it.saga = mark.saga",
    );
    let update = update.bind(marks.ids).bind(marks.sagas).bind(marks.retries).bind(marks.touches_fault);
    execute(connection, "an instance can not be marked", update.bind(marks.faults)).await.map(drop)
}

async fn write_journal(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    if commit.journal.is_empty() {
        return Ok(());
    }
    let rows = Journal::of(&commit.journal);
    // An array is read in its order, so `seq` follows it.
    let insert = sqlx::query(
        "INSERT INTO saga_journal (instance_id, saga, version, endpoint, message_id, message_type, message,
           conversation_id, initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at)
         SELECT instance_id, saga, version, endpoint, message_id, message_type, message,
           conversation_id, initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::uuid[],
           $9::uuid[], $10::text[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
           $17::timestamptz[])
           AS new (instance_id, saga, version, endpoint, message_id, message_type, message, conversation_id,
             initiator_id, user_id, attempt, outcome, from_state, to_state, effects, error, at)",
    );
    let insert = insert.bind(rows.instances).bind(rows.sagas).bind(rows.versions).bind(rows.endpoints);
    let insert = insert.bind(rows.message_ids).bind(rows.message_types).bind(rows.messages).bind(rows.conversations);
    let insert = insert.bind(rows.initiators).bind(rows.users).bind(rows.attempts).bind(rows.outcomes).bind(rows.from);
    let insert = insert.bind(rows.to).bind(rows.effects).bind(rows.errors).bind(rows.times);
    execute(connection, "the journal can not be written", insert).await.map(drop)
}

async fn write_timers(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    if commit.timers.is_empty() {
        return Ok(());
    }
    let rows = Timers::of(&commit.timers);
    let insert = sqlx::query(
        "INSERT INTO saga_timers (token, kind, endpoint, due, message_id, message_type, envelope, created_at)
         SELECT token, kind, endpoint, due, message_id, message_type, envelope, $8
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[], $6::text[], $7::text[])
           AS new (token, kind, endpoint, due, message_id, message_type, envelope)
         ON CONFLICT (token) DO UPDATE SET kind = excluded.kind, endpoint = excluded.endpoint, due = excluded.due,
           message_id = excluded.message_id, message_type = excluded.message_type, envelope = excluded.envelope,
           created_at = excluded.created_at",
    );
    let insert = insert.bind(rows.tokens).bind(rows.kinds).bind(rows.endpoints).bind(rows.due).bind(rows.message_ids);
    let insert = insert.bind(rows.message_types).bind(rows.envelopes).bind(time(commit.at));
    execute(connection, "a timer can not be written", insert).await.map(drop)
}

/// Removes the timers that fire; each must be there.
async fn fire(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    if commit.fired.is_empty() {
        return Ok(());
    }
    let (found, expected) = (delete_timers(connection, &commit.fired).await?, commit.fired.len() as u64);
    if found == expected || is_out(Mutation::FiredOnce) {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("{} of {expected} timers were cancelled, or have fired before", expected - found)))
}

/// Says how many were there.
async fn delete_timers(connection: &mut PgConnection, tokens: &[Uuid]) -> Result<u64, StoreError> {
    let delete = sqlx::query("DELETE FROM saga_timers WHERE token = ANY($1)").bind(sorted(tokens));
    execute(connection, "timers can not be removed", delete).await
}

async fn write_outbox(
    connection: &mut PgConnection,
    commit: &Commit,
    owner: Option<Uuid>,
) -> Result<Vec<OutboxId>, StoreError> {
    let mut ids = Vec::with_capacity(commit.outbox.len());
    for block in commit.outbox.chunks(BLOCK) {
        let rows = Outbox::of(block);
        // The sequence counts blocks of ids, so a row's id is said by its position, not by the order in
        // which rows are written, and the first one says them all.
        let insert = sqlx::query_scalar(
            "WITH block AS MATERIALIZED (SELECT nextval('saga_outbox_id_seq') AS first),
             written AS (
               INSERT INTO saga_outbox (id, owner, message_id, message_type, destination, envelope, created_at)
               SELECT block.first + position - 1, $5, message_id, message_type, destination, envelope, $6
               FROM block, unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
                 AS new (message_id, message_type, destination, envelope, position)
             )
             SELECT first FROM block",
        );
        let insert = insert.bind(rows.message_ids).bind(rows.message_types).bind(rows.destinations);
        let insert = insert.bind(rows.envelopes).bind(owner).bind(time(commit.at));
        let first = insert.fetch_one(&mut *connection).await;
        let first: OutboxId = first.map_err(|error| of_statement("the outbox can not be written", &error))?;
        ids.extend((first..).take(block.len()));
    }
    Ok(ids)
}

async fn bury(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    if commit.dead_letters.is_empty() {
        return Ok(());
    }
    let rows = DeadLetters::of(&commit.dead_letters);
    let insert = sqlx::query(
        "INSERT INTO saga_dead_letters
           (id, endpoint, saga, reason, error, attempts, message_id, message_type, envelope, at)
         SELECT id, endpoint, saga, reason, error, attempts, message_id, message_type, envelope, at
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::uuid[], $8::text[],
           $9::text[], $10::timestamptz[])
           AS new (id, endpoint, saga, reason, error, attempts, message_id, message_type, envelope, at)
         ON CONFLICT (id) DO UPDATE SET endpoint = excluded.endpoint, saga = excluded.saga, reason = excluded.reason,
           error = excluded.error, attempts = excluded.attempts, message_id = excluded.message_id,
           message_type = excluded.message_type, envelope = excluded.envelope, at = excluded.at, redriven_at = NULL",
    );
    let insert = insert.bind(rows.ids).bind(rows.endpoints).bind(rows.sagas).bind(rows.reasons).bind(rows.errors);
    let insert = insert.bind(rows.attempts).bind(rows.message_ids).bind(rows.message_types).bind(rows.envelopes);
    execute(connection, "a dead letter can not be written", insert.bind(rows.times)).await.map(drop)
}

/// Whether nothing is written behind the domain rows.
fn ends_with_rows(commit: &Commit) -> bool {
    let Commit { timers, cancelled, fired, outbox, settled, dead_letters, .. } = commit;
    timers.is_empty()
        && cancelled.is_empty()
        && fired.is_empty()
        && outbox.is_empty()
        && settled.is_empty()
        && dead_letters.is_empty()
}

/// Says how many rows it has touched.
async fn execute(
    connection: &mut PgConnection,
    what: &str,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<u64, StoreError> {
    let done = query.execute(connection).await.map_err(|error| of_statement(what, &error))?;
    Ok(done.rows_affected())
}
