//! Several hosts on one database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use saga_core::{Change, Commit, Lane, OutboxId, Point, PostgresStore, Probe, Store, StoreError};
use sqlx::postgres::PgListener;
use sqlx::{PgConnection, Row as _};
use test_servers::Proxy;
use tokio::sync::Notify;

use super::fixture::{
    Database, at, builder, commit, eventually, id, ids, inbox, is_handled, migrator, outbox, patience, sending, timer,
};

/// A commit of a process that neither sends nor fires.
fn left_to_others(commit: &Commit) -> Arc<Commit> {
    Arc::new(Commit {
        at: commit.at,
        outbox: commit.outbox.clone(),
        timers: commit.timers.clone(),
        inbox: commit.inbox.clone(),
        handed_over: false,
        ..Commit::new(commit.at)
    })
}

/// Waits until the store says that this has changed; what else it says meanwhile is forgotten.
async fn told_of(store: &PostgresStore, change: Change) {
    let told = async { while store.changed().await != change {} };
    tokio::time::timeout(patience(), told).await.unwrap_or_else(|_| panic!("never told of {change:?}"));
}

/// Waits until the store has said that both have changed, in whatever order.
async fn told_of_both(store: &PostgresStore) {
    let told = async {
        let (mut outbox, mut timers) = (false, false);
        while !(outbox && timers) {
            match store.changed().await {
                Change::Outbox => outbox = true,
                Change::Timers => timers = true,
            }
        }
    };
    tokio::time::timeout(patience(), told).await.expect("not told of both");
}

/// Takes over whatever there is, as the relay does, until nothing has been there for as long as nobody tells of more.
async fn take_until(store: &PostgresStore, wanted: &[OutboxId]) {
    let mut taken = BTreeSet::new();
    let taking = async {
        while !wanted.iter().all(|id| taken.contains(id)) {
            let page = store.take_over(1_000).await.unwrap();
            if page.rows.is_empty() {
                told_of(store, Change::Outbox).await;
            }
            taken.extend(ids(&page.rows));
        }
    };
    tokio::time::timeout(patience(), taking).await.expect("rows are not taken over");
    assert_eq!(taken.into_iter().collect::<Vec<_>>(), wanted, "it took what is not a lost host's");
}

#[tokio::test]
async fn given_hosts_that_live_when_they_look_into_the_outbox_then_each_finds_its_own() {
    let database = Database::new();
    let (one, other) = (database.host().await, database.host().await);
    let sent = one.commit(sending(0..5)).await.unwrap();
    let others = other.commit(sending(5..7)).await.unwrap();
    let lane = Lane::of(&outbox(0));
    assert_eq!(ids(&one.outbox(0, 10).await.unwrap().rows), sent);
    assert_eq!(ids(&other.outbox(0, 10).await.unwrap().rows), others);
    assert_eq!(ids(&other.outbox_lane(&lane, others[0], 10).await.unwrap().rows), others[1..]);
    assert_eq!(other.outbox_lane(&Lane::Endpoint("elsewhere".into()), 0, 10).await.unwrap().rows, []);
    assert_eq!(other.take_over(10).await.unwrap().rows, [], "a host that lives keeps its rows");

    // Whoever has confirmed it settles it, whosever it is.
    other.commit(commit(|it| it.settled = vec![sent[0], others[0]])).await.unwrap();
    assert_eq!(ids(&one.outbox(0, 10).await.unwrap().rows), sent[1..]);
    assert_eq!(ids(&other.outbox(0, 10).await.unwrap().rows), others[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_rows_that_nobody_has_when_two_hosts_take_them_over_then_no_row_goes_to_both() {
    const ROWS: u128 = 500;
    let database = Database::new();
    let (one, other) = (database.host().await, database.host().await);
    let mut written = one.commit(left_to_others(&sending(0..ROWS))).await.unwrap();
    let take_all = async |store: &PostgresStore| {
        let mut taken = Vec::new();
        loop {
            let page = store.take_over(7).await.unwrap();
            assert!(page.rows.is_sorted_by_key(|(id, _)| *id) && page.unreadable.is_empty());
            taken.extend(ids(&page.rows));
            if page.rows.len() < 7 {
                return taken;
            }
        }
    };
    let (ones, others) = tokio::join!(take_all(&one), take_all(&other));
    let mut taken = [&ones[..], &others[..]].concat();
    taken.sort_unstable();
    written.sort_unstable();
    assert_eq!(taken, written);
    let kept = [ones, others].map(|taken| taken.into_iter().collect::<BTreeSet<_>>());
    for (store, kept) in [&one, &other].into_iter().zip(kept) {
        let own = store.outbox(0, 1_000).await.unwrap().rows;
        assert_eq!(ids(&own).into_iter().collect::<BTreeSet<_>>(), kept, "what was taken over is one's own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_callers_that_stop_waiting_for_rows_to_take_over_when_others_go_on_then_no_row_is_forgotten() {
    const ROWS: u128 = 300;
    let database = Database::new();
    let (host, other) = (database.host().await, database.host().await);
    let written = other.commit(left_to_others(&sending(0..ROWS))).await.unwrap();
    host.take_over(0).await.unwrap();
    let mut given = BTreeSet::new();
    for n in 0..ROWS as u64 {
        let moment = Duration::from_micros(100 + (n * 37) % 4_000);
        if let Ok(page) = tokio::time::timeout(moment, host.take_over(3)).await {
            given.extend(ids(&page.unwrap().rows));
        }
    }
    loop {
        let page = host.take_over(3).await.unwrap();
        given.extend(ids(&page.rows));
        if page.rows.len() < 3 {
            break;
        }
    }
    assert_eq!(given.into_iter().collect::<Vec<_>>(), written);
}

#[tokio::test]
async fn given_a_host_that_is_lost_when_its_lease_is_over_then_another_is_told_and_takes_its_rows() {
    let database = Database::new();
    let (lost, other) = (database.host().await, database.host().await);
    let left = lost.commit(sending(0..3)).await.unwrap();
    let own = other.commit(sending(3..4)).await.unwrap();
    let started = Instant::now();
    drop(lost);
    take_until(&other, &left).await;
    assert!(started.elapsed() < Duration::from_secs(20), "a lost host's work is taken over within seconds");
    assert_eq!(ids(&other.outbox(0, 10).await.unwrap().rows), [left, own].concat());
}

#[tokio::test]
async fn given_a_host_that_was_away_for_longer_than_a_lease_when_it_is_back_then_it_gives_the_others_time_to_come_back()
{
    let database = Database::new();
    let lost = database.host().await;
    let left = lost.commit(sending(0..3)).await.unwrap();
    let proxy = Proxy::to(&database.url);
    let away = builder(&proxy.url(&database.url)).open().await.unwrap();
    told_of_both(&away).await;
    assert_eq!(away.take_over(10).await.unwrap().rows, [], "its lease runs");

    drop(lost);
    proxy.refuse(true);
    proxy.cut();
    let mut beside = database.connect().await;
    eventually("every lease to be over", async || {
        let live = "SELECT FROM saga_hosts WHERE lease_until > now()";
        sqlx::query(live).fetch_optional(&mut beside).await.unwrap().is_none().then_some(())
    })
    .await;
    proxy.refuse(false);
    let page = loop {
        // Until it has a connection again; it has none that was not cut.
        match away.take_over(10).await {
            Ok(page) => break page,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
        }
    };
    assert_eq!(page.rows, [], "whoever lives may not have come back yet");
    take_until(&away, &left).await;
}

#[tokio::test]
async fn given_a_host_that_is_closed_when_it_leaves_rows_then_another_has_them_at_once() {
    let database = Database::new();
    let (leaving, other) = (database.host().await, database.host().await);
    let left = leaving.commit(sending(0..3)).await.unwrap();
    told_of_both(&other).await;
    assert_eq!(other.take_over(10).await.unwrap().rows, []);
    leaving.close().await;
    let closed = Instant::now();
    take_until(&other, &left).await;
    assert!(closed.elapsed() < Duration::from_secs(5), "it is not waited for the lease");
    assert!(leaving.commit(sending(4..5)).await.is_err() && leaving.ping().await.is_err());
}

#[tokio::test]
async fn given_a_host_that_keeps_its_id_when_it_starts_again_then_what_it_left_is_its_own_at_once() {
    let database = Database::new();
    let store = async || database.builder().host(id(7)).open().await.unwrap();
    let first = store().await;
    first.migrate(&migrator()).await.unwrap();
    let left = first.commit(sending(0..3)).await.unwrap();
    drop(first);
    let again = store().await;
    assert_eq!(again.host_id(), id(7));
    assert_eq!(ids(&again.outbox(0, 10).await.unwrap().rows), left);
}

#[tokio::test]
async fn given_rows_of_a_host_that_nobody_knows_when_a_host_starts_then_they_are_its_own() {
    let database = Database::new();
    let store = database.host().await;
    let left = store.commit(sending(0..3)).await.unwrap();
    store.close().await;
    sqlx::query("DELETE FROM saga_hosts").execute(&mut database.connect().await).await.unwrap();
    let store = database.host().await;
    assert_eq!(ids(&store.outbox(0, 2).await.unwrap().rows), left[..2]);
    assert_eq!(ids(&store.outbox(left[1], 2).await.unwrap().rows), left[2..]);
    assert_eq!(ids(&store.outbox(0, 10).await.unwrap().rows), left);
}

/// Stops a transaction at its first point until it is told to go on.
#[derive(Default)]
struct Suspended {
    reached: Notify,
    goes_on: Notify,
}

#[async_trait]
impl Probe for Suspended {
    async fn reached(&self, _: Point) {
        self.reached.notify_one();
        self.goes_on.notified().await;
    }
}

#[test]
fn given_a_host_that_was_suspended_beyond_its_lease_when_it_commits_late_then_the_rows_are_found() {
    let database = Database::new();
    let awake = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let other = awake.block_on(database.host());
    // A runtime that nobody drives stands still, as a process does that is suspended.
    let suspended = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let probe = Arc::new(Suspended::default());
    let (store, late) = suspended.block_on(async {
        let store = database.builder().probe(probe.clone()).open().await.unwrap();
        let early = store.commit(sending(0..1)).await.unwrap();
        store.commit(commit(|it| it.settled = early)).await.unwrap();
        let late = commit(|it| (it.inbox, it.outbox) = (vec![inbox(1)], vec![outbox(1), outbox(2)]));
        let committing = tokio::spawn({
            let store = store.clone();
            async move { store.commit(late).await }
        });
        probe.reached.notified().await;
        (store, committing)
    });
    awake.block_on(async {
        let mut beside = database.connect().await;
        let over = "SELECT lease_until < now() FROM saga_hosts WHERE id = $1";
        eventually("the lease to end", async || {
            let over: bool = sqlx::query_scalar(over).bind(store.host_id()).fetch_one(&mut beside).await.unwrap();
            over.then_some(())
        })
        .await;
        assert_eq!(other.take_over(10).await.unwrap().rows, [], "what is not committed is not seen");
    });
    probe.goes_on.notify_one();
    let written = suspended.block_on(late).unwrap().unwrap();
    drop(store);
    drop(suspended);
    awake.block_on(async {
        assert!(is_handled(&other, 1).await);
        take_until(&other, &written).await;
    });
}

#[tokio::test]
async fn given_work_for_others_when_it_is_committed_then_they_are_told_once_and_of_their_own_never() {
    let database = Database::new();
    let (host, relay) = (database.host().await, database.host().await);
    let mut listener = PgListener::connect(&database.url).await.unwrap();
    listener.listen("saga_changed").await.unwrap();
    told_of_both(&relay).await;

    let both =
        commit(|it| (it.outbox, it.timers) = (vec![outbox(1), outbox(2)], vec![timer(1, at(0)), timer(2, at(0))]));
    host.commit(commit(|it| it.inbox = vec![inbox(0)])).await.unwrap();
    host.commit(sending(3..6)).await.unwrap();
    host.commit(left_to_others(&commit(|it| it.inbox = vec![inbox(1)]))).await.unwrap();
    host.commit(left_to_others(&both)).await.unwrap();
    host.commit(left_to_others(&commit(|it| it.timers = vec![timer(3, at(0))]))).await.unwrap();
    host.commit(left_to_others(&sending(7..8))).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(listener.recv().await.unwrap().payload().to_owned());
    }
    assert_eq!(told, ["outbox,timers", "timers", "outbox"]);
    assert!(listener.next_buffered().is_none());

    told_of_both(&relay).await;
    let taken = relay.take_over(10).await.unwrap().rows;
    let messages: Vec<_> = taken.iter().map(|(_, row)| row.envelope.message_id).collect();
    assert_eq!(messages, [id(1), id(2), id(7)]);
}

#[tokio::test]
async fn given_a_connection_that_was_lost_when_it_is_made_again_then_all_may_have_changed() {
    let database = Database::new();
    let host = database.host().await;
    let mut beside = database.connect().await;
    told_of_both(&host).await;
    // What listens is idle between two heartbeats, and its last words were one or the other.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid() AND (query LIKE 'LISTEN%' OR query LIKE '%saga_hosts%')";
    let killed: i64 = sqlx::query_scalar(kill).fetch_one(&mut beside).await.unwrap();
    assert!(killed > 0);
    told_of_both(&host).await;
}

#[tokio::test]
async fn given_a_timer_that_nobody_fires_when_it_is_overdue_then_every_host_is_told() {
    let database = Database::new();
    let (host, other) = (database.host().await, database.host().await);
    for store in [&host, &other] {
        told_of_both(store).await;
    }
    host.commit(commit(|it| it.timers = vec![timer(1, Utc::now())])).await.unwrap();
    for store in [&host, &other] {
        told_of(store, Change::Timers).await;
    }
    assert_eq!(other.due_timers(Utc::now(), 10).await.unwrap().rows.len(), 1);
}

async fn known_hosts(connection: &mut PgConnection) -> BTreeSet<uuid::Uuid> {
    let rows = sqlx::query("SELECT id FROM saga_hosts").fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn given_hosts_that_are_long_gone_when_they_have_left_nothing_then_they_are_forgotten() {
    let database = Database::new();
    let host = database.host().await;
    host.commit(sending(0..1)).await.unwrap();
    let mut beside = database.connect().await;
    let old = "INSERT INTO saga_hosts (id, name, lease_until, started_at)
        SELECT id, 'gone', now() - days * interval '1 day', now() - interval '9 days'
        FROM unnest($1::uuid[], $2::float8[]) AS gone (id, days)";
    sqlx::query(old)
        .bind([id(1), id(2), id(3)].as_slice())
        .bind([0.9, 1.1, 1.1].as_slice())
        .execute(&mut beside)
        .await
        .unwrap();
    let left = "INSERT INTO saga_outbox (owner, message_id, message_type, envelope, created_at)
        VALUES ($1, $1, 'Test:Sent', 'not read here', now())";
    sqlx::query(left).bind(id(3)).execute(&mut beside).await.unwrap();
    eventually("a host to be forgotten", async || (!known_hosts(&mut beside).await.contains(&id(2))).then_some(()))
        .await;
    assert_eq!(
        known_hosts(&mut beside).await,
        [host.host_id(), id(1), id(3)].into(),
        "the others may still be asked for"
    );
}

#[tokio::test]
async fn given_rows_that_can_not_be_read_when_they_are_taken_over_then_they_are_told_of_and_block_no_other() {
    let database = Database::new();
    let (host, other) = (database.host().await, database.host().await);
    let written = other.commit(left_to_others(&sending(0..5))).await.unwrap();
    let spoil = sqlx::query("UPDATE saga_outbox SET envelope = 'no json' WHERE id = ANY($1)");
    spoil.bind(&written[1..3]).execute(&mut database.connect().await).await.unwrap();
    let page = host.take_over(3).await.unwrap();
    assert_eq!(ids(&page.rows), [written[0], written[3], written[4]]);
    let keys: Vec<_> = page.unreadable.iter().map(|row| row.key.clone()).collect();
    assert_eq!(keys, [written[1].to_string(), written[2].to_string()]);
    assert_eq!(host.take_over(3).await.unwrap().rows, []);
    let page = host.outbox(0, 3).await.unwrap();
    assert_eq!((ids(&page.rows), page.unreadable.len()), (vec![written[0], written[3], written[4]], 2));
}
