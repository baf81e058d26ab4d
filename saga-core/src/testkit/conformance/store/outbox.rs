//! Properties of the outbox.

use futures_util::future::join_all;

use super::StoreFactory;
use super::sample::{commit, id, outbox};
use crate::commit::OutboxRow;
use crate::store::StoreError;

/// Ids are answered in the order of the rows and grow from commit to commit; pages follow them, and every field of a
/// row comes back.
pub async fn ids_grow_and_pages_follow_them(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let mut expected = Vec::new();
    for n in 0..5 {
        let rows: Vec<_> = (0..n).map(|m| outbox(id(n * 10 + m))).collect();
        let rows: Vec<_> = rows.into_iter().map(|row| OutboxRow { destination: Some("there".into()), ..row }).collect();
        let ids = store.commit(commit(|it| it.outbox.clone_from(&rows))).await?;
        assert_eq!(ids.len(), rows.len());
        expected.extend(ids.into_iter().zip(rows));
    }
    assert!(expected.is_sorted_by(|(a, _), (b, _)| a < b) && expected[0].0 > 0, "{expected:?}");

    let mut read = Vec::new();
    loop {
        let page = store.outbox(read.last().map_or(0, |(id, _)| *id), 3).await?.rows;
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    assert_eq!(read, expected);
    assert_eq!(store.outbox(i64::MAX, 3).await?.rows, []);
    Ok(())
}

/// Of commits that are made at the same time, each is told the ids of its own rows.
pub async fn each_commit_is_told_its_own_ids(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let commits = (0..30).map(|n| {
        let rows = (0..n % 4).map(|_| outbox(id(n))).collect();
        store.commit(commit(|it| it.outbox = rows))
    });
    let mut sent = Vec::new();
    for (n, ids) in join_all(commits).await.into_iter().enumerate() {
        let ids = ids?;
        assert_eq!(ids.len(), n % 4);
        sent.extend(ids.into_iter().map(|row| (row, id(n))));
    }
    sent.sort_unstable();
    let stored = store.outbox(0, 100).await?.rows;
    let stored: Vec<_> = stored.into_iter().map(|(row, it)| (row, it.envelope.message_id)).collect();
    assert_eq!(stored, sent);
    Ok(())
}

/// A settled row is gone; to settle it again changes nothing, whatever was written since.
pub async fn settling_twice_is_no_mistake(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let sent = store.commit(commit(|it| it.outbox = vec![outbox(id(1)), outbox(id(2)), outbox(id(3))])).await?;
    let settle = commit(|it| it.settled = vec![sent[2], sent[0], sent[0]]);
    store.commit(settle.clone()).await?;
    let later = store.commit(commit(|it| it.outbox = vec![outbox(id(4))])).await?;
    store.commit(settle).await?;
    assert!(later[0] > sent[2], "an id is not given twice");
    assert_eq!(store.outbox(0, 10).await?.rows, [(sent[1], outbox(id(2))), (later[0], outbox(id(4)))]);

    store.commit(commit(|it| it.settled = vec![sent[1], later[0]])).await?;
    assert_eq!(store.outbox(0, 10).await?.rows, []);
    Ok(())
}
