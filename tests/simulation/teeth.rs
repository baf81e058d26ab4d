//! The simulation has teeth: with a protection taken away, it fails.

use saga_core::testkit::sim::{Protection, SimOptions, Summary, simulate_many};

use crate::shop::Shop;

/// Tries so many seeds without a protection.
fn without(protection: Protection, seeds: u64) -> Summary {
    let options = |seed| SimOptions { unprotected: Some(protection), ..SimOptions::of(seed) };
    let summary = simulate_many(1..seeds + 1, options, Shop::of);
    println!("without {protection:?}, {} of {seeds} seeds fail", summary.failed.len());
    summary
}

macro_rules! missed {
    ($($name:ident = $protection:ident, in $least:literal of $seeds:literal)+) => {
        $(#[test]
        fn $name() {
            let summary = without(Protection::$protection, $seeds);
            assert!(summary.failed.len() >= $least, "{summary}");
        })+
    };
}
missed! {
    given_no_inbox_when_simulated_then_it_is_missed = Inbox, in 8 of 8
    given_no_check_of_versions_when_simulated_then_it_is_missed = Version, in 4 of 240
    given_confirms_before_a_message_is_stored_when_simulated_then_it_is_missed = ConfirmAfterStore, in 8 of 8
    given_acknowledgements_before_the_commit_when_simulated_then_it_is_missed = AcknowledgeAfterCommit, in 4 of 60
}

/// Two protections only save work: what is sent twice, and what fires twice, the inbox knows.
#[test]
fn given_rows_taken_over_from_hosts_that_live_when_simulated_then_it_is_harmless() {
    let summary = without(Protection::Lease, 60);
    assert!(summary.failed.is_empty(), "{summary}");
}

#[test]
fn given_timers_that_fire_twice_when_simulated_then_it_is_harmless() {
    let summary = without(Protection::FiredOnce, 60);
    assert!(summary.failed.is_empty(), "{summary}");
}
