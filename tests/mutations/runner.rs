//! Runs a test of this binary in a process of its own, with a protection taken out of it.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use saga_core::Mutation;

/// No test that is run here takes so long, whatever it lacks.
const LIMIT: Duration = Duration::from_secs(300);

/// Sees that a test fails without a protection, and that it is the protection which it misses: a test that fails for
/// another reason does not say what is expected. `variables` are set for it.
pub fn fails_without(mutation: Mutation, test: &str, variables: &[(&str, &str)], says: &str) {
    let (passes, text) = run(test, variables, Some(mutation));
    let name = mutation.name();
    assert!(!passes, "{test} passes without {name}:\n{text}");
    assert!(text.contains(says), "{test} fails without {name}, but does not say {says:?}:\n{text}");
}

/// Whether a test passes, and what it says.
pub fn run(test: &str, variables: &[(&str, &str)], without: Option<Mutation>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env_remove(Mutation::VARIABLE).envs(variables.iter().copied());
    command.envs(without.map(|it| (Mutation::VARIABLE, it.name())));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (said, told) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    // What it says ends when it does.
    let until = Instant::now() + LIMIT;
    let heard = [said, told].map(|it| it.recv_timeout(until.saturating_duration_since(Instant::now())));
    let is_over = heard.iter().all(Result::is_ok);
    if !is_over {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let text: String = heard.into_iter().flatten().collect();
    assert!(is_over, "{test} has not ended within {LIMIT:?}, and was killed:\n{text}");
    assert!(text.contains("running 1 test"), "there is no test {test}:\n{text}");
    match status.code() {
        Some(0) => (true, text),
        Some(101) => (false, text),
        _ => panic!("{test} has ended with {status}:\n{text}"),
    }
}

/// Reads a pipe to its end, beside whoever waits for it.
fn read(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        sender.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receiver
}
