//! Properties of timers.

use super::StoreFactory;
use super::sample::{assert_conflict, at, commit, id, timer};
use crate::commit::{TimerKind, TimerRow};
use crate::store::StoreError;

/// Due timers come the earliest first, as many as are asked for; `next_due` names the earliest of all.
pub async fn the_earliest_due_timer_comes_first(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    assert_eq!(store.next_due().await?, None);
    assert_eq!(store.due_timers(at(100), 10).await?.rows, []);
    let micros = [30, 10, 1_000_000, 20, 11];
    let mut rows: Vec<_> = micros.into_iter().map(|micros| timer(id(micros), at(micros))).collect();
    rows[1].kind = TimerKind::Redelivery;
    store.commit(commit(|it| it.timers.clone_from(&rows))).await?;
    rows.sort_by_key(|row| row.due);

    assert_eq!(store.next_due().await?, Some(at(10)));
    assert_eq!(store.next_due_after(at(10)).await?, Some(at(11)), "one that is due already is not next");
    assert_eq!(store.next_due_after(at(1_000_000)).await?, None);
    assert_eq!(store.due_timers(at(9), 10).await?.rows, []);
    assert_eq!(store.due_timers(at(10), 10).await?.rows, rows[..1], "one that is due now is due");
    assert_eq!(store.due_timers(at(30), 10).await?.rows, rows[..4]);
    assert_eq!(store.due_timers(at(2_000_000), 2).await?.rows, rows[..2]);
    Ok(())
}

/// A timer written again replaces the first; one that is cancelled, even by the commit that wrote it, never fires.
pub async fn timers_are_replaced_and_cancelled(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    store.commit(commit(|it| it.timers = vec![timer(id(1), at(10)), timer(id(2), at(20))])).await?;
    let later = TimerRow { endpoint: "elsewhere".into(), ..timer(id(1), at(40)) };
    store.commit(commit(|it| it.timers = vec![timer(id(1), at(30)), later.clone()])).await?;
    assert_eq!(store.due_timers(at(100), 10).await?.rows, [timer(id(2), at(20)), later.clone()]);
    assert_eq!(store.next_due().await?, Some(at(20)));

    let cancel = commit(|it| (it.timers, it.cancelled) = (vec![timer(id(3), at(5))], vec![id(2), id(3), id("absent")]));
    store.commit(cancel).await?;
    assert_eq!(store.due_timers(at(100), 10).await?.rows, [later]);
    assert_eq!(store.next_due().await?, Some(at(40)));
    store.commit(commit(|it| it.cancelled = vec![id(1)])).await?;
    assert_eq!(store.next_due().await?, None);
    Ok(())
}

/// A timer fires with one commit: whoever fires one that is gone is told, and nothing of its commit is written.
pub async fn a_timer_fires_once(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    store.commit(commit(|it| it.timers = vec![timer(id(1), at(10)), timer(id(2), at(20))])).await?;
    store.commit(commit(|it| it.fired = vec![id(1)])).await?;
    assert_eq!(store.due_timers(at(100), 10).await?.rows, [timer(id(2), at(20))]);
    assert_conflict(store.commit(commit(|it| it.fired = vec![id(2), id(1)])).await);
    assert_eq!(store.due_timers(at(100), 10).await?.rows, [timer(id(2), at(20))], "a conflict writes nothing");
    store.commit(commit(|it| it.cancelled = vec![id(2)])).await?;
    assert_conflict(store.commit(commit(|it| it.fired = vec![id(2)])).await);
    Ok(())
}
