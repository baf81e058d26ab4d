//! Properties of domain rows.

use std::any::TypeId;
use std::sync::Arc;

use futures_util::future::join_all;

use super::sample::{ENDPOINT, assert_rejected, commit, handled, id, inbox, row, spoiled};
use super::{StoreFactory, TestRow};
use crate::store::StoreError;

/// Rows are written in the order of the commit, commit after commit.
pub async fn rows_are_written_in_order(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let texts: Vec<_> = (0..300).map(|n| format!("row {n}")).collect();
    for texts in texts.chunks(130) {
        store.commit(commit(|it| it.rows = texts.iter().map(|text| row(text)).collect())).await?;
    }
    assert_eq!(factory.rows().await.into_iter().map(|row| row.text).collect::<Vec<_>>(), texts);
    Ok(())
}

/// A row that the database refuses spoils its own commit, and none of those that are committed at the same time.
pub async fn a_refused_row_spoils_its_commit_alone(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    const COMMITS: usize = 20;
    let store = factory.open().await;
    let commits = (0..COMMITS).map(|n| {
        let domain = if n == 7 { spoiled() } else { row(n) };
        store.commit(commit(|it| (it.inbox, it.rows) = (vec![inbox(id(n))], vec![domain])))
    });
    for (n, result) in join_all(commits).await.into_iter().enumerate() {
        if n == 7 {
            assert_rejected(result);
        } else {
            result?;
        }
    }
    let ids: Vec<_> = (0..COMMITS).map(id).collect();
    let expected = ids.iter().copied().filter(|it| *it != id(7)).collect();
    assert_eq!(handled(&*store, ENDPOINT, &ids).await?, expected);
    let mut rows: Vec<usize> = factory.rows().await.iter().filter_map(|row| row.text.parse().ok()).collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..COMMITS).filter(|n| *n != 7).collect::<Vec<_>>());
    Ok(())
}

/// A store knows which rows it can write; a row that it can not write spoils the commit.
pub async fn a_row_without_a_writer_is_rejected(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    #[derive(Debug)]
    struct Stranger;
    let store = factory.open().await;
    assert!(store.writes(TypeId::of::<TestRow>()));
    assert!(!store.writes(TypeId::of::<Stranger>()));
    let spoiled = commit(|it| (it.inbox, it.rows) = (vec![inbox(id(1))], vec![row("one"), Arc::new(Stranger)]));
    assert_rejected(store.commit(spoiled).await);
    assert!(handled(&*store, ENDPOINT, &[id(1)]).await?.is_empty());
    assert_eq!(factory.rows().await, []);
    Ok(())
}
