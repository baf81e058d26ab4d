//! The loop of a saga's endpoint.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use saga_core::testkit::{Harness, HarnessBuilder, ManualClock};
use saga_core::{
    Body, Bus, BusError, Commit, Confirm, DeadLetterPage, Delivery, EmbeddedBus, Endpoint, Envelope, JournalOutcome,
    MemoryStore, MemoryWriter, OutboxId, OutboxRow, Point, Probe, Receipt, Roles, Runtime, Saga, Store, SubmitError,
};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::by_hand::{ByHand, until};
use crate::lamp::{Broke, LAMP, Lamp, Pushed};
use crate::ledger::{ACCOUNT, Entry, Ledger, Posted, UNCLONABLE, UNREADABLE};

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

/// A database whose rule is that no entry may be negative.
struct NoDebts;

impl MemoryWriter<Entry> for NoDebts {
    fn check(&self, rows: &[&Entry]) -> Result<(), String> {
        rows.iter().find(|row| row.0 < 0).map_or(Ok(()), |row| Err(format!("{row:?} is negative")))
    }
    fn write(&self, _: &[&Entry]) {}
}

fn ledger() -> HarnessBuilder {
    Harness::builder().store(MemoryStore::builder().writer::<Entry, _>(NoDebts).build()).saga::<Ledger>()
}

#[test]
fn given_a_row_that_the_store_refuses_when_retries_end_then_its_instance_tells_of_each_attempt() {
    let mut harness = ledger().start();
    harness.publish(&Posted::of(7));
    harness.publish(&Posted::of(-1));
    harness.publish(&Posted::of(5));
    harness.advance(Duration::from_secs(60));
    let stored = harness.instance::<Ledger>(ACCOUNT).unwrap();
    let why = "the store refuses the rows: Entry(-1) is negative";
    assert_eq!((stored.version, stored.retry_count, stored.fault.as_deref()), (2, 3, Some(why)));
    assert_eq!(harness.data::<Ledger>(ACCOUNT).entries, [7, 5]);
    let attempts: Vec<_> = harness
        .journal::<Ledger>(ACCOUNT)
        .into_iter()
        .filter_map(|row| row.error.map(|error| (row.outcome, row.attempt, error)))
        .collect();
    let retried = |attempt| (JournalOutcome::Retried, attempt, why.to_owned());
    assert_eq!(attempts, [retried(1), retried(2), retried(3), (JournalOutcome::Faulted, 4, why.to_owned())]);
    let dead = harness.dead_letters();
    assert_eq!((dead.len(), &*dead[0].reason, dead[0].saga.as_deref()), (1, "transient", Some(Ledger::NAME)));
}

#[test]
fn given_a_body_that_can_not_be_read_when_its_envelope_names_the_instance_then_the_instance_tells_of_it() {
    let mut harness = ledger().start();
    harness.publish(&Posted::of(7));
    let body = Body::from_json("[]".to_owned()).unwrap();
    let envelope = Envelope::raw(Uuid::from_u128(9), "Ledger:Posted", body).correlated(ACCOUNT);
    harness.send_envelope(Ledger::ENDPOINT, envelope);
    let last = harness.journal::<Ledger>(ACCOUNT).pop().unwrap();
    assert_eq!((last.outcome, last.from), (JournalOutcome::Faulted, None));
    assert!(harness.instance::<Ledger>(ACCOUNT).unwrap().fault.unwrap().contains("the body is no Ledger:Posted"));
}

#[test]
fn given_data_that_panics_when_it_is_read_or_cloned_then_the_next_message_is_a_dead_letter_and_the_loop_goes_on() {
    for (spoiled, why) in [(UNREADABLE, "no reading of this"), (UNCLONABLE, "no clone of this")] {
        let mut harness = ledger().start();
        harness.publish(&Posted::of(spoiled));
        harness.publish(&Posted::of(1));
        harness.advance(Duration::from_secs(60));
        let why = format!("the handler panicked: {why}");
        let dead: Vec<_> = harness.dead_letters().into_iter().map(|row| (row.error, row.attempts)).collect();
        assert_eq!(dead, [(why.clone(), 4)]);
        let stored = harness.instance::<Ledger>(ACCOUNT).unwrap();
        assert_eq!((stored.version, stored.retry_count, stored.fault), (1, 3, Some(why)));
        harness.publish(&Posted { account: Uuid::from_u128(5), amount: 2 });
        assert_eq!(harness.data::<Ledger>(Uuid::from_u128(5)).entries, [2]);
        assert_eq!(harness.backlog().outbox, 0);
    }
}

#[tokio::test]
async fn given_a_deferred_message_when_a_caller_brings_it_in_the_same_batch_then_it_is_no_duplicate() {
    let envelope = Envelope::new(Uuid::from_u128(1), &Broke::of(LAMP));
    let probe = Arc::new(Acknowledged::default());
    let store = MemoryStore::builder().build();
    let runtime = Runtime::builder(Arc::new(store.clone()), Arc::new(OneBatch::of(envelope.clone())));
    let runtime = runtime.clock(Arc::new(ManualClock::default())).probe(probe.clone()).saga::<Lamp>().build().unwrap();
    let client = runtime.client();
    let (answer, ended) = tokio::join!(client.submit::<Lamp>(envelope), runtime.run(probe.0.notified()));
    ended.unwrap();
    assert!(matches!(&answer, Err(SubmitError::Refused(why)) if why.contains("does not shine yet")), "{answer:?}");
    assert_eq!(store.backlog().await.unwrap().timers, 1, "the delivery is tried again");
}

#[tokio::test]
async fn given_a_message_that_was_delivered_too_often_when_it_comes_again_then_it_is_a_dead_letter_untried() {
    for (redelivered, dead) in [(2, 0), (3, 1)] {
        let envelope = Envelope::new(Uuid::from_u128(1), &Pushed::of(LAMP));
        let probe = Arc::new(Acknowledged::default());
        let store = MemoryStore::builder().build();
        let bus = Arc::new(OneBatch { redelivered, ..OneBatch::of(envelope) });
        let runtime = Runtime::builder(Arc::new(store.clone()), bus).delivery_limit(3).probe(probe.clone());
        runtime.saga::<Lamp>().build().unwrap().run(probe.0.notified()).await.unwrap();
        let letters = store.dead_letters(&DeadLetterPage { before: None, limit: 9 }).await.unwrap();
        assert_eq!(letters.len(), dead, "{letters:?}");
        assert_eq!(store.instance(Lamp::NAME, LAMP).await.unwrap().is_some(), dead == 0);
        if let Some(letter) = letters.first() {
            assert_eq!(letter.reason, "crashing");
            assert_eq!(letter.error, "it was delivered 3 times and never handled; it may end whoever handles it");
        }
    }
}

#[tokio::test]
async fn given_several_that_were_delivered_too_often_when_they_come_then_the_first_is_given_up_and_the_others_are_tried()
 {
    let lamps = [LAMP, Uuid::from_u128(8), Uuid::from_u128(9)];
    let pushed = lamps.iter().zip(1..).map(|(lamp, n)| Arc::new(Envelope::new(Uuid::from_u128(n), &Pushed::of(*lamp))));
    let bus = Arc::new(OneBatch { envelopes: pushed.collect(), redelivered: 20, open: Mutex::default() });
    let store = MemoryStore::builder().build();
    let runtime = Runtime::builder(Arc::new(store.clone()), bus).saga::<Lamp>().build().unwrap();
    let others_are_moved = async {
        while store.instance(Lamp::NAME, lamps[2]).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    runtime.run(others_are_moved).await.unwrap();
    let letters = store.dead_letters(&DeadLetterPage { before: None, limit: 9 }).await.unwrap();
    assert_eq!(letters.iter().map(|row| row.envelope.message_id).collect::<Vec<_>>(), [Uuid::from_u128(1)]);
    assert!(store.instance(Lamp::NAME, LAMP).await.unwrap().is_none(), "it was not tried");
    assert!(store.instance(Lamp::NAME, lamps[1]).await.unwrap().is_some());
}

#[tokio::test]
async fn given_a_process_that_does_not_relay_when_it_steps_a_submission_then_what_follows_waits_for_others() {
    let store = MemoryStore::builder().build();
    let roles = Roles { sagas: false, handlers: false, relay: false };
    let runtime = Runtime::builder(Arc::new(store.clone()), Arc::new(EmbeddedBus::new())).roles(roles);
    let runtime = runtime.saga::<Lamp>().build().unwrap();
    let (client, stop) = (runtime.client(), Notify::new());
    let submit = async {
        let submitted = client.submit::<Lamp>(Envelope::new(Uuid::from_u128(1), &Pushed::of(LAMP))).await;
        stop.notify_one();
        submitted
    };
    let (submitted, ended) = tokio::join!(submit, runtime.run(stop.notified()));
    ended.unwrap();
    assert_eq!(submitted.unwrap().outcome(), Some(JournalOutcome::Moved));
    assert_eq!(store.backlog().await.unwrap().outbox, 1, "the call of the electrician is stored, and not sent");
}

/// Holds the first commit back whose rows are written, until it is released.
#[derive(Default)]
struct SlowCommit {
    held: AtomicBool,
    released: Notify,
}

#[async_trait]
impl Probe for SlowCommit {
    async fn reached(&self, point: Point) {
        if point == Point::InstanceWritten && !self.held.swap(true, Ordering::SeqCst) {
            self.released.notified().await;
        }
    }
}

#[tokio::test]
async fn given_a_message_whose_commit_is_not_done_when_the_process_could_die_then_it_is_not_acknowledged() {
    let (bus, commit) = (Arc::new(ByHand::default()), Arc::new(SlowCommit::default()));
    let store = MemoryStore::builder().probe(commit.clone()).build();
    let runtime = Runtime::builder(Arc::new(store.clone()), bus.clone()).saga::<Lamp>().build().unwrap();
    let running = tokio::spawn(runtime.run(std::future::pending()));
    let envelope = Arc::new(Envelope::new(Uuid::from_u128(1), &Pushed::of(LAMP)));
    let receipt = Receipt { epoch: 1, tag: 1 };
    until(|| bus.deliver(Lamp::ENDPOINT, &envelope, receipt)).await;
    until(|| commit.held.load(Ordering::SeqCst)).await;
    assert_eq!(*bus.acknowledged.lock().unwrap(), [], "if the process dies now, the message must come again");
    commit.released.notify_one();
    until(|| !bus.acknowledged.lock().unwrap().is_empty()).await;
    assert_eq!(*bus.acknowledged.lock().unwrap(), [receipt]);
    assert_eq!(store.instance(Lamp::NAME, LAMP).await.unwrap().unwrap().state, "Waiting");
    running.abort();
}

/// A bus on which one message waits for each endpoint when it starts.
struct OneBatch {
    envelopes: Vec<Arc<Envelope>>,
    redelivered: u32,
    open: Mutex<Vec<Open>>,
}

/// What a bus that was started keeps open.
type Open = (mpsc::UnboundedSender<Delivery>, mpsc::UnboundedSender<Confirm>);

impl OneBatch {
    fn of(envelope: Envelope) -> Self {
        Self { envelopes: vec![Arc::new(envelope)], redelivered: 0, open: Mutex::default() }
    }
}

#[async_trait]
impl Bus for OneBatch {
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
        let mut receivers = Vec::new();
        for _ in endpoints {
            let (sender, receiver) = mpsc::unbounded_channel();
            for (envelope, tag) in self.envelopes.iter().cloned().zip(1..) {
                let (receipt, redelivered) = (Receipt { epoch: 1, tag }, self.redelivered);
                sender.send(Delivery { envelope, receipt, redelivered }).unwrap();
            }
            self.open.lock().unwrap().push((sender, confirms.clone()));
            receivers.push(receiver);
        }
        Ok(receivers)
    }
    async fn send(&self, _: Vec<(OutboxId, OutboxRow)>) {}
    fn acknowledge(&self, _: &[Receipt]) {}
    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}
