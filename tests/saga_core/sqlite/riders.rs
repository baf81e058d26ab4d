//! Commits that only take sent rows out of the outbox ride along with the next transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use saga_core::{Body, Envelope, OutboxRow, Point, Probe, Store, StoreError};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Folder, commit, inbox};

/// How long a test waits for what comes at once.
const PATIENCE: Duration = Duration::from_secs(30);

fn row(id: u128) -> OutboxRow {
    OutboxRow { destination: None, envelope: Arc::new(Envelope::raw(Uuid::from_u128(id), "Test:Sent", Body::of(&()))) }
}

#[tokio::test]
async fn given_sent_rows_that_wait_for_a_transaction_to_ride_along_with_when_the_store_is_closed_then_they_are_gone() {
    let folder = Folder::new();
    let store = folder.alone().await;
    let ids = store.commit(commit(|it| it.outbox = vec![row(1), row(2), row(3), row(4)])).await.unwrap();
    let sent = [ids[3], ids[0], ids[1]];
    let settle = store.commit(commit(|it| it.settled = sent.to_vec()));
    let (settled, ()) = tokio::join!(settle, store.close());
    settled.unwrap();
    let left = folder.alone().await.outbox(0, 10).await.unwrap().rows;
    assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [ids[2]]);
}

/// Tells when a point is reached, and panics there when it is told to.
struct PanicAt(Point, Notify, Notify);

#[async_trait]
impl Probe for PanicAt {
    async fn reached(&self, point: Point) {
        if point == self.0 {
            self.1.notify_one();
            self.2.notified().await;
            panic!("the writer's thread ends");
        }
    }
}

#[tokio::test]
async fn given_sent_rows_that_wait_for_a_transaction_when_the_writer_ends_by_a_panic_then_their_caller_is_told() {
    let folder = Folder::new();
    folder.alone().await.close().await;
    let probe = Arc::new(PanicAt(Point::InboxWritten, Notify::new(), Notify::new()));
    let store = folder.builder().probe(probe.clone()).open().await.unwrap();
    let writing = {
        let store = store.clone();
        tokio::spawn(async move { store.commit(commit(|it| it.inbox = vec![inbox(1)])).await })
    };
    probe.1.notified().await;
    let settle = store.commit(commit(|it| it.settled = vec![1]));
    let both = async { tokio::join!(settle, async { probe.2.notify_one() }) };
    let (told, ()) = tokio::time::timeout(PATIENCE, both).await.expect("nobody waits for ever");
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    assert!(writing.await.unwrap().is_err());
}

#[tokio::test]
async fn given_sent_rows_beside_a_commit_that_conflicts_when_both_are_committed_then_only_the_conflict_fails() {
    let folder = Folder::new();
    let store = folder.alone().await;
    let first = commit(|it| (it.inbox, it.outbox) = (vec![inbox(1)], vec![row(1)]));
    let ids = store.commit(first).await.unwrap();
    let settle = store.commit(commit(|it| it.settled = ids));
    let clash = store.commit(commit(|it| it.inbox = vec![inbox(1)]));
    let (settled, clash) = tokio::join!(settle, clash);
    settled.unwrap();
    assert!(matches!(clash, Err(StoreError::Conflict(_))), "{clash:?}");
    assert_eq!(store.outbox(0, 10).await.unwrap().rows, []);
}
