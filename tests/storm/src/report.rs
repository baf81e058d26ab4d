//! What came of a run.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::fault::{Fault, Tally};
use crate::hosts::Death;
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
    /// Hosts that ended though nobody had asked for it. One that finds no database at its start may; one that served may not.
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
        (host_starts, host_deaths, exits): (u64, Vec<Death>, Vec<Option<i32>>),
        verdict: Verdict,
    ) -> Self {
        let asked = options.asked();
        let mut reasons: Vec<_> = faults.shortfalls(&asked).iter().map(|it| format!("too few faults: {it}")).collect();
        let within = options.converge_within;
        reasons.extend(left.into_iter().map(|what| format!("not at rest within {within:?}: {what}")));
        reasons
            .extend(exits.iter().filter(|code| **code != Some(0)).map(|code| format!("a host stopped with {code:?}")));
        reasons.extend(host_deaths.iter().filter(|death| death.is_failure).map(|death| death.text.clone()));
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
            host_deaths: host_deaths.into_iter().map(|death| death.text).collect(),
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    /// A run as it should be, but for what a test makes of it.
    fn run(
        faults: impl FnOnce(&mut Tally),
        converged: Option<Duration>,
        (deaths, exits): (Vec<Death>, Vec<Option<i32>>),
        verdict: Verdict,
    ) -> Report {
        let options = Arguments::parse_from(["storm"]).options;
        let mut happened = options.asked();
        faults(&mut happened);
        let left = if converged.is_none() { vec!["1 in the outbox".to_owned()] } else { Vec::new() };
        Report::new(&options, happened, Duration::ZERO, converged, left, (0, deaths, exits), verdict)
    }

    fn verdict(accepted: u64, findings: &[&str]) -> Verdict {
        let findings: Vec<_> = findings.iter().map(|it| (*it).to_owned()).collect();
        let summary = Summary { accepted, ..Summary::default() };
        Verdict { summary, wrong: findings.len() as u64, findings, ..Verdict::default() }
    }

    #[test]
    fn given_a_run_when_anything_is_wrong_with_it_then_it_has_failed() {
        let (converged, stopped) = (Some(Duration::from_secs(5)), (Vec::new(), vec![Some(0); 3]));
        let sound = |_: &mut Tally| {};
        assert!(run(sound, converged, stopped.clone(), verdict(500, &[])).passed);
        let fewer = |faults: &mut Tally| *faults = Tally::of([(Fault::HostKill, 14)]);
        for (failed, reason) in [
            (
                run(fewer, converged, stopped.clone(), verdict(500, &[])),
                "too few faults: hosts killed: 15 asked for, 14",
            ),
            (run(sound, None, stopped.clone(), verdict(500, &[])), "not at rest within 120s: 1 in the outbox"),
            (run(sound, converged, (Vec::new(), vec![Some(0), None]), verdict(500, &[])), "a host stopped with None"),
            (run(sound, converged, stopped.clone(), verdict(499, &[])), "499 orders were accepted of 500"),
            (run(sound, converged, stopped.clone(), verdict(500, &["Kept: lost"])), "Kept: lost"),
        ] {
            assert!(!failed.passed && failed.table().contains("FAILED"));
            assert!(failed.reasons[0].starts_with(reason), "{:?}", failed.reasons);
            assert!(failed.table().contains(reason));
        }
    }

    #[test]
    fn given_hosts_that_ended_by_themselves_when_one_had_served_then_the_run_has_failed() {
        let died = |is_failure| {
            let text = "host 1 ended by itself".to_owned();
            let ends = (vec![Death { is_failure, text }], vec![Some(0); 3]);
            run(|_| {}, Some(Duration::from_secs(5)), ends, verdict(500, &[]))
        };
        let (served, given_up) = (died(true), died(false));
        assert!(!served.passed && served.reasons == served.host_deaths, "{:?}", served.reasons);
        assert!(given_up.passed && given_up.host_deaths.len() == 1, "{:?}", given_up.reasons);
    }
}
