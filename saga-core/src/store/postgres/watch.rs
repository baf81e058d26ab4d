//! Several hosts on one database: each keeps a lease, listens to what others leave, and looks for what a lost one left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use sqlx::{PgConnection, Row as _};
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use uuid::Uuid;

use super::Core;
use super::error::of_statement;
use super::open::Database;
use crate::commit::Commit;
use crate::store::{Change, StoreError};

/// How often a host renews its lease, and looks for what nobody does. This is all that an idle host asks of the server.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a host is believed to be alive after its last heartbeat: two may be lost before its work is taken over.
const LEASE: Duration = Duration::from_secs(6);
/// How long a heartbeat may take before its connection is given up: the next one must still come within the lease.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
/// How late a timer must be before another host than the one that set it fires it.
const TIMER_GRACE: Duration = Duration::from_secs(2);
/// How long a lost host's row is kept: longer than any host is suspended and still commits what it had begun.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause before a connection that was lost is made again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// What hosts tell each other on: the payload names what there is to do.
const CHANNEL: &str = "saga_changed";
const OUTBOX: &str = "outbox";
const TIMERS: &str = "timers";
const OUTBOX_AND_TIMERS: &str = "outbox,timers";

/// Renews the lease, and registers a host that has none yet.
const RENEW: &str = "INSERT INTO saga_hosts (id, name, lease_until, started_at)
    VALUES ($1, $2, now() + make_interval(secs => $3), now())
    ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, name = excluded.name";

/// A heartbeat: [`RENEW`], and forgets hosts that are long gone; answers whether there are outbox rows that nobody sends,
/// and whether there are timers that nobody fires.
const BEAT: &str = "WITH renewed AS (
      INSERT INTO saga_hosts (id, name, lease_until, started_at)
      VALUES ($1, $2, now() + make_interval(secs => $3), now())
      ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, name = excluded.name
    ), forgotten AS (
      DELETE FROM saga_hosts AS host WHERE host.id <> $1 AND host.lease_until < now() - make_interval(secs => $5)
        AND NOT EXISTS (SELECT FROM saga_outbox WHERE owner = host.id)
    )
    SELECT EXISTS (SELECT FROM saga_outbox WHERE owner IS NULL)
        OR EXISTS (SELECT FROM saga_hosts AS host WHERE host.id <> $1 AND host.lease_until <= now()
             AND EXISTS (SELECT FROM saga_outbox WHERE owner = host.id)),
      EXISTS (SELECT FROM saga_timers WHERE due < now() - make_interval(secs => $4))";

/// Ends the lease, and tells the others: from now on this host's rows are anybody's.
const RESIGN: &str = "WITH resigned AS (UPDATE saga_hosts SET lease_until = now() WHERE id = $1)
    SELECT pg_notify($2, $3)";

/// This process, among those that work on the database.
pub(super) struct Host {
    pub(super) id: Uuid,
    pub(super) name: String,
    registered: OnceCell<()>,
    beats: Mutex<Beats>,
    outbox: Notify,
    timers: Notify,
}

/// When this host was heard, for what it may say of others.
#[derive(Default)]
struct Beats {
    last: Option<Instant>,
    lenient_until: Option<Instant>,
}

impl Host {
    pub(super) fn new(id: Uuid, name: String) -> Self {
        let beats = Mutex::default();
        Self { id, name, registered: OnceCell::new(), beats, outbox: Notify::new(), timers: Notify::new() }
    }

    /// For how long after its lease another host is still believed to be alive.
    ///
    /// A host that was away longer than a lease finds everybody's lease over, because the server was away and not they: for
    /// the time of one lease it gives them as long again. Else the first to come back would do anew what all the others have
    /// in hand.
    pub(super) fn leniency(&self) -> Duration {
        let (beats, now) = (self.beats(), Instant::now());
        let is_away = beats.last.is_some_and(|last| now > last + LEASE);
        if is_away || beats.lenient_until.is_some_and(|until| now < until) { LEASE } else { Duration::ZERO }
    }

    /// This host's lease was renewed, by what it said then: not later than the server counts from.
    fn was_heard(&self, said: Instant) {
        let mut beats = self.beats();
        if beats.last.replace(said).is_some_and(|last| said > last + LEASE) {
            beats.lenient_until = Some(Instant::now() + LEASE);
        }
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when this host's row is there: outbox rows of a host that the others do not know are anybody's.
    pub(super) async fn register(&self, database: &Database) -> Result<(), StoreError> {
        let register = async || {
            let renew = sqlx::query(RENEW).bind(self.id).bind(&self.name).bind(LEASE.as_secs_f64());
            let said = Instant::now();
            database.tell("this host can not be registered", renew).await?;
            self.was_heard(said);
            Ok(())
        };
        self.registered.get_or_try_init(register).await.map(drop)
    }

    /// Returns when another host may have left something to do.
    pub(super) async fn changed(&self) -> Change {
        tokio::select! {
            () = self.outbox.notified() => Change::Outbox,
            () = self.timers.notified() => Change::Timers,
        }
    }

    fn hear(&self, notification: &PgNotification) {
        for what in notification.payload().split(',') {
            match what {
                OUTBOX => self.outbox.notify_one(),
                TIMERS => self.timers.notify_one(),
                // A newer program tells of something that this one does not know.
                _ => {}
            }
        }
    }
}

/// Tells the hosts that send and fire of what this commit leaves to them: once, whatever it leaves, and when it commits.
pub(super) async fn tell(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    let payload = match (commit.outbox.is_empty(), commit.timers.is_empty()) {
        (true, true) => return Ok(()),
        (false, true) => OUTBOX,
        (true, false) => TIMERS,
        (false, false) => OUTBOX_AND_TIMERS,
    };
    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(connection).await;
    notify.map(drop).map_err(|error| of_statement("the other hosts can not be told", &error))
}

/// Keeps the lease and listens until the store is closed; then the lease ends.
pub(super) async fn run(core: Arc<Core>) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Each loss is told of once, however long it lasts.
    let mut is_told = false;
    while !core.closing.is_cancelled() {
        match session(&core, &mut beats, &mut is_told).await {
            Ok(()) => return,
            Err(error) if is_told => {
                tracing::debug!(%error, "the connection that keeps this host's lease is still away")
            }
            Err(error) => {
                is_told = true;
                tracing::warn!(%error, "the connection that keeps this host's lease was lost; making it again");
            }
        }
        tokio::select! {
            () = core.closing.cancelled() => {}
            () = tokio::time::sleep(RECONNECT_PAUSE) => {}
        }
    }
}

/// One connection's time; ends without an error when the store is closed.
async fn session(core: &Core, beats: &mut Interval, is_told: &mut bool) -> Result<(), StoreError> {
    let lost = |error: sqlx::Error| of_statement("the connection was lost", &error);
    let pool = core.database.watch();
    let connecting = tokio::time::timeout(HEARTBEAT_TIMEOUT, PgListener::connect_with(&pool)).await;
    let connected = connecting.map_err(|_| StoreError::Unavailable("no connection came about".to_owned()))?;
    let mut listener = connected.map_err(lost)?;
    listener.eager_reconnect(false);
    let listening = tokio::time::timeout(HEARTBEAT_TIMEOUT, listener.listen(CHANNEL)).await;
    listening.map_err(|_| StoreError::Unavailable("LISTEN was not answered".to_owned()))?.map_err(lost)?;
    // What was told before is not told again.
    core.host.outbox.notify_one();
    core.host.timers.notify_one();
    beats.reset_immediately();
    loop {
        tokio::select! {
            () = core.closing.cancelled() => {
                resign(core, &mut listener).await;
                drop(listener);
                pool.close().await;
                return Ok(());
            }
            _ = beats.tick() => {
                beat(core, &mut listener).await?;
                *is_told = false;
            }
            heard = listener.try_recv() => match heard.map_err(lost)? {
                Some(notification) => core.host.hear(&notification),
                None => return Err(StoreError::Unavailable("the server has closed the connection".to_owned())),
            },
        }
    }
}

/// A heartbeat. While the tables are not there yet, it does nothing.
async fn beat(core: &Core, listener: &mut PgListener) -> Result<(), StoreError> {
    let host = &core.host;
    let beat = sqlx::query(BEAT).bind(host.id).bind(&host.name).bind(LEASE.as_secs_f64());
    let beat = beat.bind(TIMER_GRACE.as_secs_f64()).bind(REMEMBERED.as_secs_f64()).fetch_one(&mut *listener);
    let started = Instant::now();
    let answer = tokio::time::timeout(HEARTBEAT_TIMEOUT, beat).await;
    let answer = answer.map_err(|_| StoreError::Unavailable(format!("no answer for {:?}", started.elapsed())))?;
    let failed = |error: sqlx::Error| of_statement("the lease can not be renewed", &error);
    let row = match answer {
        Ok(row) => row,
        Err(error) if error.as_database_error().is_some() => {
            // The server is there, and the connection is sound.
            tracing::debug!(%error, "this host's lease can not be renewed");
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    host.was_heard(started);
    // Nobody waits for the other's answer: the row is there, whoever has written it.
    let _ = host.registered.set(());
    if row.try_get(0).map_err(failed)? {
        host.outbox.notify_one();
    }
    if row.try_get(1).map_err(failed)? {
        host.timers.notify_one();
    }
    Ok(())
}

async fn resign(core: &Core, listener: &mut PgListener) {
    let resign = sqlx::query(RESIGN).bind(core.host.id).bind(CHANNEL).bind(OUTBOX).execute(&mut *listener);
    match tokio::time::timeout(HEARTBEAT_TIMEOUT, resign).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "this host's lease was not ended; it ends by itself"),
        Err(_) => tracing::debug!("this host's lease was not ended in time; it ends by itself"),
    }
}
