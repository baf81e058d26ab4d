//! Properties of a commit as a whole.

use std::sync::Arc;

use super::StoreFactory;
use super::sample::{
    ENDPOINT, SAGA, assert_conflict, assert_rejected, at, commit, dead_letter, full, handled, id, inbox, instance,
    journal, outbox, row, seen, spoiled, test_row, timer, version,
};
use crate::commit::{Commit, JournalRow};
use crate::message::derive_id;
use crate::store::{Backlog, DeadLetterPage, LoadQuery, Old, StoreError};

/// Whatever part of a commit is at fault, no part of it is written.
pub async fn a_conflict_writes_nothing(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    store.commit(Arc::new(full("first"))).await?;
    let before = seen(&*store, "second").await?;
    let faults: [fn(&mut Commit); 6] = [
        |it| it.inbox.push(inbox(id("first/message"))),
        |it| it.inbox.push(inbox(id("second/message"))),
        |it| it.instances.push(instance(id("first/instance"), 0, 1)),
        |it| it.instances.push(instance(id("first/instance"), 7, 8)),
        |it| it.redriven.push(id("never dead")),
        |it| it.fired.push(id("never set")),
    ];
    for fault in faults {
        let mut commit = full("second");
        fault(&mut commit);
        assert_conflict(store.commit(Arc::new(commit)).await);
        assert_eq!(seen(&*store, "second").await?, before);
        assert_eq!(factory.rows().await, [test_row("first")]);
    }
    let mut commit = full("second");
    commit.rows.push(spoiled());
    assert_rejected(store.commit(Arc::new(commit)).await);
    assert_eq!(seen(&*store, "second").await?, before);
    assert_eq!(factory.rows().await, [test_row("first")]);

    store.commit(Arc::new(full("second"))).await?;
    assert_ne!(seen(&*store, "second").await?, before, "without a fault it is written");
    Ok(())
}

/// A commit of two thousand messages is written, and read back, like any other.
pub async fn a_huge_commit_is_one_commit(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    const MESSAGES: usize = 2_000;
    let store = factory.open().await;
    let ids: Vec<_> = (0..MESSAGES).map(id).collect();
    let huge = |expected: u64| {
        commit(|it| {
            it.inbox = ids.iter().map(|it| inbox(derive_id(*it, &expected.to_string()))).collect();
            it.instances = ids.iter().map(|id| instance(*id, expected, expected + 1)).collect();
            it.journal = ids.iter().map(|id| journal(*id, expected + 1)).collect();
            it.outbox = ids.iter().map(|id| outbox(*id)).collect();
            it.timers = ids.iter().map(|id| timer(*id, at(10))).collect();
            it.rows = ids.iter().map(|id| row(id)).collect();
        })
    };
    let sent = store.commit(huge(0)).await?;
    assert_eq!(sent.len(), MESSAGES);
    assert!(sent.is_sorted());
    store.commit(huge(1)).await?;

    let query = LoadQuery { endpoint: ENDPOINT, messages: &ids, saga: SAGA, instances: &ids };
    let loaded = store.load(&query).await?;
    assert_eq!(loaded.instances.len(), MESSAGES);
    assert!(loaded.instances.values().all(|it| it.version == 2));
    assert_eq!(factory.rows().await.len(), 2 * MESSAGES);
    store.commit(commit(|it| (it.settled, it.cancelled) = (sent, ids.clone()))).await?;
    let backlog = store.backlog().await?;
    assert_eq!((backlog.outbox, backlog.timers), (MESSAGES as u64, 0));

    let mut last = huge(2);
    if let Some(it) = Arc::get_mut(&mut last) {
        it.instances[MESSAGES - 1].expected = 1;
    }
    assert_conflict(store.commit(last).await);
    assert_eq!(version(&*store, ids[0]).await?, 2, "one of two thousand was at fault, and none is written");
    Ok(())
}

/// What was committed is there after the store was closed and opened again, and outbox ids are not given twice.
pub async fn a_reopened_store_knows_everything(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let first = store.commit(Arc::new(full("first"))).await?;
    let before = seen(&*store, "first").await?;
    let settled = store.commit(commit(|it| it.outbox = vec![outbox(id("settled"))])).await?;
    store.commit(commit(|it| it.settled.clone_from(&settled))).await?;
    let Some(store) = factory.reopen(store).await else { return Ok(()) };

    assert_eq!(seen(&*store, "first").await?, before);
    assert_eq!(factory.rows().await, [test_row("first")]);
    assert_conflict(store.commit(Arc::new(full("first"))).await);
    let next = store.commit(commit(|it| it.outbox = vec![outbox(id("next"))])).await?;
    assert!(next > settled && settled > first, "{first:?}, {settled:?}, {next:?}");
    Ok(())
}

/// The backlog says how much waits, and since when.
pub async fn backlog_counts_what_waits(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    assert_eq!(store.backlog().await?, Backlog::default());
    let early = Commit { at: at(3), outbox: vec![outbox(id(1)), outbox(id(2))], ..Commit::new(at(3)) };
    let sent = store.commit(Arc::new(early)).await?;
    let mut late = Commit::new(at(4));
    late.outbox = vec![outbox(id(3))];
    late.timers = vec![timer(id("t1"), at(20)), timer(id("t2"), at(10))];
    late.dead_letters = vec![dead_letter(id("d1"), at(1)), dead_letter(id("d2"), at(2))];
    let redriven = late.dead_letters[0].id;
    store.commit(Arc::new(late)).await?;
    store.commit(commit(|it| it.redriven = vec![redriven])).await?;
    let mut expected =
        Backlog { outbox: 3, oldest_outbox: Some(at(3)), timers: 2, next_due: Some(at(10)), dead_letters: 1 };
    assert_eq!(store.backlog().await?, expected);

    store.commit(commit(|it| (it.settled, it.cancelled) = (sent, vec![id("t2")]))).await?;
    expected = Backlog { outbox: 1, oldest_outbox: Some(at(4)), timers: 1, next_due: Some(at(20)), dead_letters: 1 };
    assert_eq!(store.backlog().await?, expected);
    Ok(())
}

/// To ask for, settle, cancel or forget what is not there is no mistake; and a commit may be empty.
pub async fn unknown_ids_are_no_mistake(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    assert!(store.commit(commit(|_| ())).await?.is_empty());
    let absent = commit(|it| {
        it.forgotten = vec![inbox(id("absent"))];
        it.cancelled = vec![id("absent")];
        it.settled = vec![-1, 0, 1, i64::MAX];
    });
    assert!(store.commit(absent).await?.is_empty());
    assert_eq!(store.instance(SAGA, id("absent")).await?, None);
    assert_eq!(store.journal(SAGA, id("absent")).await?, []);
    assert_eq!(store.dead_letter(id("absent")).await?, None);
    assert!(handled(&*store, ENDPOINT, &[id("absent")]).await?.is_empty());
    let nothing = LoadQuery { endpoint: ENDPOINT, messages: &[], saga: SAGA, instances: &[id("absent")] };
    assert!(store.load(&nothing).await?.instances.is_empty());

    store.commit(commit(|it| it.instances = vec![instance(id("there"), 0, 1)])).await?;
    assert_eq!(store.instance("another saga", id("there")).await?, None, "an id belongs to its saga");
    Ok(())
}

/// What is old goes, a few rows at a time, and nothing else does: neither what is younger, nor what somebody waits for.
pub async fn old_rows_are_purged_in_bites(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let waiting = dead_letter(id("waiting"), at(0));
    let mut letters = Vec::new();
    for n in 0..6 {
        let (instance, message) = (id("instance"), id(n));
        let mut commit = Commit::new(at(n));
        commit.inbox.push(inbox(message));
        commit.journal.push(JournalRow { message_id: message, at: at(n), ..journal(instance, 1) });
        let letter = dead_letter(message, at(n));
        commit.dead_letters.push(letter.clone());
        store.commit(Arc::new(commit)).await?;
        let mut redrive = Commit::new(at(n));
        redrive.redriven.push(letter.id);
        letters.push(letter.id);
        store.commit(Arc::new(redrive)).await?;
    }
    store.commit(commit(|it| it.dead_letters = vec![waiting.clone()])).await?;
    for old in [Old::Inbox, Old::Journal, Old::Redriven] {
        let mut bites = 1;
        while store.purge(old(at(5)), 2).await? {
            bites += 1;
            assert!(bites < 10, "the purge of {:?} does not end", old(at(5)));
        }
        assert!(!store.purge(old(at(5)), 2).await?, "nothing is left to purge");
    }
    let messages: Vec<_> = (0..6).map(id).collect();
    assert_eq!(handled(&*store, ENDPOINT, &messages).await?, [id(5)].into());
    let journal = store.journal(SAGA, id("instance")).await?;
    assert_eq!(journal.iter().map(|row| row.message_id).collect::<Vec<_>>(), [id(5)]);
    assert!(store.dead_letter(letters[4]).await?.is_none() && store.dead_letter(letters[5]).await?.is_some());
    assert_eq!(store.dead_letters(&DeadLetterPage { before: None, limit: 10 }).await?, [waiting]);
    Ok(())
}
