//! The shards of one process: its loops, and which of them a message goes to.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use saga_core::{
    BUCKETS, Body, EmbeddedBus, Envelope, MemoryStore, Message, Point, Probe, Runtime, RuntimeError, Saga, SubmitError,
    bucket,
};
use uuid::Uuid;

use crate::lamp::{Electrician, Lamp, Pushed, Watcher, Wire, house};
use crate::tally::{Tally, Told};

fn lamp(number: u128) -> Uuid {
    Uuid::from_u128(0x1a3b << 96 | number)
}

#[test]
fn given_shards_in_one_process_when_lamps_are_pushed_then_all_shine_over_whichever_way_they_came() {
    let (electrician, watcher) = (Electrician::default(), Watcher::default());
    let mut harness = house(&electrician, &watcher).with(|runtime| runtime.shards(Lamp::ENDPOINT, 5)).start();
    for number in 0..20 {
        match number % 3 {
            0 => drop(harness.submit::<Lamp>(&Pushed::of(lamp(number))).unwrap()),
            1 => harness.publish(&Pushed::of(lamp(number))),
            _ => {
                let id = Uuid::from_u128(0x99 << 64 | number);
                harness.send_envelope(Lamp::ENDPOINT, Envelope::new(id, &Pushed::of(lamp(number))));
            }
        }
    }
    for number in 0..20 {
        assert_eq!(harness.state::<Lamp>(lamp(number)).as_deref(), Some("Shining"), "lamp {number}");
    }
    let used = (0..20).map(|number| bucket(lamp(number)) % 5).collect::<std::collections::BTreeSet<_>>();
    assert!(used.len() > 1, "the lamps are of several shards: {used:?}");
    assert_eq!(watcher.0.load(std::sync::atomic::Ordering::SeqCst), 20);
    assert_eq!(harness.called::<Wire>().len(), 20);
}

#[test]
fn given_shards_when_nobody_can_read_a_message_then_it_is_a_dead_letter_and_its_caller_is_told() {
    let mut harness =
        house(&Electrician::default(), &Watcher::default()).with(|it| it.shards(Lamp::ENDPOINT, 3)).start();
    let broken = || Envelope::raw(Uuid::from_u128(7), Pushed::NAME, Body::of(&"no lamp"));
    let refused = harness.submit_envelope::<Lamp>(broken());
    assert!(matches!(refused, Err(SubmitError::Refused(_))), "{refused:?}");
    harness.send_envelope(Lamp::ENDPOINT, broken());
    assert_eq!(harness.dead_letters().len(), 1);
}

#[test]
fn given_shards_when_nobody_can_have_them_so_then_the_runtime_says_why() {
    let build = |endpoint, shards| {
        let (store, bus) = (Arc::new(MemoryStore::builder().build()), Arc::new(EmbeddedBus::new()));
        match Runtime::builder(store, bus).shards(endpoint, shards).saga::<Tally>().build() {
            Err(RuntimeError::Setup(why)) => why,
            Err(other) => other.to_string(),
            Ok(_) => "it is built".to_owned(),
        }
    };
    assert_eq!(build(Tally::ENDPOINT, 0), "endpoint tally-saga is to have 0 shards: say 1 to 128");
    assert_eq!(build(Tally::ENDPOINT, BUCKETS + 1), "endpoint tally-saga is to have 129 shards: say 1 to 128");
    assert_eq!(build("tally", 2), "endpoint tally is to have 2 shards, and no saga is registered on it");
    assert_eq!(build(Tally::ENDPOINT, BUCKETS), "it is built");
}

/// Counts how many loops are inside a batch at the same time, and holds each until all are.
#[derive(Default)]
struct Together(Mutex<usize>, tokio::sync::Notify);

#[async_trait]
impl Probe for Together {
    async fn reached(&self, point: Point) {
        if point != Point::Received {
            return;
        }
        *self.0.lock().unwrap() += 1;
        self.1.notify_waiters();
        loop {
            let changed = self.1.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if *self.0.lock().unwrap() >= 2 {
                return;
            }
            changed.await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_two_shards_when_each_has_a_message_then_their_loops_work_at_the_same_time() {
    let runtime = Runtime::builder(Arc::new(MemoryStore::builder().build()), Arc::new(EmbeddedBus::new()))
        .saga::<Tally>()
        .shards(Tally::ENDPOINT, 2)
        .probe(Arc::new(Together::default()))
        .build()
        .unwrap();
    let client = runtime.client();
    let running = tokio::spawn(runtime.run(std::future::pending()));
    let of = |shard| (1..).map(Uuid::from_u128).find(|id| bucket(*id) % 2 == shard).unwrap();
    let (even, odd) = (client.clone(), client);
    let both = async move {
        // Neither returns before the other one has come as far.
        tokio::join!(even.submit::<Tally>(Told::envelope(of(0), 1)), odd.submit::<Tally>(Told::envelope(of(1), 1)))
    };
    let (first, second) = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    running.abort();
}
