//! Properties of commits that meet.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::StoreFactory;
use super::sample::{
    ENDPOINT, SAGA, assert_conflict, commit, handled, id, inbox, instance, journal, outbox, row, version,
};
use crate::store::{Store, StoreError};

/// What a commit wrote is seen by whoever asks after it has returned.
pub async fn a_commit_is_seen_when_it_returns(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    for n in 0..100_u64 {
        let sent = store.commit(commit(|it| {
            it.inbox = vec![inbox(id(n))];
            it.instances = vec![instance(id("one"), n, n + 1)];
            it.journal = vec![journal(id("one"), n + 1)];
            it.outbox = vec![outbox(id(n))];
        }));
        let sent = sent.await?;
        assert_eq!(version(&*store, id("one")).await?, n + 1);
        assert!(handled(&*store, ENDPOINT, &[id(n)]).await?.contains(&id(n)));
        assert_eq!(store.outbox(sent[0] - 1, 10).await?.rows.len(), 1);
        assert_eq!(store.journal(SAGA, id("one")).await?.len() as u64, n + 1);
    }
    Ok(())
}

/// Of many that would create the same instance, one does.
pub async fn only_one_creates_an_instance(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let commits = (0..16).map(|n| {
        store.commit(commit(|it| (it.inbox, it.instances) = (vec![inbox(id(n))], vec![instance(id("one"), 0, 1)])))
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(commits).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 15));
    lost.into_iter().for_each(assert_conflict);
    let ids: Vec<_> = (0..16).map(id).collect();
    assert_eq!(handled(&*store, ENDPOINT, &ids).await?.len(), 1, "the others have handled nothing");
    Ok(())
}

/// Of commits that are made at the same time, the one that is at fault fails, and the others do not.
pub async fn a_clash_leaves_the_neighbours_alone(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    store.commit(commit(|it| it.inbox = vec![inbox(id("handled"))])).await?;
    let commits = (0..20_u32).map(|n| {
        store.commit(commit(|it| {
            it.inbox = vec![inbox(if n == 5 { id("handled") } else { id(n) })];
            it.instances = vec![instance(id(n), if n == 11 { 3 } else { 0 }, 4)];
            it.outbox = vec![outbox(id(n)), outbox(id(n))];
        }))
    });
    let mut sent = Vec::new();
    for (n, result) in join_all(commits).await.into_iter().enumerate() {
        match n {
            5 | 11 => assert_conflict(result),
            n => sent.extend(result?.into_iter().map(|row| (row, id(n)))),
        }
    }
    sent.sort_unstable();
    let stored = store.outbox(0, 100).await?.rows;
    let stored: Vec<_> = stored.into_iter().map(|(row, it)| (row, it.envelope.message_id)).collect();
    assert_eq!(stored, sent, "each commit was told the ids of its own rows");
    Ok(())
}

/// Whatever many tasks commit at the same time, every step is there once: versions without a gap, each with its line of
/// history, its domain row and its message.
pub async fn concurrent_commits_lose_nothing(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    const TASKS: u64 = 8;
    const STEPS: u64 = 25;
    const INSTANCES: u64 = 3;
    let store = factory.open().await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            for step in 0..STEPS {
                step_until_done(&*store, id((task + step) % INSTANCES), id(format!("{task}/{step}"))).await?;
            }
            Ok::<_, StoreError>(())
        });
    }
    tasks.join_all().await.into_iter().collect::<Result<(), _>>()?;

    let mut total = 0;
    for n in 0..INSTANCES {
        let reached = version(&*store, id(n)).await?;
        let lines: Vec<_> = store.journal(SAGA, id(n)).await?.into_iter().filter_map(|line| line.version).collect();
        assert_eq!(lines, (1..=reached).collect::<Vec<_>>());
        total += reached;
    }
    assert_eq!(total, TASKS * STEPS);
    assert_eq!(factory.rows().await.len() as u64, TASKS * STEPS);
    assert_eq!(store.backlog().await?.outbox, TASKS * STEPS);
    Ok(())
}

/// Takes one step as the runtime does: load, commit, and once more when somebody else was quicker.
async fn step_until_done(store: &dyn Store, instance_id: Uuid, message: Uuid) -> Result<(), StoreError> {
    loop {
        let found = version(store, instance_id).await?;
        let step = commit(|it| {
            it.inbox = vec![inbox(message)];
            it.instances = vec![instance(instance_id, found, found + 1)];
            it.journal = vec![journal(instance_id, found + 1)];
            it.rows = vec![row(message)];
            it.outbox = vec![outbox(message)];
        });
        match store.commit(Arc::clone(&step)).await {
            Err(StoreError::Conflict(_)) => {}
            done => return done.map(drop),
        }
    }
}
