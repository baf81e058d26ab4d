//! The tests miss each protection: with one taken out of the code of production, those that are named here fail. What
//! the simulation misses, it says itself.

#[path = "../mutations/runner.rs"]
mod runner;

use runner::{fails_without, run};
use saga_core::Mutation;

macro_rules! missed {
    ($($name:ident = $mutation:ident, by $($test:literal)+;)+) => {
        $(#[test]
        fn $name() {
            $(
                let (passes, text) = run($test, &[], None);
                assert!(passes, "{} fails although nothing is taken out:\n{text}", $test);
                fails_without(Mutation::$mutation, $test, &[]);
            )+
        })+

        const MISSED: &[Mutation] = &[$(Mutation::$mutation),+];
    };
}
missed! {
    given_no_inbox_check_when_tested_then_it_is_missed = InboxCheck, by
        "memory::each_endpoint_handles_once"
        "sqlite::each_endpoint_handles_once"
        "postgres::each_endpoint_handles_once"
        "runtime::given_a_message_when_it_comes_again_under_its_id_then_nothing_changes";
    given_no_version_check_when_tested_then_it_is_missed = VersionCheck, by
        "memory::a_step_needs_the_expected_version"
        "sqlite::a_step_needs_the_expected_version"
        "postgres::a_step_needs_the_expected_version";
    given_rows_settled_before_they_are_confirmed_when_tested_then_it_is_missed = ConfirmBeforeSettle, by
        "crash::given_a_crash_at_any_point_when_it_starts_again_then_the_end_is_the_same";
    given_acknowledgements_before_the_commit_when_tested_then_it_is_missed = AckAfterCommit, by
        "handlers::given_an_attempt_that_is_being_made_when_its_message_comes_again_then_nothing_is_acknowledged_before_its_end";
    given_no_fence_of_leases_when_tested_then_it_is_missed = LeaseFencing, by
        "postgres::hosts::given_hosts_that_live_when_they_look_into_the_outbox_then_each_finds_its_own";
    given_no_rollback_of_cancelled_calls_when_tested_then_it_is_missed = Rollback, by
        "postgres::cancelled::given_callers_that_give_up_a_transaction_when_its_connection_is_lent_again_then_it_is_in_none";
    given_connections_used_again_whatever_they_went_through_when_tested_then_it_is_missed = SoundConnections, by
        "postgres::faults::given_a_server_that_is_away_when_the_store_is_asked_then_it_says_so_in_time_and_works_when_it_is_back";
    given_timers_whose_token_nobody_asks_for_when_tested_then_it_is_missed = TimerToken, by
        "runtime::given_a_timer_that_was_replaced_when_its_late_copy_comes_then_it_changes_nothing";
    given_timers_that_fire_twice_when_tested_then_it_is_missed = FiredOnce, by
        "memory::a_timer_fires_once"
        "sqlite::a_timer_fires_once"
        "postgres::a_timer_fires_once";
}

#[test]
fn given_every_protection_when_they_are_counted_then_each_is_missed_by_a_test() {
    assert_eq!(MISSED, Mutation::ALL);
}
