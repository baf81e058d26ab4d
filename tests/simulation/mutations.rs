//! The simulation misses what is taken out of the code of production.

#[path = "../mutations/runner.rs"]
mod runner;

use runner::fails_without;
use saga_core::Mutation;

const MANY_SEEDS: &str =
    "seeds::given_many_seeds_when_everything_goes_wrong_that_can_then_nothing_is_lost_and_nothing_happens_twice";

macro_rules! missed {
    ($($name:ident = $mutation:ident, in $seeds:literal seeds;)+) => {
        $(#[test]
        fn $name() {
            fails_without(Mutation::$mutation, MANY_SEEDS, &[("SIM_SEEDS", $seeds)]);
        })+
    };
}
missed! {
    given_no_inbox_check_when_simulated_then_it_is_missed = InboxCheck, in "4" seeds;
    given_no_version_check_when_simulated_then_it_is_missed = VersionCheck, in "60" seeds;
    given_rows_settled_before_they_are_confirmed_when_simulated_then_it_is_missed = ConfirmBeforeSettle, in "4" seeds;
    given_acknowledgements_before_the_commit_when_simulated_then_it_is_missed = AckAfterCommit, in "60" seeds;
    given_timers_whose_token_nobody_asks_for_when_simulated_then_it_is_missed = TimerToken, in "60" seeds;
}
