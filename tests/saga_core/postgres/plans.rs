//! What the server is asked, and how it finds what it is asked for: as its own log tells.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use saga_core::testkit::conformance::store::TestRow;
use saga_core::{
    Body, Commit, DeadLetterPage, DeadLetterRow, EmbeddedBus, Envelope, FailureKind, FaultMark, JournalOutcome,
    JournalRow, Lane, LoadQuery, Mark, Old, PostgresStore, Runtime, Store,
};
use test_servers::{Postgres, PostgresOptions};

use super::fixture::{Database, at, commit, eventually, id, inbox, instance, outbox, sending, timer};
use crate::lamp::Lamp;

/// Writes and reads everything, each statement a few times.
async fn exercise(store: &PostgresStore, lost: &PostgresStore) {
    for n in 0..8_u128 {
        let mut all = Commit::new(at(0));
        let letter = Arc::new(Envelope::raw(id(n), "Test:Sent", Body::of(&n.to_string())));
        all.forgotten = vec![inbox(n)];
        all.inbox = vec![inbox(n)];
        all.instances = vec![instance(n, 0)];
        all.marks = vec![Mark { saga: "saga".into(), id: id(n), retries: 1, fault: FaultMark::Keep }];
        all.journal = vec![line(n)];
        all.rows = vec![Arc::new(TestRow { text: n.to_string(), spoiled: false })];
        all.timers = vec![timer(n, at(0)), timer(n + 100, at(0))];
        all.cancelled = vec![id(n)];
        all.fired = vec![id(n + 100)];
        all.outbox = vec![outbox(n), outbox(n + 100)];
        all.dead_letters = vec![DeadLetterRow::new(&letter, "endpoint".into(), FailureKind::Panic, "", at(0))];
        let (dead, sent) = (all.dead_letters[0].id, store.commit(Arc::new(all)).await.unwrap());
        store.commit(commit(|it| (it.instances, it.settled) = (vec![instance(n, 1)], sent))).await.unwrap();
        store.commit(commit(|it| it.redriven = vec![dead])).await.unwrap();
        store
            .commit(Arc::new(Commit { handed_over: false, outbox: vec![outbox(n)], ..Commit::new(at(0)) }))
            .await
            .unwrap();
        let (messages, instances) = ([id(n), id(n + 1)], [id(n), id(n + 1)]);
        let query = LoadQuery { endpoint: "endpoint", messages: &messages, saga: "saga", instances: &instances };
        store.load(&query).await.unwrap();
        store.instance("saga", id(n)).await.unwrap();
        store.journal("saga", id(n)).await.unwrap();
        store.due_timers(Utc::now(), 10).await.unwrap();
        store.next_due().await.unwrap();
        store.dead_letters(&DeadLetterPage { before: Some((at(9), id(9))), limit: 10 }).await.unwrap();
        store.dead_letter(dead).await.unwrap();
        lost.commit(sending(n..n + 1)).await.unwrap();
        store.take_over(10).await.unwrap();
        store.outbox(0, 10).await.unwrap();
        store.outbox_lane(&Lane::of(&outbox(0)), 0, 10).await.unwrap();
        for old in [Old::Inbox(at(0)), Old::Journal(at(0)), Old::Redriven(at(0))] {
            store.purge(old, 10).await.unwrap();
        }
    }
}

fn line(n: u128) -> JournalRow {
    JournalRow {
        saga: "saga".into(),
        id: id(n),
        version: Some(1),
        endpoint: "endpoint".into(),
        message_id: id(n),
        message_type: "Test:Sent".into(),
        message: Body::of(&()),
        conversation_id: id(n),
        initiator_id: None,
        user: None,
        attempt: 1,
        outcome: JournalOutcome::Moved,
        from: None,
        to: None,
        effects: Vec::new(),
        error: None,
        at: at(0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_tables_that_were_empty_when_their_plans_were_made_then_each_statement_goes_by_an_index() {
    let server = Postgres::start_with(PostgresOptions { durable: false });
    let database = Database::on(&server);
    // Every plan is written to the log, as it is used.
    let explain = "ALTER DATABASE %I SET session_preload_libraries = auto_explain";
    let minimum = "ALTER DATABASE %I SET auto_explain.log_min_duration = 0";
    for setting in [explain, minimum] {
        let set = format!("DO $$ BEGIN EXECUTE format('{setting}', current_database()); END $$");
        server.query(&database.url, &set);
    }
    let (store, lost) = (database.host().await, database.host().await);
    exercise(&store, &lost).await;
    store.close().await;
    lost.close().await;

    let log = server.log();
    let scans: BTreeSet<_> = log.lines().filter(|line| line.contains("Seq Scan on saga_")).map(str::trim).collect();
    // An operator's counts look at everything, and a few hosts are quicker read than looked up.
    let scans: Vec<_> = scans.into_iter().filter(|scan| !scan.contains("saga_hosts")).collect();
    assert!(scans.is_empty(), "{scans:#?}");
    for index in [
        "saga_inbox_pkey",
        "saga_inbox_handled",
        "saga_instances_pkey",
        "saga_journal_instance",
        "saga_journal_pkey",
        "saga_outbox_pkey",
        "saga_outbox_owner",
        "saga_outbox_nobody",
        "saga_timers_pkey",
        "saga_timers_due",
        "saga_dead_letters_pkey",
        "saga_dead_letters_open",
    ] {
        let is_used =
            |line: &str| line.contains(&format!("using {index} on")) || line.contains(&format!("Scan on {index} "));
        assert!(log.lines().any(is_used), "{index} is never used");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_hosts_that_have_nothing_to_do_when_the_server_counts_then_each_asks_less_than_twice_a_second() {
    const HOSTS: u32 = 2;
    const BEATS: usize = 4;
    let server = Postgres::start_with(PostgresOptions { durable: false });
    let database = Database::on(&server);
    database.host().await.close().await;
    let logged =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET log_statement = ''all''', current_database()); END $$";
    server.query(&database.url, logged);
    let mut stores = Vec::new();
    let mut running = Vec::new();
    for _ in 0..HOSTS {
        let store = database.builder().open().await.unwrap();
        let runtime = Runtime::builder(Arc::new(store.clone()), Arc::new(EmbeddedBus::new())).saga::<Lamp>();
        let runtime = runtime.build().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        running.push((stop, tokio::spawn(runtime.run(async move { drop(stopped.await) }))));
        stores.push(store);
    }
    // Beats of the first host are looked for in the log, so that nothing is asked but by the hosts themselves.
    let beats = |log: &str| log.lines().filter(|line| line.contains("WITH renewed AS")).count();
    let statements = |log: &str| {
        log.lines()
            .filter(|line| line.contains(" LOG:  "))
            .filter(|line| line.contains("execute") || line.contains("statement:"))
            .count()
    };
    let at_rest = eventually("the start to be over", async || {
        let log = server.log();
        (beats(&log) >= 2 * HOSTS as usize).then_some(log)
    })
    .await;
    let started = Instant::now();
    let later = eventually("some more heartbeats", async || {
        let log = server.log();
        (beats(&log) >= beats(&at_rest) + BEATS * HOSTS as usize).then_some(log)
    })
    .await;
    let (asked, elapsed) = (statements(&later) - statements(&at_rest), started.elapsed());
    println!("{HOSTS} hosts asked {asked} times in {elapsed:?}");
    assert!(asked >= BEATS, "the log does not tell");
    assert!(asked as f64 <= 2.0 * elapsed.as_secs_f64() * f64::from(HOSTS), "{asked} in {elapsed:?}");
    assert!(elapsed > Duration::from_secs(4), "heartbeats come too often: {elapsed:?}");
    for (stop, run) in running {
        stop.send(()).unwrap();
        run.await.unwrap().unwrap();
    }
    for store in stores {
        store.close().await;
    }
}
