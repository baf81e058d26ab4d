//! The tests miss each protection: with one taken out of the code of production, those that are named here fail. What
//! the simulation misses, it says itself.

#[path = "../mutations/runner.rs"]
mod runner;

use runner::{fails_without, run};
use saga_core::Mutation;

use crate::postgres::PATIENCE_VARIABLE;

/// How many seconds are enough for what must come, where it is known not to.
const BRIEF: &str = "5";

macro_rules! missed {
    ($($name:ident = $mutation:ident, by $($test:literal says $says:literal)+;)+) => {
        $(#[test]
        fn $name() {
            $(
                let (passes, text) = run($test, &[], None);
                assert!(passes, "{} fails although nothing is taken out:\n{text}", $test);
                fails_without(Mutation::$mutation, $test, &[(PATIENCE_VARIABLE, BRIEF)], $says);
            )+
        })+

        const MISSED: &[Mutation] = &[$(Mutation::$mutation),+];
    };
}
missed! {
    given_no_inbox_check_when_tested_then_it_is_missed = InboxCheck, by
        "memory::each_endpoint_handles_once" says "expected a conflict, got Ok"
        "sqlite::each_endpoint_handles_once" says "expected a conflict, got Ok"
        "postgres::each_endpoint_handles_once" says "expected a conflict, got Ok"
        "runtime::given_a_message_when_it_comes_again_under_its_id_then_nothing_changes" says "right: Duplicate";
    given_no_version_check_when_tested_then_it_is_missed = VersionCheck, by
        "memory::a_step_needs_the_expected_version" says "expected a conflict, got Ok"
        "sqlite::a_step_needs_the_expected_version" says "expected a conflict, got Ok"
        "postgres::a_step_needs_the_expected_version" says "expected a conflict, got Ok";
    given_rows_settled_before_they_are_confirmed_when_tested_then_it_is_missed = ConfirmBeforeSettle, by
        "crash::given_a_crash_at_any_point_when_it_starts_again_then_the_end_is_the_same" says "after a crash at P1";
    given_acknowledgements_before_the_commit_of_a_saga_when_tested_then_it_is_missed = AckAfterSagaCommit, by
        "deliver::given_a_message_whose_commit_is_not_done_when_the_process_could_die_then_it_is_not_acknowledged"
        says "if the process dies now, the message must come again";
    given_acknowledgements_before_the_commit_of_a_handler_when_tested_then_it_is_missed = AckAfterHandlerCommit, by
        "handlers::given_an_attempt_that_is_being_made_when_its_message_comes_again_then_nothing_is_acknowledged_before_its_end"
        says "if the process dies now, the message must come again";
    given_no_fence_of_leases_when_tested_then_it_is_missed = LeaseFencing, by
        "postgres::hosts::given_hosts_that_live_when_they_look_into_the_outbox_then_each_finds_its_own"
        says "left: [1, 2, 3, 4, 5, 4097";
    given_no_rollback_of_cancelled_calls_when_tested_then_it_is_missed = Rollback, by
        "postgres::cancelled::given_callers_that_give_up_a_transaction_when_its_connection_is_lent_again_then_it_is_in_none"
        says "in a transaction: ";
    given_connections_used_again_whatever_they_went_through_when_tested_then_it_is_missed = SoundConnections, by
        "postgres::faults::given_a_server_that_is_away_when_the_store_is_asked_then_it_says_so_in_time_and_works_when_it_is_back"
        says "the store does not come back";
    given_timers_whose_token_nobody_asks_for_when_tested_then_it_is_missed = TimerToken, by
        "runtime::given_a_timer_that_was_replaced_when_its_late_copy_comes_then_it_changes_nothing"
        says "it fired all the same";
    given_timers_that_fire_twice_when_tested_then_it_is_missed = FiredOnce, by
        "memory::a_timer_fires_once" says "expected a conflict, got Ok"
        "sqlite::a_timer_fires_once" says "expected a conflict, got Ok"
        "postgres::a_timer_fires_once" says "expected a conflict, got Ok";
}

#[test]
fn given_every_protection_when_they_are_counted_then_each_is_missed_by_a_test() {
    assert_eq!(MISSED, Mutation::ALL);
}
