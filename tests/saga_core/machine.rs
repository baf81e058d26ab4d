//! The machine steps as its table says, changes nothing where it says so, and reads what it hears.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::DateTime;
use saga_core::{
    Body, Correlation, Ctx, Effects, Envelope, FailureKind, Instance, Machine, Message, Rule, Saga, Step, events,
    ignore, states,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lamp::{Broke, Exploded, LAMP, Lamp, LampState, Lit, NoPower, Pushed, Wire, Wired, WiringFailed};

fn ctx() -> Ctx<'static> {
    Ctx {
        now: DateTime::UNIX_EPOCH,
        message_id: LAMP,
        correlation_id: LAMP,
        conversation_id: LAMP,
        initiator_id: None,
        attempt: 1,
        user: None,
    }
}

#[test]
fn given_a_row_that_moves_when_its_event_comes_then_state_data_and_version_change() {
    let machine = Machine::<Lamp>::new();
    let mut lamp = Instance::new(LAMP);
    let step = machine.step(&mut lamp, &Pushed::of(LAMP), &ctx());
    assert_eq!(step, Step::Moved(Effects::none().call(Wire::of(LAMP))));
    assert_eq!((lamp.state, lamp.version, lamp.data.pushes), (LampState::Waiting, 1, 1));
    machine.step(&mut lamp, &Pushed::of(LAMP), &ctx());
    assert_eq!((lamp.state, lamp.version, lamp.data.pushes), (LampState::Waiting, 2, 2), "it stays, and has moved");
}

#[test]
fn given_the_other_words_when_the_event_comes_then_nothing_changes() {
    let machine = Machine::<Lamp>::new();
    let mut lamp = Instance::new(LAMP);
    assert_eq!(machine.step(&mut lamp, &Broke::of(LAMP), &ctx()), Step::Deferred("it does not shine yet"));
    assert_eq!(machine.step(&mut lamp, &Wired::of(LAMP), &ctx()), Step::Rejected("nobody pushed the button"));
    lamp.state = LampState::Waiting;
    let before = lamp.clone();
    assert_eq!(machine.step(&mut lamp, &NoPower::of(LAMP), &ctx()), Step::Ignored);
    assert_eq!(lamp, before);
}

#[test]
fn given_every_pair_when_the_same_step_is_taken_twice_then_it_comes_to_the_same() {
    let machine = Machine::<Lamp>::new();
    for state in [LampState::Dark, LampState::Waiting, LampState::Shining, LampState::Broken] {
        let mut twins = [Instance { state, ..Instance::new(LAMP) }, Instance { state, ..Instance::new(LAMP) }];
        let steps = twins.each_mut().map(|lamp| machine.step(lamp, &Pushed::of(LAMP), &ctx()));
        assert_eq!(steps[0], steps[1]);
        assert_eq!(twins[0], twins[1]);
    }
}

#[test]
fn given_an_envelope_when_it_is_read_then_the_event_knows_its_instance() {
    let machine = Machine::<Lamp>::new();
    assert_eq!(machine.read(&Envelope::new(Uuid::from_u128(5), &Pushed::of(LAMP))).unwrap().id, LAMP);
    let failed = Envelope::new(Uuid::from_u128(5), &WiringFailed::of(Uuid::from_u128(99))).correlated(LAMP);
    assert_eq!(machine.read(&failed).unwrap().id, LAMP, "the envelope says it, not the body");
    let mut subtype = Envelope::new(Uuid::from_u128(5), &Pushed::of(LAMP));
    subtype.message_type.insert(0, "Lamps:PushedHard".into());
    assert_eq!(machine.read(&subtype).unwrap().id, LAMP, "one of the names is known");
}

#[test]
fn given_an_envelope_that_is_not_for_the_saga_when_it_is_read_then_the_failure_says_why() {
    let machine = Machine::<Lamp>::new();
    let id = Uuid::from_u128(5);
    let failures = [
        (Envelope::new(id, &Lit::of(LAMP)), "saga lamp has no column for Lamps:Lit; it hears Lamps:Pushed, "),
        (Envelope::raw(id, Pushed::NAME, Body::of(&1)), "the body is no Lamps:Pushed: invalid type"),
        (
            Envelope::new(id, &WiringFailed::of(LAMP)),
            "Lamps:WiringFailed finds its instance by the envelope, which has no correlation id",
        ),
    ];
    for (envelope, expected) in failures {
        let failure = machine.read(&envelope).err().unwrap();
        assert_eq!(failure.kind(), FailureKind::Undecodable);
        assert!(failure.message().starts_with(expected), "{failure}");
    }
}

#[test]
fn given_a_handler_that_panics_when_it_is_stepped_then_the_panic_is_the_callers() {
    let machine = Machine::<Lamp>::new();
    let mut lamp = Instance::new(LAMP);
    assert!(catch_unwind(AssertUnwindSafe(|| machine.step(&mut lamp, &Exploded::of(LAMP), &ctx()))).is_err());
    assert_eq!(lamp.version, 0);
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Asked {
    stray: bool,
}
impl Message for Asked {
    const NAME: &'static str = "Doors:Asked";
}
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AskedAgain {}
impl Message for AskedAgain {
    const NAME: &'static str = "Doors:Asked";
}

states! { enum DoorState { Shut, Open, Gone } }
events! { enum DoorEvent { Asked } }
events! { enum TwiceEvent { Asked, AskedAgain } }

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Door;
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Twice;

impl Saga for Door {
    const NAME: &'static str = "door";
    const ENDPOINT: &'static str = "door-saga";
    type State = DoorState;
    type Event = DoorEvent;
    type Row = ();
    fn correlate(event: DoorEvent) -> Correlation {
        match event {
            DoorEvent::Asked(on) => on.by_envelope(),
        }
    }
    fn table(state: DoorState, event: DoorEvent) -> Rule<Self> {
        match (state, event) {
            (DoorState::Shut | DoorState::Open | DoorState::Gone, DoorEvent::Asked(on)) => {
                on.to_one_of([DoorState::Shut, DoorState::Open], decide)
            }
        }
    }
}

fn decide(_: &mut Door, asked: &Asked, _: &Ctx<'_>) -> (DoorState, Effects<Door>) {
    (if asked.stray { DoorState::Gone } else { DoorState::Open }, Effects::none())
}

impl Saga for Twice {
    const NAME: &'static str = "twice";
    const ENDPOINT: &'static str = "twice-saga";
    type State = DoorState;
    type Event = TwiceEvent;
    type Row = ();
    fn correlate(event: TwiceEvent) -> Correlation {
        match event {
            TwiceEvent::Asked(on) => on.by_envelope(),
            TwiceEvent::AskedAgain(on) => on.by_envelope(),
        }
    }
    fn table(_: DoorState, _: TwiceEvent) -> Rule<Self> {
        ignore()
    }
}

fn panic_text(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    payload.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn given_a_branch_when_it_decides_for_a_state_that_its_row_does_not_declare_then_it_panics_and_says_which() {
    let machine = Machine::<Door>::new();
    let mut door = Instance::new(LAMP);
    machine.step(&mut door, &Asked { stray: false }, &ctx());
    assert_eq!(door.state, DoorState::Open);
    let text = panic_text(|| drop(machine.step(&mut door, &Asked { stray: true }, &ctx())));
    assert_eq!(text, "`decide` decided for Gone; its row declares [Shut, Open]");
    assert_eq!(door.state, DoorState::Open);
}

#[test]
fn given_two_columns_of_one_name_when_the_machine_is_built_then_it_panics_and_says_which() {
    let text = panic_text(|| drop(Machine::<Twice>::new()));
    assert_eq!(text, "saga twice has two columns for the message Doors:Asked");
}
