//! A crash at each named point, each time it is reached: the end is the same as without.

use std::sync::Arc;

use saga_core::testkit::{CrashAt, Harness};
use saga_core::{JournalOutcome, MemoryStore, Point};

use crate::lamp::{Electrician, Job, LAMP, Lamp, Lit, Pushed, WARNING, Watcher, house};

/// What an observer sees in the end. Attempts at activities may be more after a crash; nothing else may differ.
fn end(harness: &Harness) -> impl PartialEq + std::fmt::Debug + use<> {
    let stored = harness.instance::<Lamp>(LAMP);
    let journal = harness.journal::<Lamp>(LAMP).into_iter();
    let moved = journal.filter(|row| row.outcome == JournalOutcome::Moved);
    let moves: Vec<_> = moved.map(|row| (row.message_type, row.version, row.from, row.to, row.message_id)).collect();
    let lit: Vec<Lit> = harness.published();
    let backlog = harness.backlog();
    (stored.map(|it| (it.state, it.version, it.data)), moves, lit, backlog.outbox, backlog.timers, backlog.dead_letters)
}

/// A push, one failed wiring, a retry, light, a warning: every kind of message there is.
fn story(probe: Option<&Arc<CrashAt>>) -> Harness {
    let electrician = Electrician::default();
    electrician.script.lock().unwrap().push(Job::Fail);
    let mut house = house(&electrician, &Watcher::default());
    if let Some(probe) = probe.cloned() {
        house = house.store(MemoryStore::builder().probe(probe.clone()).build());
        house = house.with(move |runtime| runtime.probe(probe.clone()));
    }
    let mut harness = house.start();
    harness.publish(&Pushed::of(LAMP));
    restart_if_crashed(&mut harness, probe);
    for _ in 0..4 {
        harness.advance(WARNING / 2);
        restart_if_crashed(&mut harness, probe);
    }
    harness.advance(WARNING);
    harness
}

fn restart_if_crashed(harness: &mut Harness, probe: Option<&Arc<CrashAt>>) {
    if let Some(probe) = probe.filter(|probe| probe.crashed()) {
        probe.disarm();
        harness.crash_and_restart();
    }
}

#[test]
fn given_a_crash_at_any_point_when_it_starts_again_then_the_end_is_the_same() {
    let expected = end(&story(None));
    let mut crashes = 0;
    for point in Point::ALL {
        for nth in 1.. {
            let probe = CrashAt::new(point, nth);
            let harness = story(Some(&probe));
            if !probe.crashed() {
                // The point is not reached so often.
                assert!(nth > 1 || point == Point::Submitted, "{} is never reached", point.name());
                break;
            }
            crashes += 1;
            assert_eq!(end(&harness), expected, "after a crash at {} the {nth}. time", point.name());
        }
    }
    assert!(crashes > 40, "only {crashes} crashes were tried");
}
