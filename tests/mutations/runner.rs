//! Runs a test of this binary in a process of its own, with a protection taken out of it.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use saga_core::Mutation;

/// No test that is run here takes so long, whatever it lacks.
const LIMIT: Duration = Duration::from_secs(300);

/// Sees that a test fails without a protection; `variables` are set for it.
pub fn fails_without(mutation: Mutation, test: &str, variables: &[(&str, &str)]) {
    let (passes, text) = run(test, variables, Some(mutation));
    assert!(!passes, "{test} passes without {}:\n{text}", mutation.name());
}

/// Whether a test passes, and what it says.
pub fn run(test: &str, variables: &[(&str, &str)], without: Option<Mutation>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env_remove(Mutation::VARIABLE).envs(variables.iter().copied());
    command.envs(without.map(|it| (Mutation::VARIABLE, it.name())));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = child.id();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait_with_output()));
    let output = end.recv_timeout(LIMIT);
    let output = output.unwrap_or_else(|_| panic!("{test} has not ended within {LIMIT:?}: process {process}")).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("running 1 test"), "there is no test {test}:\n{text}");
    match output.status.code() {
        Some(0) => (true, text),
        Some(101) => (false, text),
        _ => panic!("{test} has ended with {}:\n{text}", output.status),
    }
}
