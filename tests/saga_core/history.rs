//! The check of a history against its table.

use saga_core::testkit::Harness;
use saga_core::{JournalOutcome, JournalRow, Machine, StoredInstance, Violation};
use uuid::Uuid;

use crate::lamp::{Electrician, LAMP, Lamp, Pushed, Watcher, house};

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
