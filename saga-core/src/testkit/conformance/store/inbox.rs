//! Properties of inbox and dead letters.

use super::StoreFactory;
use super::sample::{ENDPOINT, assert_conflict, at, commit, dead_letter, handled, id, inbox, outbox};
use crate::commit::{Commit, InboxRow};
use crate::store::{DeadLetterPage, StoreError};
use std::sync::Arc;

/// An endpoint handles a message once; another endpoint handles the same message, too.
pub async fn each_endpoint_handles_once(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let other = InboxRow { endpoint: "another".into(), message_id: id(1) };
    store.commit(commit(|it| it.inbox = vec![inbox(id(1)), inbox(id(2))])).await?;
    store.commit(commit(|it| it.inbox = vec![other.clone()])).await?;
    assert_conflict(store.commit(commit(|it| it.inbox = vec![inbox(id(3)), inbox(id(1))])).await);
    assert_conflict(store.commit(commit(|it| it.inbox = vec![other])).await);

    let asked = [id(1), id(2), id(3), id(2)];
    assert_eq!(handled(&*store, ENDPOINT, &asked).await?, [id(1), id(2)].into());
    assert_eq!(handled(&*store, "another", &asked).await?, [id(1)].into());
    assert!(handled(&*store, "a third", &asked).await?.is_empty());
    Ok(())
}

/// Pages go from the newest to the oldest, by time and id, and leave out what was redriven.
pub async fn dead_letters_are_paged_newest_first(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let mut rows: Vec<_> = (0..7).map(|n| dead_letter(id(n), at(n / 3))).collect();
    store.commit(commit(|it| it.dead_letters.clone_from(&rows))).await?;
    rows.sort_by_key(|row| std::cmp::Reverse((row.at, row.id)));
    let redriven = rows.remove(2);
    store.commit(commit(|it| it.redriven = vec![redriven.id])).await?;

    let mut page = DeadLetterPage { before: None, limit: 2 };
    let mut read = Vec::new();
    loop {
        let next = store.dead_letters(&page).await?;
        let Some(last) = next.last() else { break };
        assert!(next.len() <= 2);
        page.before = Some((last.at, last.id));
        read.extend(next);
    }
    assert_eq!(read, rows);
    Ok(())
}

/// A dead letter is redriven by one commit only; its message is forgotten by the inbox and can be handled again.
pub async fn a_dead_letter_is_redriven_once(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let dead = dead_letter(id("message"), at(1));
    let handled_and_dead = commit(|it| {
        it.inbox = vec![inbox(id("message"))];
        it.dead_letters = vec![dead.clone()];
    });
    store.commit(handled_and_dead).await?;
    assert_eq!(store.dead_letter(dead.id).await?.as_ref(), Some(&dead));
    let redrive = Arc::new(Commit {
        forgotten: vec![inbox(id("message"))],
        redriven: vec![dead.id],
        outbox: vec![outbox(id("message"))],
        ..Commit::new(at(9))
    });
    assert_eq!(store.commit(redrive.clone()).await?.len(), 1);
    assert_conflict(store.commit(redrive.clone()).await);

    assert_eq!(store.outbox(0, 10).await?.rows.len(), 1, "the second redrive has sent nothing");
    let stored = store.dead_letter(dead.id).await?;
    assert_eq!(stored.and_then(|it| it.redriven_at), Some(at(9)));
    assert!(handled(&*store, ENDPOINT, &[id("message")]).await?.is_empty());
    store.commit(commit(|it| it.inbox = vec![inbox(id("message"))])).await?;
    assert_conflict(store.commit(commit(|it| it.inbox = vec![inbox(id("message"))])).await);

    let again = commit(|it| (it.forgotten, it.inbox) = (vec![inbox(id("message"))], vec![inbox(id("message"))]));
    store.commit(again).await?;
    assert_eq!(handled(&*store, ENDPOINT, &[id("message")]).await?.len(), 1, "forgotten first, then handled again");
    Ok(())
}
