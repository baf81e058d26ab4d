//! Activities and consumers: what a delivery meets whose message is still in somebody's hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use saga_core::testkit::Harness;
use saga_core::{
    Activity, ActivityHandler, Envelope, Failure, HandlerContext, HandlerOptions, MemoryStore, Message, Point, Probe,
    Receipt, RetryPolicy, Runtime,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::by_hand::{ByHand, until};
use crate::lamp::{Electrician, Job, LAMP, Lamp, Pushed, Watcher, Wire, Wired, house};

/// Once an activity has done its work, holds the next acknowledgement back until it is released.
#[derive(Default)]
struct SlowAcknowledgement {
    armed: AtomicBool,
    done: AtomicBool,
    released: Notify,
}

#[async_trait]
impl Probe for SlowAcknowledgement {
    async fn reached(&self, point: Point) {
        match point {
            Point::Performed if !self.done.swap(true, Ordering::SeqCst) => self.armed.store(true, Ordering::SeqCst),
            Point::Acknowledged if self.armed.swap(false, Ordering::SeqCst) => self.released.notified().await,
            _ => {}
        }
    }
}

#[test]
fn given_a_failed_attempt_not_yet_put_away_when_its_retry_is_due_then_the_retry_is_not_lost() {
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().push(Job::Fail);
    let probe = Arc::new(SlowAcknowledgement::default());
    let told = probe.clone();
    let house = house(&electrician, &Watcher::default()).with(move |runtime| runtime.probe(told.clone()));
    let mut harness = house.start();
    harness.publish(&Pushed::of(LAMP));
    // The attempt has failed and its retry is stored; the loop that stored it has not come further.
    harness.advance(Duration::from_secs(5));
    probe.released.notify_one();
    harness.advance(Duration::from_secs(5));
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Shining"));
    assert_eq!(electrician.keys.lock().unwrap().len(), 2, "the failed attempt, and one retry");
    assert_eq!(harness.backlog().outbox, 0);
}

#[test]
fn given_two_attempts_at_one_message_when_they_return_together_then_its_outcome_is_stored_once() {
    let takes = Duration::from_secs(10);
    let electrician = Electrician { takes, ..Electrician::default() };
    let mut harness = house(&electrician, &Watcher::default()).start();
    let id = Uuid::from_u128(77);
    let first = Envelope::new(id, &Wire::of(LAMP));
    harness.publish(&Pushed::of(LAMP));
    harness.advance(takes / 2);
    harness.send_envelope("electrician", first.clone());
    harness.send_envelope("electrician", first.with_attempt(2));
    harness.advance(takes * 2);
    let keys = electrician.keys.lock().unwrap().clone();
    assert_eq!(keys.iter().filter(|key| **key == id).count(), 2, "both attempts were made");
    assert_eq!(harness.published::<Wired>().len(), 1, "and one outcome was told");
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Shining"));
    assert_eq!((harness.backlog().outbox, harness.dead_letters().len()), (0, 0));
}

/// A command that fails, and whose failure message can not be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hopeless;

impl Message for Hopeless {
    const NAME: &'static str = "Test:Hopeless";
}

impl Activity for Hopeless {
    const ENDPOINT: &'static str = "hopeless";
    type Outcome = Wired;
    type Failed = Wired;
    fn failed(&self, _: &Failure) -> Wired {
        panic!("lost for words")
    }
}

/// Always fails; how, the flag says.
struct Fails(bool);

/// Panics when it is dropped in the middle of the work.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

#[async_trait]
impl ActivityHandler<Hopeless> for Fails {
    async fn execute(&self, _: &Hopeless, context: &HandlerContext) -> Result<Wired, Failure> {
        if self.0 {
            return Err(Failure::retry("no way"));
        }
        let _guard = PanicsWhenDropped;
        context.sleep(Duration::from_secs(3_600)).await;
        Err(Failure::retry("it was never dropped"))
    }
}

#[test]
fn given_a_failure_message_that_panics_when_retries_end_then_a_dead_letter_without_an_answer() {
    for (returns, error) in [(true, "no way"), (false, "the handler panicked: dropped")] {
        let mut harness = Harness::builder()
            .with(move |runtime| {
                let retry = RetryPolicy { limit: 1, ..RetryPolicy::default() };
                runtime.retry(retry).activity::<Hopeless>(Fails(returns), HandlerOptions::default())
            })
            .start();
        for n in 1..=2 {
            harness.send_envelope("hopeless", Envelope::new(Uuid::from_u128(n), &Hopeless));
            harness.advance(Duration::from_secs(120));
        }
        let dead: Vec<_> = harness.dead_letters().into_iter().map(|row| (row.error, row.attempts)).collect();
        assert_eq!(dead, [(error.to_owned(), 2), (error.to_owned(), 2)]);
        assert!(harness.published::<Wired>().is_empty());
        assert_eq!((harness.backlog().outbox, harness.backlog().timers), (0, 0));
    }
}

/// Works until it is told to stop.
#[derive(Clone, Default)]
struct Busy(Arc<(AtomicU32, Notify)>);

#[async_trait]
impl ActivityHandler<Wire> for Busy {
    async fn execute(&self, command: &Wire, _: &HandlerContext) -> Result<crate::lamp::Wiring, Failure> {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.notified().await;
        Ok(Wired::of(command.lamp).into())
    }
}

#[derive(Default)]
struct Received(AtomicU32);

#[async_trait]
impl Probe for Received {
    async fn reached(&self, point: Point) {
        self.0.fetch_add(u32::from(point == Point::Received), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn given_an_attempt_that_is_being_made_when_its_message_comes_again_then_nothing_is_acknowledged_before_its_end()
{
    let (bus, busy, received) = (Arc::new(ByHand::default()), Busy::default(), Arc::new(Received::default()));
    let runtime = Runtime::builder(Arc::new(MemoryStore::builder().build()), bus.clone()).probe(received.clone());
    let runtime = runtime.activity::<Wire>(busy.clone(), HandlerOptions::default()).build().unwrap();
    let running = tokio::spawn(runtime.run(std::future::pending()));
    let envelope = Arc::new(Envelope::new(Uuid::from_u128(1), &Wire::of(LAMP)));
    let receipts = [1, 2, 3].map(|epoch| Receipt { epoch, tag: 1 });
    until(|| bus.deliver("electrician", &envelope, receipts[0])).await;
    until(|| busy.0.0.load(Ordering::SeqCst) == 1).await;
    // The connection is lost, twice: what was delivered and not acknowledged comes again over the next.
    for (n, receipt) in receipts[1..].iter().enumerate() {
        assert!(bus.deliver("electrician", &envelope, *receipt));
        until(|| received.0.load(Ordering::SeqCst) == n as u32 + 2).await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*bus.acknowledged.lock().unwrap(), [], "if the process dies now, the message must come again");
    busy.0.1.notify_one();
    until(|| bus.acknowledged.lock().unwrap().len() == 3).await;
    assert_eq!(*bus.acknowledged.lock().unwrap(), receipts);
    assert_eq!(busy.0.0.load(Ordering::SeqCst), 1, "and the work was done once");
    running.abort();
}
