//! One run: servers, hosts and witness are started, the faults happen, everything comes to rest, the witness judges.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{ScopedJoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, bail};

use crate::chance::Chance;
use crate::cluster::{Cluster, Servers};
use crate::fault::{Counter, Fault};
use crate::options::Options;
use crate::plan::{Plan, Step};
use crate::report::Report;
use crate::witness::{Begin, Order, Word};

/// Hosts serve within this time at the start: they make the tables, on a machine that may be busy.
const START: Duration = Duration::from_secs(120);
/// A host has drained and ended within this time.
const END: Duration = Duration::from_secs(60);
/// How long it is tried to do a fault that can not happen yet, because what it happens to is away: longer than any stop.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between one fault's end and the next one of its kin at the least, so that there is something again that it can break.
const CALM: Duration = Duration::from_secs(2);
/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// A storm that lasts so many times as long as it was planned has got stuck, and ends with too few faults.
const OVERTIME: u32 = 5;

/// Runs a storm, and says what came of it.
///
/// # Errors
/// When the servers, the hosts or the witness could not do their part; that orders are lost is no error but a report.
pub fn storm(options: &Options) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let servers = Servers::start();
    let mut witness = Witness::start()?;
    let mut cluster = Cluster::start(servers, options, |servers, hosts| {
        let (store, bus) = (servers.store.clone(), servers.bus.clone());
        let record = folder.path().join("accepted.jsonl");
        let (orders, over, within) = (options.orders, options.length(), options.converge_within);
        witness.tell(&Order::Begin(Begin { store, bus, hosts, orders, over, within, record }))?;
        let Word::Listening = witness.hear()? else { bail!("the witness does not listen") };
        Ok(())
    })?;
    cluster.hosts.until_ready(START)?;
    eprintln!(
        "{} hosts serve; seed {}; {}",
        options.hosts,
        options.seed,
        humantime::format_rfc3339_millis(SystemTime::now())
    );

    witness.tell(&Order::Submit)?;
    let (counter, begun) = (Counter::default(), Instant::now());
    rage(&cluster, options, &counter, begun)?;
    let lasted = begun.elapsed();
    witness.tell(&Order::Calm)?;
    eprintln!("{:>6.1} s calm", lasted.as_secs_f64());

    let (converged, left) = match witness.hear()? {
        Word::AtRest { after } => (Some(after), Vec::new()),
        Word::Restless { accepted, left } => {
            let left =
                left.into_iter().filter(|(_, count)| *count > 0).map(|(place, count)| format!("{count} in {place}"));
            (None, std::iter::once(format!("{accepted} of {} accepted", options.orders)).chain(left).collect())
        }
        other => bail!("the witness says {other:?}"),
    };
    let exits = cluster.hosts.terminate(END);
    let (starts, deaths) = cluster.hosts.report();
    if let Some(folder) = &options.logs {
        cluster.servers.keep_logs(folder).context("the servers' logs can not be kept")?;
    }
    witness.tell(&Order::Judge { queues: cluster.servers.queues() })?;
    let Word::Verdict(verdict) = witness.hear()? else { bail!("the witness does not judge") };
    Ok(Report::new(options, counter.tally(), lasted, converged, left, (starts, deaths, exits), verdict))
}

/// Every fault of the plan, hosts being killed all the while.
fn rage(cluster: &Cluster, options: &Options, counter: &Counter, begun: Instant) -> anyhow::Result<()> {
    let plan = Plan::of(options);
    let end = begun + options.length().saturating_mul(OVERTIME);
    let storm = Storm { cluster, counter, begun, end };
    std::thread::scope(|scope| {
        let others = [&plan.servers, &plan.network].map(|steps| scope.spawn(|| storm.happen(steps)));
        storm.kill_hosts(options, &others);
        others
            .into_iter()
            .try_for_each(|other| other.join().map_err(|_| anyhow!("a server could not be stopped or started")))
    })
}

struct Storm<'a> {
    cluster: &'a Cluster,
    counter: &'a Counter,
    begun: Instant,
    end: Instant,
}

impl Storm<'_> {
    /// Kills a host every so often, until there were enough kills and everything else has happened.
    fn kill_hosts(&self, options: &Options, others: &[ScopedJoinHandle<'_, ()>]) {
        let mut chance = Chance::of(options.seed, "hosts");
        let mut due = self.begun;
        let enough = || self.counter.tally().count(Fault::HostKill) >= options.host_kills;
        while !enough() || others.iter().any(|other| !other.is_finished()) {
            due += options.kill_every;
            sleep(due.saturating_duration_since(Instant::now()));
            if Instant::now() > self.end {
                return;
            }
            let host = chance.below(options.hosts);
            let step = Step { at: due - self.begun, fault: Fault::HostKill, host, database: false, shape: 0 };
            self.happens(&step);
            // One that came late moves those after it, or two would come at once.
            due = due.max(Instant::now() - options.kill_every / 2);
        }
    }

    fn happen(&self, steps: &[Step]) {
        let mut calm = self.begun;
        for step in steps {
            let due = calm.max(self.begun + step.at);
            sleep(due.saturating_duration_since(Instant::now()));
            if Instant::now() > self.end {
                return;
            }
            let since = Instant::now();
            let happened = self.happens(step);
            let (at, took) = (since.duration_since(self.begun).as_secs_f64(), since.elapsed().as_secs_f64());
            let but = if happened { "" } else { ", which did not happen" };
            eprintln!("{at:>6.1} s {}, {took:.1} s{but}", step.fault.name());
            calm = Instant::now() + CALM;
        }
    }

    /// Does it, more than once if nothing was there that it could happen to.
    fn happens(&self, step: &Step) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.cluster.apply(step) {
                self.counter.add(step.fault);
                return true;
            }
            sleep(PAUSE);
        }
        false
    }
}

/// The witness's process. It ends when this one does.
struct Witness {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Witness {
    fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program is not found")?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).arg("witness");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("setpriv, of util-linux")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.context("a pipe that was asked for is not there")?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    fn tell(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)?;
        writeln!(self.input, "{line}").context("the witness has ended")
    }

    fn hear(&mut self) -> anyhow::Result<Word> {
        let line = self.output.next().context("the witness has ended")??;
        serde_json::from_str(&line).with_context(|| format!("the witness says {line}"))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // One that has ended can not be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
