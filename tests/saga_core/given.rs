//! The checks of given/when/then hold, and say what is wrong where they do not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use saga_core::testkit::{Then, given};

use crate::lamp::{Broke, LAMP, Lamp, LampState, Lit, NoPower, Pushed, TooLong, WARNING, Wire, Wired};

fn lit() -> Then<Lamp> {
    given::<Lamp>().id(LAMP).after(&Pushed::of(LAMP)).when(&Wired::of(LAMP))
}

#[test]
fn given_a_step_when_everything_is_as_expected_then_every_check_holds() {
    lit()
        .then_state(LampState::Shining)
        .then_data(|lamp| assert_eq!(lamp.pushes, 1))
        .then_schedules::<TooLong>(WARNING)
        .then_publishes(&Lit::of(LAMP))
        .then_nothing_else();
    given::<Lamp>().when(&Pushed::of(LAMP)).then_calls(&Wire::of(LAMP)).then_nothing_else();
    given::<Lamp>().when(&Broke::of(LAMP)).then_deferred("it does not shine yet").then_state(LampState::Dark);
    given::<Lamp>().when(&Wired::of(LAMP)).then_rejected("nobody pushed the button");
    given::<Lamp>().in_state(LampState::Waiting).when(&NoPower::of(LAMP)).then_ignored();
    let shining = given::<Lamp>().in_state(LampState::Shining).with(Lamp { pushes: 3, warnings: 0 });
    let broken = shining.when(&Broke::of(LAMP)).then_unschedules::<TooLong>().into_instance();
    assert_eq!((broken.state, broken.data.pushes, broken.version), (LampState::Broken, 3, 1));
}

/// The text of the failure, with whatever made it.
fn failure(run: impl FnOnce() -> Then<Lamp>) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(run()))).unwrap_err();
    payload.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn given_a_step_when_a_check_does_not_hold_then_expected_and_actual_stand_side_by_side() {
    let texts = [
        failure(|| lit().then_state(LampState::Dark)),
        failure(|| lit().then_publishes(&Broke::of(LAMP))),
        failure(|| lit().then_publishes(&Lit::of(LAMP)).then_nothing_else()),
        failure(|| given::<Lamp>().when(&Broke::of(LAMP)).then_ignored()),
        failure(|| given::<Lamp>().after(&Wired::of(LAMP)).when(&Pushed::of(LAMP))),
    ];
    insta::assert_snapshot!("failures", texts.join("\n\n"));
}

#[test]
fn given_an_effect_that_was_asked_for_once_when_it_is_asked_for_again_then_the_check_fails() {
    let text = failure(|| lit().then_publishes(&Lit::of(LAMP)).then_publishes(&Lit::of(LAMP)));
    assert!(text.contains("an effect is not as expected"), "{text}");
}
