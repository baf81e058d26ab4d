//! Properties of instances.

use std::sync::Arc;

use super::StoreFactory;
use super::sample::{SAGA, assert_conflict, at, commit, id, instance, version};
use crate::commit::{Commit, FaultMark, Mark, StoredInstance};
use crate::message::Body;
use crate::store::{LoadQuery, StoreError};

/// A step is written if the instance is at the version that it started from, and only then.
pub async fn a_step_needs_the_expected_version(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let step = |micros, expected, version| {
        Arc::new(Commit { instances: vec![instance(id(1), expected, version)], ..Commit::new(at(micros)) })
    };
    assert_conflict(store.commit(step(0, 1, 2)).await);
    store.commit(step(1, 0, 1)).await?;
    assert_conflict(store.commit(step(2, 0, 1)).await);
    store.commit(step(3, 1, 4)).await?;
    assert_conflict(store.commit(step(4, 1, 2)).await);
    assert_conflict(store.commit(step(4, 3, 5)).await);
    assert_conflict(store.commit(step(4, 5, 6)).await);

    let stored = StoredInstance {
        id: id(1),
        version: 4,
        state: "Moved".to_owned(),
        data: Body::of(&serde_json::json!({ "steps": 4 })),
        timers: Body::of(&serde_json::json!({})),
        retry_count: 0,
        fault: None,
        created_at: at(1),
        updated_at: at(3),
    };
    assert_eq!(store.instance(SAGA, id(1)).await?.as_ref(), Some(&stored));
    let query = LoadQuery { endpoint: "", messages: &[], saga: SAGA, instances: &[id(1), id(2)] };
    assert_eq!(store.load(&query).await?.instances, [(id(1), stored)].into());

    let both = commit(|it| it.instances = vec![instance(id(1), 4, 5), instance(id(2), 0, 1), instance(id(3), 2, 3)]);
    assert_conflict(store.commit(both).await);
    assert_eq!((version(&*store, id(1)).await?, version(&*store, id(2)).await?), (4, 0));
    Ok(())
}

/// Retries and faults are counted without touching version and time of the last step; of no instance, no mistake.
pub async fn marks_count_beside_the_steps(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let mark = |name: u32, retries, fault| Mark { saga: SAGA.into(), id: id(name), retries, fault };
    let marks = |marks: Vec<Mark>| Arc::new(Commit { marks, ..Commit::new(at(9)) });
    store.commit(marks(vec![mark(1, 1, FaultMark::Set("too early".to_owned()))])).await?;
    let mut new = Commit { instances: vec![instance(id(1), 0, 1), instance(id(2), 0, 1)], ..Commit::new(at(1)) };
    new.marks = vec![mark(2, 1, FaultMark::Keep)];
    store.commit(Arc::new(new)).await?;
    let read = async |name: u32| {
        let it = store.instance(SAGA, id(name)).await?;
        Ok::<_, StoreError>(it.map(|it| (it.version, it.retry_count, it.fault, it.updated_at)))
    };
    assert_eq!(read(1).await?, Some((1, 0, None, at(1))), "a mark of no instance leaves nothing behind");
    assert_eq!(read(2).await?, Some((1, 1, None, at(1))), "a mark in the commit that makes the instance counts");

    let fault = || FaultMark::Set("gateway's \"down\"".to_owned());
    store.commit(marks(vec![mark(1, 1, FaultMark::Keep), mark(2, 1, FaultMark::Keep), mark(1, 1, fault())])).await?;
    let text = Some("gateway's \"down\"".to_owned());
    assert_eq!(read(1).await?, Some((1, 2, text.clone(), at(1))));
    assert_eq!(read(2).await?, Some((1, 2, None, at(1))));
    store.commit(marks(vec![mark(1, 1, FaultMark::Keep)])).await?;
    assert_eq!(read(1).await?, Some((1, 3, text.clone(), at(1))), "a fault stays until it is cleared");
    store.commit(commit(|it| it.instances = vec![instance(id(1), 1, 2)])).await?;
    assert_eq!(read(1).await?, Some((2, 3, text, at(0))), "a step keeps what was counted");
    store.commit(marks(vec![mark(1, 0, fault()), mark(1, 0, FaultMark::Clear)])).await?;
    assert_eq!(read(1).await?, Some((2, 3, None, at(0))));
    Ok(())
}
