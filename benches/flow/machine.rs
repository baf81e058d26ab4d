//! What the operating system says of this process and of its servers.

use std::fs;
use std::path::PathBuf;

use crate::place::Pairing;

/// CPU seconds that each who takes part has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// This process: hosts, and whoever submits.
    pub(crate) own: f64,
    pub(crate) database: f64,
    pub(crate) broker: f64,
}

impl Cpu {
    /// Used until now. Of servers that this process has started, theirs alone; of others, everything of that name; where
    /// there is none, nothing.
    pub(crate) fn now(pairing: &Pairing) -> Self {
        let own = cpu_of(&fs::read_to_string("/proc/self/stat").unwrap_or_default());
        let database = match pairing.database_folder() {
            Some(folder) => all(|process| fs::read_link(process.join("cwd")).is_ok_and(|it| it == folder)),
            None if pairing.is_shared() => named("postgres"),
            None => 0.0,
        };
        let broker = match pairing.broker_process() {
            Some(id) => all(|process| process.ends_with(&id)),
            None if pairing.has_broker() => named("beam.smp"),
            None => 0.0,
        };
        Self { own, database, broker }
    }

    /// Microseconds of each for one of `units`, from `before` until now.
    pub(crate) fn per_unit(self, before: Self, units: usize) -> Self {
        let each = |now: f64, before: f64| (now - before) / units as f64 * 1e6;
        Self {
            own: each(self.own, before.own),
            database: each(self.database, before.database),
            broker: each(self.broker, before.broker),
        }
    }
}

/// CPU seconds of all processes that fit, those of their ended children included.
fn all(fits: impl Fn(&PathBuf) -> bool) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|it| it.path());
    let stats = processes.filter(fits).filter_map(|it| fs::read_to_string(it.join("stat")).ok());
    stats.map(|it| cpu_of(&it)).sum()
}

fn named(name: &str) -> f64 {
    let named = |process: &PathBuf| fs::read_to_string(process.join("comm")).is_ok_and(|it| it.trim_end() == name);
    all(named)
}

/// User and system time in a line of `/proc/PID/stat`, with that of children that have ended.
fn cpu_of(stat: &str) -> f64 {
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12) + ticks(13) + ticks(14)) / 100.0
}

/// Resident memory, MiB.
pub(crate) fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|it| it.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which that share of all lies.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).copied().unwrap_or_default()
}
