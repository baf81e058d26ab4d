//! The check of a history against its table.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use saga_core::testkit::Harness;
use saga_core::{
    Bus, BusError, Confirm, Delivery, EmbeddedBus, Endpoint, Envelope, HandlerOptions, JournalOutcome, JournalRow,
    Machine, MemoryStore, OutboxId, OutboxRow, Receipt, Runtime, Saga, Store, StoredInstance, Violation,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::lamp::{Broke, Electrician, LAMP, Lamp, Lit, Pushed, Watcher, Wire, house};

/// The history of a lamp that was pushed twice, wired and left on until it warned.
fn sound() -> (StoredInstance, Vec<JournalRow>) {
    let mut harness: Harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.publish(&Pushed::of(LAMP));
    harness.publish(&Pushed::of(LAMP));
    harness.advance(crate::lamp::WARNING);
    let instance = harness.instance::<Lamp>(LAMP).unwrap();
    (instance, harness.journal::<Lamp>(LAMP))
}

fn check(instance: &StoredInstance, journal: &[JournalRow]) -> Vec<Violation> {
    Machine::<Lamp>::new().check(Some(instance), journal)
}

#[test]
fn given_a_history_as_it_was_written_when_checked_then_nothing_is_wrong_in_whatever_order_it_is_read() {
    let (instance, mut journal) = sound();
    assert!(instance.version >= 4, "{instance:?}");
    assert_eq!(check(&instance, &journal), []);
    journal.reverse();
    assert_eq!(check(&instance, &journal), []);
    assert_eq!(check(&instance, &journal[..1]), [], "its beginning was purged");
    assert_eq!(check(&instance, &[]), [], "all of it was purged");
}

#[test]
fn given_a_step_that_is_missing_or_doubled_when_checked_then_the_gap_is_named() {
    let (instance, mut journal) = sound();
    let second = journal.remove(1);
    let wrong = check(&instance, &journal);
    assert!(wrong.contains(&Violation::Versions { expected: 2, found: 3 }), "{wrong:?}");
    journal.extend([second.clone(), JournalRow { message_id: Uuid::from_u128(9), ..second }]);
    let wrong = check(&instance, &journal);
    assert!(wrong.contains(&Violation::Versions { expected: 3, found: 2 }), "{wrong:?}");
}

#[test]
fn given_versions_that_no_step_can_have_when_checked_then_they_are_named() {
    let (instance, journal) = sound();
    let mut zero = journal.clone();
    zero[0].version = Some(0);
    let wrong = check(&instance, &zero);
    assert!(wrong.contains(&Violation::Versions { expected: 1, found: 0 }), "{wrong:?}");
    let mut largest = journal;
    largest.iter_mut().for_each(|row| row.version = Some(u64::MAX));
    let wrong = check(&instance, &largest);
    assert!(wrong.contains(&Violation::Versions { expected: u64::MAX, found: u64::MAX }), "{wrong:?}");
}

#[test]
fn given_a_message_that_is_handled_twice_when_checked_then_it_is_named() {
    let (instance, mut journal) = sound();
    let again = JournalRow { version: None, outcome: JournalOutcome::Ignored, ..journal[0].clone() };
    let (message_id, endpoint) = (again.message_id, again.endpoint.clone());
    journal.push(again);
    let wrong = check(&instance, &journal);
    assert_eq!(wrong, [Violation::Twice { message_id, endpoint: endpoint.clone() }]);
    assert_eq!(wrong[0].to_string(), format!("message {message_id} was handled twice by {endpoint}"));
    journal.last_mut().unwrap().outcome = JournalOutcome::Faulted;
    assert_eq!(check(&instance, &journal), [], "what was given up and redriven was handled once");
}

#[test]
fn given_steps_that_the_table_does_not_have_when_checked_then_each_is_named() {
    let (instance, journal) = sound();
    let mut elsewhere = journal.clone();
    elsewhere[0].to = Some("Broken".into());
    let wrong = check(&instance, &elsewhere);
    let [Violation::Illegal { version: 1, from, to, .. }, Violation::Broken { version: 2, ended, begins }] = &wrong[..]
    else {
        panic!("{wrong:?}")
    };
    assert_eq!([from.as_str(), to, ended, begins], ["Dark", "Broken", "Broken", "Waiting"]);

    let mut unknown = journal.clone();
    unknown[0].message_type = "Lamps:Melted".into();
    assert!(matches!(&check(&instance, &unknown)[..], [Violation::Illegal { version: 1, .. }]));
    let mut begins = journal;
    begins[0].from = Some("Shining".into());
    assert!(check(&instance, &begins).iter().any(|it| matches!(it, Violation::Broken { version: 1, .. })));
}

#[test]
fn given_an_instance_that_is_not_what_its_history_left_when_checked_then_both_are_told() {
    let (instance, journal) = sound();
    let other = StoredInstance { version: instance.version + 1, ..instance.clone() };
    let wrong = check(&other, &journal);
    assert!(matches!(&wrong[..], [Violation::End { .. }]), "{wrong:?}");
    let lost = Machine::<Lamp>::new().check(None, &journal);
    assert!(matches!(&lost[..], [Violation::End { stored, .. }] if stored == "version 0, Dark"), "{lost:?}");
    assert_eq!(Machine::<Lamp>::new().check(None, &[]), []);
}

#[test]
fn given_a_timer_that_fires_when_it_does_not_run_any_more_then_it_is_named() {
    let (instance, journal) = sound();
    let started: Vec<_> = journal.iter().flat_map(|row| &row.effects).filter(|it| it.kind == "schedule").collect();
    let [replaced, last] = started[..] else { panic!("{started:?}") };
    let mut late = journal.clone();
    let fired = late.iter_mut().find(|row| Some(row.message_id) == last.message_id).unwrap();
    fired.message_id = replaced.message_id.unwrap();
    let version = fired.version.unwrap();
    let wrong = check(&instance, &late);
    assert_eq!(wrong, [Violation::Timer { version, message_type: "Lamps:TooLong".into() }]);
}

#[test]
fn given_a_produced_message_whose_id_does_not_follow_when_checked_then_it_is_named_and_a_redriven_one_is_not() {
    let (instance, journal) = sound();
    let mut drawn = journal.clone();
    let called = drawn[0].effects.iter_mut().find(|it| it.kind == "call").unwrap();
    called.message_id = Some(Uuid::from_u128(9));
    let underived = Violation::Underived { version: 1, message_id: Uuid::from_u128(9) };
    assert_eq!(check(&instance, &drawn), [underived]);
    let cause = Envelope::new(journal[0].message_id, &Pushed::of(LAMP));
    drawn[0].effects[0].message_id = Some(cause.redriven().redriven().produced_id(Lamp::ENDPOINT, 0));
    assert_eq!(check(&instance, &drawn), []);
}

/// Nothing here takes longer, or it never happens.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The embedded bus, and what was sent over it.
#[derive(Default)]
struct Witness {
    bus: EmbeddedBus,
    seen: Arc<Mutex<Vec<Envelope>>>,
}

#[async_trait]
impl Bus for Witness {
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
        self.bus.start(endpoints, confirms).await
    }

    async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) {
        self.seen.lock().unwrap().extend(rows.iter().map(|(_, row)| (*row.envelope).clone()));
        self.bus.send(rows).await;
    }

    fn acknowledge(&self, receipts: &[Receipt]) {
        self.bus.acknowledge(receipts);
    }

    fn health(&self) -> Result<(), String> {
        self.bus.health()
    }
}

/// A lamp that was lit and broke, with what a witness has seen on the bus meanwhile.
async fn witnessed() -> (StoredInstance, Vec<JournalRow>, Vec<Envelope>) {
    let store = MemoryStore::builder().build();
    let witness = Witness::default();
    let seen = witness.seen.clone();
    let runtime = Runtime::builder(Arc::new(store.clone()), Arc::new(witness))
        .saga::<Lamp>()
        .activity::<Wire>(Electrician::default(), HandlerOptions::default())
        .consumer::<Lit>("watcher", Watcher::default(), HandlerOptions::default());
    let runtime = runtime.build().unwrap();
    let client = runtime.client();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run(async { drop(stopped.await) }));
    client.publish(Envelope::new(Uuid::from_u128(1), &Pushed::of(LAMP))).await.unwrap();
    let until = async |state: &str| {
        let reached = async {
            while store.instance(Lamp::NAME, LAMP).await.unwrap().is_none_or(|it| it.state != state)
                || store.backlog().await.unwrap().outbox > 0
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("the lamp is never {state}"));
    };
    until("Shining").await;
    client.publish(Envelope::new(Uuid::from_u128(2), &Broke::of(LAMP))).await.unwrap();
    until("Broken").await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let instance = store.instance(Lamp::NAME, LAMP).await.unwrap().unwrap();
    let seen = seen.lock().unwrap().clone();
    (instance, store.journal(Lamp::NAME, LAMP).await.unwrap(), seen)
}

#[tokio::test]
async fn given_what_was_seen_on_the_bus_when_it_is_what_the_steps_have_produced_then_nothing_is_wrong() {
    let (instance, journal, seen) = witnessed().await;
    let compare = |journal: &[JournalRow], seen: &[Envelope]| {
        Machine::<Lamp>::new().check_messages(LAMP, Some(&instance), journal, seen)
    };
    // The two commands of the test, the call, the answer and the event that all was lit; the timer never came.
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert_eq!(compare(&journal, &seen), []);
    let twice: Vec<_> = seen.iter().chain(&seen).cloned().collect();
    assert_eq!(compare(&journal, &twice), [], "what is sent again after a crash is no ghost");

    let lit = seen.iter().find(|it| it.name() == "Lamps:Lit").unwrap();
    let without: Vec<_> = seen.iter().filter(|it| *it != lit).cloned().collect();
    let zombie = Violation::Zombie { version: 2, message_id: lit.message_id, message_type: "Lamps:Lit".into() };
    assert_eq!(compare(&journal, &without), [zombie]);

    let ghost = Envelope { message_id: Uuid::from_u128(9), ..lit.clone() };
    let full = Envelope { source_address: Some("rabbitmq://broker/shop/lamp-saga".to_owned()), ..ghost.clone() };
    let with: Vec<_> = seen.iter().cloned().chain([ghost, full]).collect();
    let named = Violation::Ghost { message_id: Uuid::from_u128(9), message_type: "Lamps:Lit".to_owned() };
    assert_eq!(compare(&journal, &with), [named], "told once");
    assert_eq!(compare(&journal[1..], &with), [], "its beginning was purged: what is not in it may have been");

    let rolled_back: Vec<_> = journal.iter().filter(|row| row.version != Some(2)).cloned().collect();
    let named = Violation::Ghost { message_id: lit.message_id, message_type: "Lamps:Lit".to_owned() };
    assert_eq!(compare(&rolled_back, &seen), [named], "it was sent, and its step was never committed");
}

#[tokio::test]
async fn given_messages_of_others_when_compared_with_a_history_then_they_are_no_ghosts() {
    let (instance, journal, mut seen) = witnessed().await;
    let lit = seen.iter().find(|it| it.name() == "Lamps:Lit").unwrap().clone();
    let other = Uuid::from_u128(9);
    seen.push(Envelope { message_id: other, correlation_id: Some(other), ..lit.clone() });
    seen.push(Envelope { message_id: other, source_address: Some("queue:watcher".to_owned()), ..lit.clone() });
    seen.push(Envelope { message_id: other, headers: saga_core::Headers::new(), ..lit });
    assert_eq!(Machine::<Lamp>::new().check_messages(LAMP, Some(&instance), &journal, &seen), []);
}
