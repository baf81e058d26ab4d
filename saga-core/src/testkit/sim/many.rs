//! Many seeds, on all cores.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::testkit::sim::fault::Faults;
use crate::testkit::sim::options::SimOptions;
use crate::testkit::sim::scenario::Scenario;
use crate::testkit::sim::{SimReport, simulate};

/// So many failures are told of; the first ones are enough to begin with.
const TOLD: usize = 3;

/// What came of many simulations.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many seeds were tried.
    pub seeds: u64,
    /// The seeds that failed, in order, each with the first thing that must not have happened.
    pub failed: Vec<(u64, String)>,
    /// What came of the first of them, traced.
    pub reports: Vec<SimReport>,
    /// What went wrong on purpose, in all of them.
    pub faults: Faults,
    /// How much time has passed in them.
    pub simulated: Duration,
    /// How much time it took.
    pub took: Duration,
}

/// Simulates a scenario under each seed, on all cores. A seed that fails is simulated once more with a trace.
pub fn simulate_many<S: Scenario>(
    seeds: Range<u64>,
    options: impl Fn(u64) -> SimOptions + Sync,
    scenario: impl Fn(u64) -> S + Sync,
) -> Summary {
    let started = Instant::now();
    let (next, summary) = (AtomicU64::new(seeds.start), Mutex::new(Summary::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = attempt(options(seed), false, || scenario(seed));
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.seeds += 1;
                    let report = match report {
                        Ok(report) => report,
                        Err(panic) => {
                            summary.failed.push((seed, panic));
                            continue;
                        }
                    };
                    summary.faults.add(&report.faults);
                    summary.simulated += report.simulated;
                    summary.failed.extend(report.violations.into_iter().next().map(|it| (seed, it)));
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failed.sort_unstable();
    for (seed, _) in summary.failed.iter().take(TOLD) {
        let Ok(mut report) = attempt(options(*seed), true, || scenario(*seed)) else { continue };
        if report.is_sound() {
            let text = "all is well when it is traced: the scenario does not depend on the seed alone";
            report.violations.push(text.to_owned());
        }
        summary.reports.push(report);
    }
    summary.took = started.elapsed();
    summary
}

/// One simulation; a scenario that panics must not hide under which seed it did.
fn attempt<S: Scenario>(options: SimOptions, traced: bool, scenario: impl FnOnce() -> S) -> Result<SimReport, String> {
    catch_unwind(AssertUnwindSafe(|| simulate(options, traced, scenario())))
        .map_err(|panic| Failure::panicked(&*panic).to_string())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let (seeds, failed, took) = (self.seeds, self.failed.len(), self.took.as_secs_f64());
        writeln!(f, "{seeds} seeds, {hours:.0} simulated hours in {took:.1} s, {} faults:", self.faults.total())?;
        write!(f, "{}", self.faults)?;
        if failed > 0 {
            writeln!(f, "{failed} seeds failed:")?;
        }
        for (seed, violation) in &self.failed {
            writeln!(f, "{seed:>10}  {violation}")?;
        }
        for report in &self.reports {
            writeln!(f, "\n{report}")?;
        }
        Ok(())
    }
}
