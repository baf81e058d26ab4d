//! Replay: where a recording and today's table agree, and where not.

use std::time::Duration;

use saga_core::testkit::Harness;
use saga_core::{
    Body, Correlation, Ctx, Effects, Flow, JournalOutcome, Message, Replay, ReplayError, Rule, Saga, defer, events,
    ignore, reject, replay, states,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lamp::{Broke, Electrician, Exploded, Job, LAMP, Lamp, NoPower, Pushed, WARNING, Watcher, Wired, house};

const DOOR: Uuid = Uuid::from_u128(0xd0);

macro_rules! messages {
    ($($name:ident)+) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name { pub door: Uuid }
        impl Message for $name { const NAME: &'static str = concat!("Doors:", stringify!($name)); }
    )+};
}
messages! { Opened Closed Creaked }

states! { pub enum DoorState { Shut, Open } }
events! { pub enum DoorEvent { Opened, Closed } }

/// A door, and as it was changed later: it then creaks, and counts when it is closed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Door<const LATER: bool> {
    pub closings: u32,
}

impl<const LATER: bool> Saga for Door<LATER> {
    const NAME: &'static str = "door";
    const ENDPOINT: &'static str = "door-saga";
    type State = DoorState;
    type Event = DoorEvent;
    type Row = ();

    fn correlate(event: DoorEvent) -> Correlation {
        match event {
            DoorEvent::Opened(on) => on.by(|it| it.door),
            DoorEvent::Closed(on) => on.by(|it| it.door),
        }
    }

    fn table(state: DoorState, event: DoorEvent) -> Rule<Self> {
        use DoorEvent::{Closed, Opened};
        use DoorState::{Open, Shut};
        match (state, event) {
            (Shut, Opened(on)) => on.to(Open, open),
            (Open, Closed(on)) => on.to(Shut, close),
            (Open, Opened(_)) if LATER => defer("it is open"),
            (Open, Opened(_)) => ignore(),
            (Shut, Closed(_)) => reject("it is shut"),
        }
    }
}

fn open<const LATER: bool>(_: &mut Door<LATER>, event: &Opened, _: &Ctx<'_>) -> Effects<Door<LATER>> {
    if LATER { Effects::none().publish(Creaked { door: event.door }) } else { Effects::none() }
}
fn close<const LATER: bool>(door: &mut Door<LATER>, _: &Closed, _: &Ctx<'_>) -> Effects<Door<LATER>> {
    door.closings += u32::from(LATER);
    Effects::none()
}

/// What a harness has stored of an instance, written and read as a file would be.
fn record<S: Saga>(harness: &Harness, id: Uuid) -> Flow {
    let instance = harness.instance::<S>(id).unwrap();
    let flow = Flow::record(S::NAME, &instance, harness.journal::<S>(id), instance.updated_at);
    Flow::read(&flow.write().unwrap()).unwrap()
}

/// Opened, opened again, closed, closed again.
fn door() -> Flow {
    let mut harness = Harness::builder().saga::<Door<false>>().start();
    harness.publish(&Opened { door: DOOR });
    harness.publish(&Opened { door: DOOR });
    harness.publish(&Closed { door: DOOR });
    harness.publish(&Closed { door: DOOR });
    record::<Door<false>>(&harness, DOOR)
}

fn said(replay: &Replay) -> Vec<String> {
    let number = |step: Option<usize>| step.map_or_else(|| "end".to_owned(), |step| step.to_string());
    replay.disagreements().map(|(step, it)| format!("{} {it}", number(step))).collect()
}

fn outcomes(replay: &Replay) -> Vec<JournalOutcome> {
    replay.steps.iter().map(|step| step.recorded.outcome).collect()
}

#[test]
fn given_the_same_table_when_replayed_then_it_agrees_and_shows_the_data_before_and_after() {
    let replay = replay::<Door<false>>(&door()).unwrap();
    assert_eq!(said(&replay), [""; 0]);
    assert!(replay.agrees());
    use JournalOutcome::{Ignored, Moved, Rejected};
    assert_eq!(outcomes(&replay), [Moved, Ignored, Moved, Rejected]);
    assert!(replay.steps.iter().all(|step| step.today.is_some()));
    let text = replay.to_string();
    assert!(text.contains("Doors:Opened at door-saga: moved, Shut → Open"), "{text}");
    assert!(text.contains("before  {\"closings\":0}"), "{text}");
    assert!(text.ends_with("4 steps; today's table agrees with the recording\n"), "{text}");
}

#[test]
fn given_a_table_that_changed_when_replayed_then_each_disagreement_is_named_with_both_sides() {
    let replay = replay::<Door<true>>(&door()).unwrap();
    assert_eq!(
        said(&replay),
        [
            "1 effects: recorded none, today publish Doors:Creaked",
            "2 outcome: recorded ignored, today deferred (it is open)",
            "end data: recorded {\"closings\":0}, today {\"closings\":1}",
        ]
    );
    assert!(!replay.agrees());
    let text = replay.to_string();
    assert!(text.contains("after   {\"closings\":1}"), "{text}");
    assert!(text.contains("end  ✗ data: recorded {\"closings\":0}, today {\"closings\":1}"), "{text}");
    assert!(text.ends_with("4 steps; 3 disagreements, the first one leads to the others\n"), "{text}");
}

#[test]
fn given_every_kind_of_line_when_replayed_then_the_same_table_agrees() {
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().extend([Job::Fail, Job::Refuse]);
    let mut harness = house(&electrician, &Watcher::default()).start();
    harness.publish(&Pushed::of(LAMP));
    harness.publish(&Broke::of(LAMP));
    harness.advance(WARNING);
    assert_eq!(harness.state::<Lamp>(LAMP).as_deref(), Some("Broken"));
    harness.publish(&Exploded::of(LAMP));
    harness.advance(WARNING);
    let letters = harness.dead_letters();
    assert!(letters.len() > 1, "{letters:?}");
    for letter in letters {
        harness.redrive(letter.id).unwrap();
    }
    harness.advance(WARNING);
    let flow = record::<Lamp>(&harness, LAMP);
    let replay = replay::<Lamp>(&flow).unwrap();
    assert_eq!(said(&replay), [""; 0], "{replay}");
    for outcome in [JournalOutcome::Retried, JournalOutcome::Faulted, JournalOutcome::Deferred, JournalOutcome::Ignored]
    {
        assert!(outcomes(&replay).contains(&outcome), "no line is {}", outcome.name());
    }
}

#[test]
fn given_timers_that_fired_and_one_that_was_replaced_when_replayed_then_the_same_table_agrees() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.publish(&Pushed::of(LAMP));
    harness.advance(WARNING / 2);
    harness.publish(&Pushed::of(LAMP));
    harness.advance(WARNING * 2);
    harness.publish(&NoPower::of(LAMP));
    let flow = record::<Lamp>(&harness, LAMP);
    let fired = flow.steps.iter().find(|row| row.message_type == "Lamps:TooLong").unwrap().clone();
    let agreed = replay::<Lamp>(&flow).unwrap();
    assert_eq!(said(&agreed), [""; 0], "{agreed}");
    assert_eq!(harness.data::<Lamp>(LAMP).warnings, 1);

    // The same timer once more, as if its acknowledgement were lost and the inbox, too: it no longer runs.
    let mut late = flow.clone();
    late.steps.push(fired);
    let number = late.steps.len();
    let late = replay::<Lamp>(&late).unwrap();
    assert!(
        said(&late).contains(&format!(
            "{number} outcome: recorded moved, today ignored (the timer had been cancelled or replaced)"
        )),
        "{late}"
    );
}

#[test]
fn given_a_message_that_today_is_not_read_when_replayed_then_the_step_says_why_and_the_rest_goes_on() {
    let mut flow = door();
    flow.steps[1].message = Body::of(&serde_json::json!({ "gate": 1 }));
    flow.steps[3].message_type = "Doors:Slammed".into();
    let replay = replay::<Door<false>>(&flow).unwrap();
    let said = said(&replay);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("2 message: recorded ignored as Doors:Opened, today the body is no Doors:Opened:"));
    assert!(said[0].contains("missing field `door`"), "{said:?}");
    assert!(said[1].contains("today saga door has no column for Doors:Slammed; it hears"), "{said:?}");
    assert!(replay.steps[1].today.is_none() && replay.steps[2].today.is_some());
}

#[test]
fn given_a_state_that_today_is_not_known_when_replayed_then_the_known_ones_are_named() {
    let mut flow = door();
    flow.steps[0].to = Some("Ajar".into());
    flow.end.state = "Ajar".to_owned();
    assert_eq!(
        said(&replay::<Door<false>>(&flow).unwrap()),
        [
            "1 to: recorded Ajar (no state of today's table, which has Shut, Open), today Open",
            "end state: recorded Ajar (no state of today's table, which has Shut, Open), today Shut",
        ]
    );
}

#[test]
fn given_a_message_of_another_instance_when_replayed_then_it_changes_nothing() {
    let mut flow = door();
    let other = Uuid::from_u128(9);
    flow.steps[1].message = Body::of(&Opened { door: other });
    let replay = replay::<Door<false>>(&flow).unwrap();
    assert_eq!(said(&replay), [format!("2 instance: recorded {DOOR}, today {other}")]);
}

#[test]
fn given_effects_under_other_ids_when_replayed_then_they_are_shown_in_full() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.publish(&Pushed::of(LAMP));
    harness.publish(&Wired::of(LAMP));
    let mut flow = record::<Lamp>(&harness, LAMP);
    let id = Uuid::from_u128(5);
    flow.steps[0].effects[0].message_id = Some(id);
    let said = said(&replay::<Lamp>(&flow).unwrap());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with(&format!("1 effects: recorded call Lamps:Wire electrician {id}, today call")),
        "{said:?}"
    );
}

#[test]
fn given_another_saga_when_replayed_then_it_is_refused() {
    let error = replay::<Lamp>(&door()).unwrap_err();
    assert_eq!(error, ReplayError::Saga { recorded: "door".to_owned(), today: "lamp" });
    assert_eq!(error.to_string(), "the flow is one of saga door, and lamp is replayed here");
}

#[test]
fn given_a_time_that_the_database_has_cut_when_replayed_then_due_times_agree() {
    let mut harness = house(&Electrician::default(), &Watcher::default()).start();
    harness.publish(&Pushed::of(LAMP));
    harness.advance(Duration::from_secs(1));
    let mut flow = record::<Lamp>(&harness, LAMP);
    let scheduled = flow.steps.iter_mut().find(|row| row.effects.iter().any(|it| it.due.is_some())).unwrap();
    for effect in &mut scheduled.effects {
        effect.due = effect.due.map(|due| due + Duration::from_nanos(999));
    }
    assert_eq!(said(&replay::<Lamp>(&flow).unwrap()), [""; 0]);
}
