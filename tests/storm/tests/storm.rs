//! The small form of the storm; the large one is run by hand.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use test_servers::until;

/// The system needs not longer to end a process.
const PATIENCE: Duration = Duration::from_secs(30);

fn crash_storm() -> Command {
    Command::new(env!("CARGO_BIN_EXE_crash-storm"))
}

#[test]
fn given_three_hosts_when_hosts_broker_and_database_are_killed_under_load_then_each_order_ends_once() {
    let storm = crash_storm().args(["--seed", "3333", "--json"]).output().unwrap();
    let told = String::from_utf8_lossy(&storm.stderr);
    println!("{told}");
    assert!(storm.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&storm.stdout).unwrap();
    assert_eq!((&report["passed"], &report["seen"]["accepted"]), (&true.into(), &500.into()), "{report}");
    for end in ["completed", "expired"] {
        assert!(report["seen"][end].as_u64().unwrap() > 50, "hardly an order is {end}: the storm is too dense");
    }
    #[cfg(feature = "failpoints")]
    assert!(report["seen"]["retried"].as_u64().unwrap() > 0, "no attempt has failed, so no timer was needed: {report}");
    for (fault, asked) in report["faultsAsked"].as_object().unwrap() {
        assert!(report["faults"][fault].as_u64() >= asked.as_u64().filter(|asked| *asked > 0), "{fault}: {report}");
    }
}

#[test]
fn given_a_storm_when_it_is_killed_then_no_host_and_no_witness_outlives_it() {
    let mut storm = crash_storm().args(["--hosts", "2"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(storm.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(told.any(|line| line.contains("2 hosts serve")), "it ended before its hosts served");
    let children = children(storm.id());
    for part in ["host", "witness"] {
        assert!(children.iter().any(|pid| command(*pid).is_some_and(|it| it.ends_with(part))), "there is no {part}");
    }
    storm.kill().unwrap();
    storm.wait().unwrap();
    until(PATIENCE, "the end of all that the storm started", || {
        children.iter().all(|pid| command(*pid).is_none_or(|it| !it.contains("crash-storm"))).then_some(())
    });
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let children = std::fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        Some(children.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
    };
    threads.filter_map(of_thread).flatten().collect()
}

/// The command line of a process that runs.
fn command(pid: u32) -> Option<String> {
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let command = command.trim_end_matches('\0').replace('\0', " ");
    (!command.is_empty()).then_some(command)
}
