//! The loop of a saga's endpoint.

use std::sync::Arc;

use async_trait::async_trait;
use saga_core::testkit::ManualClock;
use saga_core::{Commit, EmbeddedBus, Envelope, MemoryStore, OutboxRow, Point, Probe, Runtime, Saga, Store};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::lamp::{LAMP, Lamp, Pushed};

/// Tells when a message was handled.
#[derive(Default)]
struct Acknowledged(Notify);

#[async_trait]
impl Probe for Acknowledged {
    async fn reached(&self, point: Point) {
        if point == Point::Acknowledged {
            self.0.notify_one();
        }
    }
}

#[tokio::test]
async fn given_no_client_when_a_message_waits_in_the_outbox_then_the_runtime_goes_on_and_handles_it() {
    let store = MemoryStore::builder().build();
    let mut commit = Commit::new(chrono::DateTime::UNIX_EPOCH);
    let envelope = Arc::new(Envelope::new(Uuid::from_u128(1), &Pushed::of(LAMP)));
    commit.outbox.push(OutboxRow { destination: Some(Lamp::ENDPOINT.into()), envelope });
    store.commit(Arc::new(commit)).await.unwrap();
    let probe = Arc::new(Acknowledged::default());
    let runtime = Runtime::builder(Arc::new(store.clone()), Arc::new(EmbeddedBus::new()));
    let runtime = runtime.clock(Arc::new(ManualClock::default())).probe(probe.clone()).saga::<Lamp>().build().unwrap();

    runtime.run(probe.0.notified()).await.unwrap();
    assert_eq!(store.instance(Lamp::NAME, LAMP).await.unwrap().unwrap().state, "Waiting");
}
