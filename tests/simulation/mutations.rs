//! The simulation misses what is taken out of the code of production.

#[path = "../mutations/runner.rs"]
mod runner;

use runner::fails_without;
use saga_core::Mutation;

const MANY_SEEDS: &str =
    "seeds::given_many_seeds_when_everything_goes_wrong_that_can_then_nothing_is_lost_and_nothing_happens_twice";

macro_rules! missed {
    ($($name:ident = $mutation:ident, in $seeds:literal seeds, which say $says:literal;)+) => {
        $(#[test]
        fn $name() {
            fails_without(Mutation::$mutation, MANY_SEEDS, &[("SIM_SEEDS", $seeds)], $says);
        })+
    };
}
missed! {
    given_no_inbox_check_when_simulated_then_it_is_missed =
        InboxCheck, in "4" seeds, which say " was handled 2 times by ";
    given_no_version_check_when_simulated_then_it_is_missed =
        VersionCheck, in "60" seeds, which say " was written over version ";
    given_rows_settled_before_they_are_confirmed_when_simulated_then_it_is_missed =
        ConfirmBeforeSettle, in "4" seeds, which say " was settled, and neither has the broker had its message";
    given_acknowledgements_before_the_commit_of_a_saga_when_simulated_then_it_is_missed =
        AckAfterSagaCommit, in "60" seeds, which say " was settled, and neither has the broker had its message";
    given_acknowledgements_before_the_commit_of_a_handler_when_simulated_then_it_is_missed =
        AckAfterHandlerCommit, in "60" seeds, which say " was settled, and neither has the broker had its message";
    given_timers_whose_token_nobody_asks_for_when_simulated_then_it_is_missed =
        TimerToken, in "60" seeds, which say " that did not run any more";
}
