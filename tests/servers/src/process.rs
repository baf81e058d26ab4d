//! A program and the processes that it started in turn.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// So long a process that was killed may take to be gone, on a machine that is busy.
const GONE_LIMIT: Duration = Duration::from_secs(30);

/// A program as it is to be started.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) command: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
}

impl Program {
    pub(crate) fn new(path: impl AsRef<OsStr>) -> Self {
        Self { command: vec![path.as_ref().to_owned()], env: Vec::new() }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts it in `folder`, where `<name>.pid` tells the watchdog of it before it runs, and `<name>.log` takes its output.
    pub(crate) fn start(folder: &Path, name: &str, program: &Program) -> Self {
        let pid_file = folder.join(format!("{name}.pid"));
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log);
        let output = output.unwrap_or_else(|error| panic!("{} cannot be written: {error}", log.display()));
        let errors = output.try_clone().unwrap_or_else(|error| panic!("{} cannot be shared: {error}", log.display()));
        let child = Command::new("sh")
            .args(["-c", r#"echo $$ >"$1"; shift; exec "$@""#, "start"])
            .arg(&pid_file)
            .args(&program.command)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, pid_file, log }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{} cannot be waited for: {error}", self.name))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let status = until(limit, &what, || self.ended());
        // Nothing may be ended in its place once the id is somebody else's.
        let _ = fs::remove_file(&self.pid_file);
        status
    }

    /// Sends a signal to the program alone, not to what it started.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Ends it and all it started at once, with no chance to do anything.
    pub(crate) fn kill(self) {
        let family = self.halt();
        family.iter().for_each(|pid| send(*pid, Signal::KILL));
        let what = format!("the end of what {} started", self.name);
        self.wait(GONE_LIMIT);
        until(GONE_LIMIT, &what, || family.iter().all(|pid| state(*pid).is_none_or(|it| it.is_gone())).then_some(()));
    }

    /// Halts it and all it started. Sockets stay open, nothing is read or answered.
    pub(crate) fn pause(&self) {
        self.halt();
    }

    /// Lets it run on.
    pub(crate) fn resume(&self) {
        descendants(self.child.id()).iter().for_each(|pid| send(*pid, Signal::CONT));
    }

    /// The end of its log, to show in a panic.
    pub(crate) fn log_tail(&self) -> String {
        const LINES: usize = 30;
        let text = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines = text.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Halts the program first, so that it starts nothing more, and gives all ids.
    fn halt(&self) -> Vec<u32> {
        let what = format!("{} to halt", self.name);
        until(GONE_LIMIT, &what, || {
            let family = descendants(self.child.id());
            family.iter().for_each(|pid| send(*pid, Signal::STOP));
            family.iter().all(|pid| state(*pid).is_none_or(|it| it.is_halted() || it.is_gone())).then_some(family)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever drops a process has ended it; this takes it off the system's list.
        let _ = self.child.try_wait();
    }
}

fn send(pid: u32, signal: Signal) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // It may have ended by itself a moment ago, which is what most signals are for.
    let _ = kill_process(pid, signal);
}

struct State {
    letter: u8,
    parent: u32,
    threads: u32,
}

impl State {
    /// The first thread may be a zombie while others still hold the sockets.
    fn is_gone(&self) -> bool {
        matches!(self.letter, b'Z' | b'X') && self.threads <= 1
    }

    fn is_halted(&self) -> bool {
        matches!(self.letter, b'T' | b't')
    }
}

/// The state of a process, none when there is no such process.
fn state(pid: u32) -> Option<State> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, a closing bracket as well.
    let fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect::<Vec<_>>();
    let [letter, parent, ..] = fields[..] else { return None };
    Some(State {
        letter: *letter.as_bytes().first()?,
        parent: parent.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
    })
}

/// The process and all that descend from it, parents before children.
fn descendants(root: u32) -> Vec<u32> {
    let entries =
        fs::read_dir("/proc").unwrap_or_else(|error| panic!("/proc cannot be read, Linux is needed: {error}"));
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut children = BTreeMap::<u32, Vec<u32>>::new();
    for (pid, state) in pids.filter_map(|pid| Some((pid, state(pid)?))) {
        children.entry(state.parent).or_default().push(pid);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}
