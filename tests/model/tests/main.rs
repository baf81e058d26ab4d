//! The protocol, small and whole: two hosts, two sagas, and a few faults at any moment; every state that can be reached is
//! looked at. What the simulation tries at random with the production code is exhausted here with a model of it.
//!
//! `MODEL_FAULTS=2 cargo test --package test-model` lets any two faults meet.

#![allow(missing_docs, unreachable_pub, reason = "a test binary: its fixtures are for itself")]

mod host;
mod protocol;
mod state;

use protocol::{Protection, Protocol};
use stateright::{Checker, Model};

/// How many faults there may be in one run, of any kind, at any moment, if nobody says. Two of them take minutes.
const FAULTS: u8 = 1;
/// How many there may be where a protection is missing: some are missed only when two faults meet.
const FAULTS_TO_MISS: u8 = 2;
/// So many states there are at the least: fewer would mean that the model has lost some of what may happen.
const STATES: usize = 1_000_000;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn given_faults_at_any_moment_when_every_state_is_looked_at_then_nothing_is_lost_and_nothing_happens_twice() {
    let number = |text: String| text.parse().unwrap_or_else(|_| panic!("MODEL_FAULTS is {text}: a number is expected"));
    let faults = std::env::var("MODEL_FAULTS").map_or(FAULTS, number);
    let checker = Protocol { faults, without: None }.checker().threads(threads()).spawn_bfs().join();
    println!(
        "{faults} faults: {} states, {} of them different, the longest run has {} steps",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    assert!(checker.is_done(), "some states were not looked at");
    assert!(checker.unique_state_count() > STATES, "there are {} states only", checker.unique_state_count());
}

macro_rules! missed {
    ($($name:ident = $protection:ident, by $property:literal)+) => {
        $(#[test]
        fn $name() {
            let protocol = Protocol { faults: FAULTS_TO_MISS, without: Some(Protection::$protection) };
            let checker = protocol.checker().threads(threads());
            let checker = checker.finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join();
            let found: Vec<_> = checker.discoveries().into_keys().collect();
            assert!(checker.discovery($property).is_some(), "not {}, but {found:?}", $property);
        })+
    };
}
missed! {
    given_no_inbox_when_modelled_then_a_message_happens_twice = Inbox, by "each message happens once"
    given_no_check_of_versions_when_modelled_then_a_step_is_lost = Version, by "each step is the next one"
    given_rows_settled_before_their_confirm_when_modelled_then_a_message_is_lost = SettleAfterConfirm, by "nothing is lost"
    given_an_acknowledgement_before_the_commit_when_modelled_then_a_message_is_lost = AcknowledgeAfterCommit, by "nothing is lost"
    given_an_answer_before_the_commit_when_modelled_then_what_was_answered_is_not_stored = AnswerAfterCommit, by "what was answered is stored"
    given_a_redelivery_acknowledged_before_its_attempt_ends_when_modelled_then_a_message_is_lost = JoinRedelivery, by "nothing is lost"
    given_messages_sent_before_the_commit_when_modelled_then_a_ghost_is_seen = SendAfterCommit, by "no ghost is sent"
    given_no_sweep_after_an_unknown_commit_when_modelled_then_a_message_is_stuck = Sweep, by "nothing is stuck"
    given_no_take_over_when_modelled_then_a_message_is_stuck = TakeOver, by "nothing is stuck"
    given_nothing_sent_again_when_modelled_then_a_message_is_stuck = SendAgain, by "nothing is stuck"
}
