//! What came of a run.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::fault::{Fault, Tally};
use crate::judge::Summary;
use crate::options::Options;
use crate::witness::Verdict;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether nothing was lost, nothing came twice, and enough faults happened.
    pub passed: bool,
    /// The seed.
    pub seed: u64,
    /// The commit, if it was given.
    pub commit: Option<String>,
    /// Hosts at the same time.
    pub hosts: u64,
    /// Orders that were to be submitted.
    pub orders: u64,
    /// Seconds from the first order to the end of the last fault.
    pub storm_seconds: f64,
    /// Seconds from the end of the last fault until nothing was left to do; absent, if that took too long.
    pub converged_seconds: Option<f64>,
    /// What must have happened.
    pub faults_asked: Tally,
    /// What has happened.
    pub faults: Tally,
    /// How often hosts were started.
    pub host_starts: u64,
    /// Hosts that ended though nobody had asked for it, as one does that finds no database at its start.
    pub host_deaths: Vec<String>,
    /// What was seen at the end.
    pub seen: Summary,
    /// Requests that were refused or had no answer, and were sent again.
    pub requests_repeated: u64,
    /// Of those, the ones whose order was stored.
    pub orders_found: u64,
    /// How many things are wrong with the orders.
    pub wrong: u64,
    /// Why the run has failed, the first reasons.
    pub reasons: Vec<String>,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        faults: Tally,
        lasted: Duration,
        converged: Option<Duration>,
        left: Vec<String>,
        (host_starts, host_deaths, exits): (u64, Vec<String>, Vec<Option<i32>>),
        verdict: Verdict,
    ) -> Self {
        let asked = options.asked();
        let mut reasons: Vec<_> = faults.shortfalls(&asked).iter().map(|it| format!("too few faults: {it}")).collect();
        let within = options.converge_within;
        reasons.extend(left.into_iter().map(|what| format!("not at rest within {within:?}: {what}")));
        reasons
            .extend(exits.iter().filter(|code| **code != Some(0)).map(|code| format!("a host stopped with {code:?}")));
        reasons.extend(verdict.findings);
        let (met, orders) = (verdict.summary.accepted, options.orders);
        if met != orders {
            reasons.push(format!("{met} orders were accepted of {orders}"));
        }
        Self {
            passed: reasons.is_empty(),
            seed: options.seed,
            commit: options.commit.clone(),
            hosts: options.hosts,
            orders,
            storm_seconds: seconds(lasted),
            converged_seconds: converged.map(seconds),
            faults_asked: asked,
            faults,
            host_starts,
            host_deaths,
            seen: verdict.summary,
            requests_repeated: verdict.repeated,
            orders_found: verdict.found,
            wrong: verdict.wrong,
            reasons,
        }
    }

    /// The report as a table, for people.
    pub fn table(&self) -> String {
        let Summary { accepted, completed, expired, steps, refunded, retried, heard, copies } = &self.seen;
        let converged = self.converged_seconds.map_or_else(|| "not in time".to_owned(), |it| format!("{it:.1} s"));
        let faults = Fault::ALL.map(|fault| {
            let (happened, asked) = (self.faults.count(fault), self.faults_asked.count(fault));
            (fault.name(), format!("{happened} of {asked} asked for"))
        });
        let rows = [
            ("seed", self.seed.to_string()),
            ("commit", self.commit.clone().unwrap_or_else(|| "not said".to_owned())),
            ("hosts", format!("{}, started {} times", self.hosts, self.host_starts)),
            ("hosts that ended by themselves", self.host_deaths.len().to_string()),
            ("storm", format!("{:.1} s", self.storm_seconds)),
            ("converged after", converged),
            ("orders accepted", format!("{accepted} of {}", self.orders)),
            ("completed", completed.to_string()),
            ("expired", expired.to_string()),
            ("refunded", refunded.to_string()),
            ("steps", steps.to_string()),
            ("attempts tried again", retried.to_string()),
            ("events heard", format!("{heard}, and {copies} copies")),
            ("requests repeated", format!("{}, {} of them stored before", self.requests_repeated, self.orders_found)),
            ("wrong", self.wrong.to_string()),
            ("verdict", if self.passed { "nothing lost, nothing twice" } else { "FAILED" }.to_owned()),
        ];
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        for (what, value) in faults.into_iter().chain(rows) {
            table.add_row([what, value.as_str()]);
        }
        let reasons = self.reasons.iter().map(|reason| format!("\n{reason}"));
        reasons.fold(table.to_string(), |text, reason| text + &reason)
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
