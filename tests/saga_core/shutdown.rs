//! How a runtime is set up and ends: mistakes are told before it runs, and callers are told the truth when it stops.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use saga_core::testkit::ManualClock;
use saga_core::{
    Clock, EmbeddedBus, Envelope, HandlerOptions, MemoryStore, Point, Probe, Runtime, RuntimeBuilder, RuntimeError,
    Store, SubmitError,
};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::lamp::{Electrician, LAMP, Lamp, Lit, Pushed, Watcher, Wire, house};

fn builder(clock: &Arc<ManualClock>) -> RuntimeBuilder {
    let store = Arc::new(MemoryStore::builder().build());
    Runtime::builder(store, Arc::new(EmbeddedBus::new())).clock(clock.clone()).saga::<Lamp>()
}

fn pushed(id: u128) -> Envelope {
    Envelope::new(Uuid::from_u128(id), &Pushed::of(LAMP))
}

#[test]
fn given_options_that_no_handler_can_live_by_when_it_is_built_then_the_endpoint_and_the_option_are_named() {
    let default = HandlerOptions::default();
    let options = [
        (HandlerOptions { concurrency: 0, ..default }, "concurrency of endpoint electrician is 0"),
        (HandlerOptions { concurrency: usize::MAX, ..default }, "concurrency of endpoint electrician is 1844"),
        (HandlerOptions { timeout: Duration::ZERO, ..default }, "timeout of endpoint electrician is zero"),
    ];
    for (options, expected) in options {
        let built = builder(&Arc::default()).activity::<Wire>(Electrician::default(), options).build();
        let Err(RuntimeError::Setup(text)) = built else { panic!("it was built with {options:?}") };
        assert!(text.contains(expected), "{text}");
    }
    let other = builder(&Arc::default()).consumer::<Lit>("watcher", Watcher::default(), default);
    assert!(other.build().is_ok());
}

#[test]
fn given_work_that_takes_too_long_when_it_is_shut_down_then_it_ends_at_the_drain_limit() {
    let electrician = Electrician { takes: Duration::from_secs(25), ..Electrician::default() };
    let drain = Duration::from_secs(7);
    let mut harness = house(&electrician, &Watcher::default()).with(move |it| it.drain(drain)).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    let before = harness.clock().now();
    harness.shut_down().unwrap();
    assert_eq!(harness.clock().now(), before + drain);
    assert_eq!(harness.backlog().outbox, 1, "the command goes on at the next start");
}

/// Holds the endpoint at its first batch.
#[derive(Default)]
struct Stuck {
    reached: Notify,
    released: Notify,
}

#[async_trait]
impl Probe for Stuck {
    async fn reached(&self, point: Point) {
        if point == Point::Received {
            self.reached.notify_one();
            self.released.notified().await;
        }
    }
}

#[tokio::test]
async fn given_a_submission_in_hand_when_the_runtime_is_gone_then_the_caller_is_told_that_nobody_knows() {
    let probe = Arc::new(Stuck::default());
    let runtime = builder(&Arc::default()).probe(probe.clone()).build().unwrap();
    let client = runtime.client();
    let running = tokio::spawn(runtime.run(std::future::pending()));
    let submitting = tokio::spawn(async move { client.submit::<Lamp>(pushed(1)).await });
    probe.reached.notified().await;
    running.abort();
    let answer = submitting.await.unwrap();
    assert!(matches!(answer, Err(SubmitError::Unknown)), "{answer:?}");
}

#[tokio::test]
async fn given_submissions_in_the_queue_when_it_is_shut_down_then_what_is_in_hand_is_done_and_the_others_are_told() {
    let probe = Arc::new(Stuck::default());
    let store = Arc::new(MemoryStore::builder().build());
    let runtime = Runtime::builder(store.clone(), Arc::new(EmbeddedBus::new())).clock(Arc::new(ManualClock::default()));
    let runtime = runtime.saga::<Lamp>().probe(probe.clone()).build().unwrap();
    let client = runtime.client();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run(async move { stopped.await.unwrap() }));
    let submit = |id| {
        let client = client.clone();
        tokio::spawn(async move { client.submit::<Lamp>(pushed(id)).await })
    };
    let first = submit(1);
    probe.reached.notified().await;
    let second = submit(2);
    // The second is in the queue as soon as its task has run once.
    tokio::task::yield_now().await;
    stop.send(()).unwrap();
    tokio::task::yield_now().await;
    probe.released.notify_one();
    running.await.unwrap().unwrap();
    assert!(first.await.unwrap().is_ok());
    let answer = second.await.unwrap();
    assert!(matches!(answer, Err(SubmitError::Stopped)), "{answer:?}");
    assert_eq!(store.journal("lamp", LAMP).await.unwrap().len(), 1);
}

#[tokio::test]
async fn given_a_caller_who_has_gone_when_its_turn_comes_then_its_submission_is_not_taken() {
    let store = Arc::new(MemoryStore::builder().build());
    let runtime = Runtime::builder(store.clone(), Arc::new(EmbeddedBus::new())).clock(Arc::new(ManualClock::default()));
    let runtime = runtime.saga::<Lamp>().build().unwrap();
    let client = runtime.client();
    let mut gone = Box::pin(client.submit::<Lamp>(pushed(1)));
    assert!(gone.as_mut().now_or_never().is_none());
    drop(gone);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run(async move { stopped.await.unwrap() }));
    let other = Uuid::from_u128(7);
    client.submit::<Lamp>(Envelope::new(Uuid::from_u128(2), &Pushed::of(other))).await.unwrap();
    assert_eq!(store.instance("lamp", LAMP).await.unwrap(), None);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
