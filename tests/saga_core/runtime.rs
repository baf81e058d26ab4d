//! The runtime: what it promises, on the memory adapters under a manual clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use saga_core::{
    Activity, Envelope, JournalOutcome, Message, Point, Probe, RedriveError, RetryPolicy, Saga, Store, SubmitError,
    Submitted,
};
use uuid::Uuid;

use crate::lamp::{
    Broke, Electrician, Exploded, Job, LAMP, Lamp, Lit, NoPower, Pushed, TooLong, WARNING, Watcher, Wire, Wired, house,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn outcomes(rows: &[saga_core::JournalRow]) -> Vec<(String, JournalOutcome, u32)> {
    rows.iter().map(|row| (row.message_type.to_string(), row.outcome, row.attempt)).collect()
}

#[test]
fn given_a_push_when_all_goes_well_then_the_lamp_shines_and_the_watcher_knows() {
    let (electrician, watcher) = (Electrician::default(), Watcher::default());
    let mut harness = house(&electrician, &watcher).start();
    let submitted = harness.submit::<Lamp>(&Pushed::of(LAMP));
    assert_eq!(submitted.unwrap().outcome(), Some(JournalOutcome::Moved));
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Shining"));
    assert_eq!(harness.called::<Wire>(), [Wire::of(LAMP)]);
    assert_eq!(harness.published::<Lit>(), [Lit::of(LAMP)]);
    assert_eq!(watcher.0.load(Ordering::SeqCst), 1);
    let stored = harness.instance::<Lamp>(LAMP).unwrap();
    assert_eq!((stored.version, stored.retry_count, stored.fault), (2, 0, None));
    assert_eq!(
        outcomes(&harness.journal::<Lamp>(LAMP)),
        [("Lamps:Pushed".into(), JournalOutcome::Moved, 1), ("Lamps:Wired".into(), JournalOutcome::Moved, 1)]
    );
    let backlog = harness.backlog();
    assert_eq!((backlog.outbox, backlog.timers, backlog.dead_letters), (0, 1, 0));
}

#[test]
fn given_a_message_when_it_comes_again_under_its_id_then_nothing_changes() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    let envelope = Envelope::new(Uuid::from_u128(7), &Pushed::of(LAMP));
    harness.submit_envelope::<Lamp>(envelope.clone()).unwrap();
    let before = harness.instance::<Lamp>(LAMP);
    assert_eq!(harness.submit_envelope::<Lamp>(envelope.clone()).unwrap(), Submitted::Duplicate);
    harness.publish_envelope(envelope.clone());
    harness.send_envelope(Lamp::ENDPOINT, envelope);
    assert_eq!(harness.instance::<Lamp>(LAMP), before);
    assert_eq!(harness.journal::<Lamp>(LAMP).len(), 2);
}

#[test]
fn given_a_timer_when_it_is_replaced_and_cancelled_then_it_fires_once_or_never() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.advance(WARNING / 2);
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    assert_eq!(harness.scheduled::<TooLong>().len(), 2);
    harness.advance(WARNING - SECOND);
    assert_eq!(harness.data::<Lamp>(LAMP).warnings, 0, "the first timer was replaced");
    harness.advance(SECOND);
    assert_eq!(harness.data::<Lamp>(LAMP).warnings, 1);
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.publish(&Broke::of(LAMP));
    harness.advance(WARNING * 2);
    assert_eq!(harness.data::<Lamp>(LAMP).warnings, 1, "the last timer was cancelled");
    assert_eq!(harness.backlog().timers, 0);
}

#[test]
fn given_a_timer_that_was_replaced_when_its_late_copy_comes_then_it_changes_nothing() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.advance(WARNING / 2);
    let timers = harness.block_on(harness.store().due_timers(DateTime::<Utc>::MAX_UTC, 10)).unwrap().rows;
    let replaced = timers.into_iter().find(|row| row.envelope.name() == TooLong::NAME).unwrap();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.send_envelope(Lamp::ENDPOINT, replaced.envelope.as_ref().clone());
    harness.advance(SECOND);
    assert_eq!(harness.data::<Lamp>(LAMP).warnings, 0, "it fired all the same");
    let last = harness.journal::<Lamp>(LAMP).pop().unwrap();
    assert_eq!((last.message_id, last.outcome), (replaced.envelope.message_id, JournalOutcome::Ignored));
}

#[test]
fn given_an_activity_that_fails_when_it_is_retried_then_the_key_stays_and_the_retries_are_counted() {
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().extend([Job::Fail, Job::Panic, Job::Sleep(MINUTE)]);
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.advance(10 * MINUTE);
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Shining"));
    let keys = electrician.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 4, "three failures (one by its own timeout) and a success");
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(harness.instance::<Lamp>(LAMP).unwrap().retry_count, 3);
    let errors: Vec<_> = harness.journal::<Lamp>(LAMP).into_iter().filter_map(|row| row.error).collect();
    assert_eq!(
        errors,
        ["no ladder", "the handler panicked: fell off the ladder", "the handler did not return within 30s"]
    );
}

#[test]
fn given_an_activity_that_always_fails_when_retries_end_then_a_dead_letter_that_can_be_redriven() {
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().extend((0..4).map(|_| Job::Fail));
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.advance(MINUTE);
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Broken"), "the failure message came");
    let dead = harness.dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].attempts, &*dead[0].endpoint, &*dead[0].reason), (4, "electrician", "transient"));
    assert_eq!(harness.instance::<Lamp>(LAMP).unwrap().fault.as_deref(), Some("no ladder"));
    assert_eq!(electrician.keys.lock().unwrap().len(), 4);

    harness.redrive(dead[0].id).unwrap();
    assert_eq!(electrician.keys.lock().unwrap().len(), 5, "it was tried once more, with success");
    assert!(harness.dead_letters().is_empty());
    assert_eq!(harness.instance::<Lamp>(LAMP).unwrap().fault, None);
    assert!(matches!(harness.redrive(dead[0].id), Err(RedriveError::Already(_))));
    assert!(matches!(harness.redrive(Uuid::nil()), Err(RedriveError::Unknown(_))));
}

#[test]
fn given_a_permanent_failure_when_it_is_told_then_it_is_not_retried() {
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().push(Job::Refuse);
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    assert_eq!(harness.redeliveries(), 0);
    assert_eq!(harness.dead_letters().len(), 1);
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Broken"));
}

#[test]
fn given_an_event_that_is_too_early_when_its_time_comes_then_it_is_handled() {
    let electrician = Electrician { takes: 2 * SECOND, ..Electrician::default() };
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.publish(&Broke::of(LAMP));
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Waiting"));
    harness.advance(MINUTE);
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Broken"));
    assert!(harness.dead_letters().is_empty());
    assert!(harness.redeliveries() >= 1);
}

#[test]
fn given_an_event_that_stays_too_early_when_retries_end_then_it_is_a_dead_letter() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.publish(&Broke::of(LAMP));
    harness.advance(MINUTE);
    assert_eq!(harness.redeliveries(), 3);
    let dead = harness.dead_letters();
    assert_eq!((dead.len(), &*dead[0].reason, dead[0].attempts), (1, "deferred", 4));
    assert_eq!(harness.instance::<Lamp>(LAMP), None, "a message that was not handled makes no instance");
}

#[test]
fn given_a_mistake_when_it_is_rejected_then_it_is_a_dead_letter_at_once_and_the_next_goes_on() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.publish(&Wired::of(LAMP));
    assert_eq!(harness.dead_letters().len(), 1);
    assert_eq!(&*harness.dead_letters()[0].reason, "rejected");
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Shining"));
}

#[test]
fn given_a_caller_when_the_saga_refuses_then_the_caller_is_told_and_nothing_is_stored() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    for refused in [harness.submit::<Lamp>(&NoPower::of(LAMP)), harness.submit::<Lamp>(&Broke::of(LAMP))] {
        assert!(matches!(refused, Err(SubmitError::Refused(_))), "{refused:?}");
    }
    let burst = harness.submit::<Lamp>(&Exploded::of(LAMP));
    assert!(matches!(&burst, Err(SubmitError::Refused(why)) if why.contains("the bulb burst")), "{burst:?}");
    assert!(harness.journal::<Lamp>(LAMP).is_empty());
    assert!(harness.dead_letters().is_empty());
    assert_eq!(harness.backlog().timers, 0);
}

#[test]
fn given_a_handler_that_panics_when_it_is_retried_then_the_instance_is_as_it_was() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.publish(&Exploded::of(LAMP));
    harness.advance(MINUTE);
    assert_eq!(harness.data::<Lamp>(LAMP).pushes, 1, "nothing of the panicking step stays");
    let stored = harness.instance::<Lamp>(LAMP).unwrap();
    assert_eq!((stored.version, stored.retry_count), (2, 3));
    assert_eq!(stored.fault.as_deref(), Some("the handler panicked: the bulb burst"));
    assert_eq!(&*harness.dead_letters()[0].reason, "panic");
}

#[test]
fn given_a_body_that_is_no_message_when_it_comes_then_it_is_a_dead_letter_at_once() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    let raw = |id, name: &'static str, body: &str| {
        Envelope::raw(Uuid::from_u128(id), name, saga_core::Body::from_json(body.to_owned()).unwrap())
    };
    harness.send_envelope("lamp-saga", raw(1, "Lamps:Pushed", r#"{"lamp":7}"#));
    harness.send_envelope("lamp-saga", raw(2, "Lamps:Unheard", "{}"));
    harness.send_envelope("electrician", raw(3, "Lamps:Wire", "[]"));
    harness.send_envelope("electrician", raw(4, "Lamps:Unheard", "{}"));
    harness.send_envelope("nowhere", raw(5, "Lamps:Pushed", "{}"));
    let reasons: Vec<_> = harness.dead_letters().iter().map(|row| row.reason.to_string()).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "undecodable").count(), 4, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| *reason == "unroutable").count(), 1, "{reasons:?}");
    assert_eq!(harness.backlog().outbox, 0, "nothing is blocked");
}

#[test]
fn given_a_command_of_a_saga_that_can_not_be_read_when_it_is_given_up_then_its_fault_is_no_second_dead_letter() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    let body = saga_core::Body::from_json("[]".to_owned()).unwrap();
    let mut command = Envelope::raw(Uuid::from_u128(9), "Lamps:Wire", body).correlated(LAMP);
    command.response_address = Some("queue:lamp-saga".to_owned());
    command.headers.insert(saga_core::header::SAGA.into(), Lamp::NAME.into());
    harness.send_envelope("electrician", command);
    let endpoints: Vec<_> = harness.dead_letters().iter().map(|row| row.endpoint.to_string()).collect();
    assert_eq!(endpoints, ["electrician"]);
}

#[test]
fn given_work_in_hand_when_it_is_shut_down_then_it_is_finished_and_the_rest_is_stored() {
    let electrician = Electrician { takes: 5 * SECOND, ..Electrician::default() };
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.shut_down().unwrap();
    assert_eq!(electrician.keys.lock().unwrap().len(), 1);
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Waiting"), "the outcome is stored, not delivered");
    harness.crash_and_restart();
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Shining"));
    assert_eq!(electrician.keys.lock().unwrap().len(), 1, "what was finished is not done again");
}

#[test]
fn given_a_crash_in_an_activity_when_it_starts_again_then_it_goes_on_under_the_same_key() {
    let electrician = Electrician { takes: 5 * SECOND, ..Electrician::default() };
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    harness.advance(2 * SECOND);
    harness.crash_and_restart();
    harness.advance(5 * SECOND);
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Shining"));
    let keys = electrician.keys.lock().unwrap().clone();
    assert_eq!((keys.len(), keys[0]), (2, keys[1]));
}

#[test]
fn given_a_thousand_instances_when_they_go_at_once_then_each_ends_as_if_alone() {
    let watcher = Watcher::default();
    let mut harness = house(&Electrician::default(), &watcher).start();
    let client = harness.client();
    let lamps: Vec<_> = (1..=1_000).map(Uuid::from_u128).collect();
    let submissions: Vec<_> = lamps
        .iter()
        .map(|lamp| {
            let (client, envelope) = (client.clone(), Envelope::new(*lamp, &Pushed::of(*lamp)));
            async move { client.submit::<Lamp>(envelope).await }
        })
        .collect();
    harness.block_on(async {
        let tasks: Vec<_> = submissions.into_iter().map(tokio::spawn).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
    harness.settle();
    assert!(lamps.iter().all(|lamp| harness.state::<Lamp>(*lamp).as_deref() == Some("Shining")));
    assert_eq!(watcher.0.load(Ordering::SeqCst), 1_000);
    harness.advance(WARNING);
    assert!(lamps.iter().all(|lamp| harness.data::<Lamp>(*lamp).warnings == 1));
}

#[test]
fn every_point_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(names.len(), Point::ALL.len());
    assert!(Point::ALL.iter().all(|point| Point::from_name(point.name()) == Some(*point)));
}

/// Keeps a loop busy after its acknowledgement, while the others go on.
struct SlowAfterAcknowledgement;

#[async_trait]
impl Probe for SlowAfterAcknowledgement {
    async fn reached(&self, point: Point) {
        for _ in 0..if point == Point::Acknowledged { 100 } else { 0 } {
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn given_a_retry_that_is_due_at_once_when_it_overtakes_the_end_of_the_first_attempt_then_it_is_not_taken_for_it() {
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().extend((0..4).map(|_| Job::Fail));
    let retry = RetryPolicy { initial: Duration::ZERO, ..RetryPolicy::default() };
    let probe = Arc::new(SlowAfterAcknowledgement);
    let house = house(&electrician, &Watcher::default());
    let mut harness = house.with(move |runtime| runtime.retry(retry).probe(probe.clone())).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Broken"), "every attempt was made");
    let dead = harness.dead_letters();
    assert_eq!((dead.len(), dead[0].attempts), (1, 4));
}

#[test]
fn given_two_attempts_that_a_crash_has_left_when_they_end_together_then_one_answer_is_given() {
    let electrician = Electrician { takes: SECOND, ..Electrician::default() };
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.submit::<Lamp>(&Pushed::of(LAMP)).unwrap();
    let wire = Envelope::new(Uuid::from_u128(9), &Wire::of(LAMP));
    harness.send_envelope(Wire::ENDPOINT, wire.clone());
    harness.send_envelope(Wire::ENDPOINT, wire.with_attempt(2));
    harness.advance(MINUTE);
    let keys = electrician.keys.lock().unwrap().clone();
    assert_eq!(keys.iter().filter(|key| **key == wire.message_id).count(), 2, "both were made");
    assert_eq!(harness.published::<Wired>().len(), 1, "and one of them answered");
    assert_eq!(harness.backlog().outbox, 0);
}
