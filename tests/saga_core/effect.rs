//! Effects are plain data, in the order in which they were asked for.

use std::time::Duration;

use saga_core::{Activity, Effect, Effects, Failure, Message, Outcome, Outgoing};

use crate::lamp::{LAMP, Lamp, Lit, NoPower, TooLong, Wire, Wired, Wiring};

#[test]
fn given_effects_when_they_are_asked_for_then_they_stand_in_order() {
    let later = Duration::from_secs(5);
    let effects = Effects::<Lamp>::none()
        .publish(Lit::of(LAMP))
        .send("shelf", Lit::of(LAMP))
        .call(Wire::of(LAMP))
        .schedule(TooLong::of(LAMP), later)
        .unschedule::<TooLong>()
        .write(());
    assert_eq!(
        effects.as_slice(),
        [
            Effect::Publish(Outgoing::of(&Lit::of(LAMP))),
            Effect::Send { endpoint: "shelf".into(), message: Outgoing::of(&Lit::of(LAMP)) },
            Effect::Call { endpoint: Wire::ENDPOINT, message: Outgoing::of(&Wire::of(LAMP)) },
            Effect::Schedule { message: Outgoing::of(&TooLong::of(LAMP)), after: later },
            Effect::Unschedule { name: TooLong::NAME },
            Effect::Write(()),
        ]
    );
    assert_eq!(Effects::<Lamp>::default(), Effects::none());
}

#[test]
fn given_the_outcomes_of_an_activity_then_each_travels_by_its_own_name_and_is_read_back() {
    assert_eq!(Wiring::names(), [Wired::NAME, NoPower::NAME]);
    let out = Wiring::from(NoPower::of(LAMP)).into_outgoing();
    assert_eq!(out, Outgoing::of(&NoPower::of(LAMP)));
    assert!(matches!(Wiring::read(out.name, out.body.as_str()), Some(Ok(Wiring::NoPower(it))) if it.lamp == LAMP));
    assert!(matches!(Wiring::read(Wired::NAME, "1"), Some(Err(_))));
    assert!(Wiring::read(Lit::NAME, "{}").is_none());
    assert_eq!(Wire::of(LAMP).failed(&Failure::retry("no ladder")).lamp, LAMP);
}
