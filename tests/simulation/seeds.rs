//! Many seeds: nothing is lost, nothing happens twice, everything comes to its end.

use std::collections::BTreeMap;

use saga_core::testkit::sim::{Fault, SimOptions, SimReport, simulate, simulate_many};

use crate::shop::Shop;

/// How many seeds are tried if nobody says.
const SEEDS: u64 = 2_000;
/// Of each hundred seeds, one must meet each fault: else the simulation has become a walk in the park.
const PER_FAULT: u64 = 100;
/// The seeds that have found something, each with what it was.
const FOUND: &str = include_str!("seeds.txt");

fn from_environment(name: &str, usual: u64) -> u64 {
    let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{name} is {text}: a number is expected"));
    std::env::var(name).map_or(usual, number)
}

fn traced(seed: u64) -> SimReport {
    simulate(SimOptions::of(seed), true, Shop::of(seed))
}

/// The first line in which two traces differ, with the lines before it.
fn difference(one: &str, other: &str) -> Option<String> {
    let (one, other): (Vec<_>, Vec<_>) = (one.lines().collect(), other.lines().collect());
    let at = (0..one.len().max(other.len())).find(|at| one.get(*at) != other.get(*at))?;
    let shown = |lines: &[&str]| lines[at.saturating_sub(3).min(lines.len())..lines.len().min(at + 1)].join("\n");
    Some(format!("line {at}:\n{}\nand again:\n{}", shown(&one), shown(&other)))
}

#[test]
fn given_a_seed_when_it_is_simulated_again_then_the_trace_is_the_same_byte_for_byte() {
    for seed in 1..=12 {
        let (first, again) = (traced(seed), traced(seed));
        assert!(first.trace.lines().count() > 100, "{first}");
        if let Some(difference) = difference(&first.trace, &again.trace) {
            panic!("seed {seed} goes another way in {difference}");
        }
        assert_eq!(first, again);
        let untraced = simulate(SimOptions::of(seed), false, Shop::of(seed));
        assert_eq!((untraced.steps, &untraced.faults), (first.steps, &first.faults), "who is looked at does the same");
    }
}

#[test]
fn given_seeds_that_have_found_something_when_simulated_then_it_is_mended() {
    let lines = FOUND.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let seeds: BTreeMap<u64, &str> =
        lines.map(|line| line.split_once(' ').unwrap()).map(|(seed, what)| (seed.parse().unwrap(), what)).collect();
    assert!(seeds.len() >= 5, "{seeds:?}");
    for (seed, what) in seeds {
        let report = traced(seed);
        assert!(report.is_sound(), "it is back: {what}\n{report}");
    }
}

#[test]
fn given_many_seeds_when_everything_goes_wrong_that_can_then_nothing_is_lost_and_nothing_happens_twice() {
    let (from, seeds) = (from_environment("SIM_FROM", 1), from_environment("SIM_SEEDS", SEEDS));
    let summary = simulate_many(from..from + seeds, SimOptions::of, Shop::of);
    println!("{summary}");
    assert!(summary.failed.is_empty(), "{} seeds failed; they are told of above", summary.failed.len());
    let rare: Vec<(Fault, u64)> = summary.faults.rarer_than(seeds / PER_FAULT);
    assert!(rare.is_empty(), "too few of these happened in {seeds} seeds: {rare:?}");
}
