//! The hosts, as processes: each is started again whenever it has ended, until it is to stop.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The signal that nobody can catch.
const SIGKILL: i32 = 9;
/// How long a killed process may take to be gone, on a busy machine.
const GONE: Duration = Duration::from_secs(30);
/// Before a host is started again that ended by itself, as a service manager waits, too.
const PAUSE: Duration = Duration::from_millis(500);
/// How many lines of its log are kept of a host, to show if it ends by itself.
const LOG_TAIL: usize = 20;

/// How one host is started.
#[derive(Debug, Clone)]
pub(crate) struct HostProgram {
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) log: Option<PathBuf>,
}

/// The hosts. They end when this is dropped, and when this process ends in whatever way.
pub(crate) struct Hosts {
    hosts: Vec<Arc<Host>>,
    supervisors: Vec<JoinHandle<()>>,
}

/// An end of a host that nobody had asked for.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    /// Whether it may not happen: the host had served, or there was none. One that finds no database gives its start up.
    pub(crate) is_failure: bool,
    /// Which host, how it ended, and the last lines of its log.
    pub(crate) text: String,
}

struct Host {
    program: HostProgram,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// Whether it serves.
    ready: bool,
    /// Whether it stands still, and is not to be killed meanwhile.
    held: bool,
    /// Whether its next end is its last.
    stops: bool,
    /// Whether the next end was asked for.
    killed: bool,
    starts: u64,
    last_exit: Option<ExitStatus>,
    /// Ends that nobody asked for.
    deaths: Vec<Death>,
}

impl Hosts {
    /// Starts all of them at once, on what may be an empty database: one makes the tables, and the others wait for it.
    pub(crate) fn start(programs: Vec<HostProgram>) -> Self {
        let new = |program| Arc::new(Host { program, state: Mutex::default(), changed: Condvar::new() });
        let hosts: Vec<_> = programs.into_iter().map(new).collect();
        // The system ends a host when the thread has ended that started it; this one lives as long as the host is to.
        let supervise = |host: &Arc<Host>| {
            std::thread::spawn({
                let host = Arc::clone(host);
                move || host.supervise()
            })
        };
        let supervisors = hosts.iter().map(supervise).collect();
        Self { hosts, supervisors }
    }

    /// Waits until all of them serve.
    ///
    /// # Errors
    /// When one does not within the limit.
    pub(crate) fn until_ready(&self, limit: Duration) -> anyhow::Result<()> {
        for host in &self.hosts {
            let state = host.wait(limit, |state| state.ready);
            ensure!(state.ready, "host {} does not serve within {limit:?}: {:?}", host.program.number, state.deaths);
        }
        Ok(())
    }

    /// Kills a host that serves, the `first` or the next one in the circle, and waits until it is gone. Says which; none,
    /// if none serves.
    pub(crate) fn kill(&self, first: u64) -> Option<u64> {
        let host = self.circle(first).find(|host| host.kill())?;
        let state = host.wait(GONE, |state| !state.killed);
        let killed = !state.killed && state.last_exit.is_some_and(|exit| exit.signal() == Some(SIGKILL));
        killed.then_some(host.program.number)
    }

    /// Halts a host that serves, the `first` or the next one in the circle: it keeps its connections and does nothing,
    /// until [`Hosts::resume`]. Says which; none, if none serves.
    pub(crate) fn pause(&self, first: u64) -> Option<u64> {
        let host = self.circle(first).find(|host| {
            let mut state = host.lock();
            let halted = state.ready && !state.held && state.signal(Signal::STOP);
            state.held |= halted;
            halted
        })?;
        Some(host.program.number)
    }

    pub(crate) fn resume(&self, number: u64) {
        if let Some(host) = self.circle(number).next() {
            let mut state = host.lock();
            state.held = false;
            state.signal(Signal::CONT);
        }
    }

    /// Ends them all as a service manager does, and says how each has ended.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Vec<Option<i32>> {
        for host in &self.hosts {
            let mut state = host.lock();
            state.stops = true;
            state.signal(Signal::TERM);
            host.changed.notify_all();
        }
        let codes = self.hosts.iter().map(|host| {
            let state = host.wait(limit, |state| state.child.is_none());
            if state.child.is_some() { None } else { state.last_exit.and_then(|exit| exit.code()) }
        });
        let codes = codes.collect();
        self.end();
        codes
    }

    /// How often hosts were started, and how they ended when nobody asked for it.
    pub(crate) fn report(&self) -> (u64, Vec<Death>) {
        let starts = self.hosts.iter().map(|host| host.lock().starts).sum();
        (starts, self.hosts.iter().flat_map(|host| host.lock().deaths.clone()).collect())
    }

    fn circle(&self, first: u64) -> impl Iterator<Item = &Arc<Host>> {
        let count = self.hosts.len();
        (0..count).map(move |n| &self.hosts[(first as usize + n) % count])
    }

    fn end(&mut self) {
        for host in &self.hosts {
            let mut state = host.lock();
            state.stops = true;
            if let Some(child) = &mut state.child {
                // One that has ended can not be killed any more.
                let _ = child.kill();
            }
            host.changed.notify_all();
        }
        for supervisor in self.supervisors.drain(..) {
            // A panic there was shown when it happened.
            let _ = supervisor.join();
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn signal(&self, signal: Signal) -> bool {
        // Not waited for yet, so that the id is still its own.
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when it is so, or the limit is over.
    fn wait(&self, limit: Duration, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let wait = self.changed.wait_timeout_while(self.lock(), limit, |state| !is_so(state));
        wait.unwrap_or_else(PoisonError::into_inner).0
    }

    fn kill(&self) -> bool {
        let mut state = self.lock();
        if !state.ready || state.held || state.killed {
            return false;
        }
        state.killed = state.child.as_mut().is_some_and(|child| child.kill().is_ok());
        state.killed
    }

    fn supervise(&self) {
        loop {
            let stderr = {
                let mut state = self.lock();
                if state.stops {
                    return;
                }
                match self.program.spawn() {
                    Ok((child, stderr)) => {
                        state.child = Some(child);
                        state.starts += 1;
                        stderr
                    }
                    Err(error) => {
                        let text = format!("host {}: {error:#}", self.program.number);
                        state.deaths.push(Death { is_failure: true, text });
                        return;
                    }
                }
            };
            let tail = self.read_log(stderr);
            if self.ended(&tail) {
                drop(self.wait(PAUSE, |state| state.stops));
            }
        }
    }

    /// Reads its log to the end, which is the end of the process.
    fn read_log(&self, stderr: impl std::io::Read) -> VecDeque<String> {
        let mut log =
            self.program.log.as_ref().and_then(|path| File::options().create(true).append(true).open(path).ok());
        let mut tail = VecDeque::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(log) = &mut log {
                // A log that can not be written spoils no run.
                let _ = writeln!(log, "{line}");
            }
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"].as_str().is_some_and(|message| message.starts_with("ready on ")) {
                self.lock().ready = true;
                self.changed.notify_all();
            }
            if tail.len() == LOG_TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        tail
    }

    /// Takes note of its end, and says whether nobody had asked for it.
    fn ended(&self, tail: &VecDeque<String>) -> bool {
        let mut state = self.lock();
        let exit = state.child.take().and_then(|mut child| child.wait().ok());
        let by_itself = !state.killed && !state.stops;
        if by_itself {
            let end = exit.map_or_else(|| "unknown".to_owned(), |exit| exit.to_string());
            let log = tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n    ");
            let when = if state.ready { "while it served" } else { "before it served" };
            let text = format!("host {} ended by itself {when}, {end}:\n    {log}", self.program.number);
            let is_failure = state.ready;
            state.deaths.push(Death { is_failure, text });
        }
        (state.ready, state.held, state.killed, state.last_exit) = (false, false, false, exit);
        self.changed.notify_all();
        by_itself
    }
}

impl HostProgram {
    fn spawn(&self) -> anyhow::Result<(Child, std::process::ChildStderr)> {
        // However this process ends, no host outlives it.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SAGA__HTTP__LISTEN", self.address.to_string())
            .env("SAGA__LOG__FORMAT", "json")
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("setpriv, of util-linux, does not start")?;
        let stderr = child.stderr.take().context("a pipe that was asked for is not there")?;
        Ok((child, stderr))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn given_hosts_that_end_by_themselves_when_they_had_served_then_it_is_a_failure() {
        let script = |number, script: &str| HostProgram {
            number,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            program: "sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: Vec::new(),
            log: None,
        };
        let served = r#"echo '{"message":"ready on 127.0.0.1:1"}' >&2; echo it panics >&2; exit 101"#;
        let hosts = Hosts::start(vec![script(0, served), script(1, "echo no database >&2; exit 1")]);
        for (host, is_failure, says) in [
            (&hosts.hosts[0], true, "host 0 ended by itself while it served, exit status: 101"),
            (&hosts.hosts[1], false, "host 1 ended by itself before it served, exit status: 1"),
        ] {
            let state = host.wait(GONE, |state| !state.deaths.is_empty());
            let death = state.deaths.first().expect("it ends at once");
            assert_eq!(death.is_failure, is_failure, "{death:?}");
            assert!(death.text.starts_with(says), "{death:?}");
        }
    }
}
