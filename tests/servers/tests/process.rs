use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use test_servers::{Postgres, until};

const LIMIT: Duration = Duration::from_secs(60);

/// A process with both servers, whose temporary folder is `folder`, and the variables that it prints.
fn start(folder: &Path) -> (Child, BTreeMap<String, String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_test-servers"))
        .env("TMPDIR", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let variables = lines.map(|line| {
        let line = line.unwrap();
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    let variables = variables.take(3).collect::<BTreeMap<_, _>>();
    let names = ["TEST_AMQP_MANAGEMENT_URL", "TEST_AMQP_URL", "TEST_DATABASE_URL"];
    assert_eq!(variables.keys().collect::<Vec<_>>(), names);
    (child, variables)
}

fn addresses(variables: &BTreeMap<String, String>) -> Vec<String> {
    let address = |url: &String| url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    variables.values().map(address).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn assert_vanish(folder: &Path, addresses: &[String]) {
    until(LIMIT, "the folders to be removed", || folders(folder).is_empty().then_some(()));
    for address in addresses {
        assert!(TcpStream::connect(address).is_err(), "{address} is still served");
    }
}

fn temporary() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // PostgreSQL runs as another user when the tests run as root.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).unwrap();
    folder
}

#[test]
fn given_a_process_when_it_is_killed_then_its_servers_and_folders_vanish() {
    let folder = temporary();
    let (mut child, variables) = start(folder.path());
    let addresses = addresses(&variables);
    assert_eq!(folders(folder.path()).len(), 2);
    addresses.iter().for_each(|address| drop(TcpStream::connect(address).unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_vanish(folder.path(), &addresses);
}

#[test]
fn given_a_process_when_it_ends_then_its_servers_and_folders_are_gone() {
    let folder = temporary();
    let (mut child, variables) = start(folder.path());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(folders(folder.path()).is_empty());
    assert_vanish(folder.path(), &addresses(&variables));
}

#[test]
fn given_servers_that_run_when_they_are_named_then_databases_and_virtual_hosts_are_made_there() {
    let folder = temporary();
    let (mut child, variables) = start(folder.path());
    let fresh = |variables: &BTreeMap<String, String>| {
        Command::new(env!("CARGO_BIN_EXE_test-servers")).arg("fresh").envs(variables).output().unwrap()
    };
    let output = fresh(&variables);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (database, host) = text.trim_end().split_once('\n').unwrap();
    let addresses = addresses(&variables);
    assert!(database.contains(&addresses[2]) && host.contains(&addresses[1]), "{text}");
    assert_eq!(Postgres::shared().query(database, "SELECT current_user"), "tester");

    // AMQP alone makes none: it is said, not worked around.
    let mut without = variables.clone();
    without.insert("TEST_AMQP_MANAGEMENT_URL".to_owned(), "http://127.0.0.1:1".to_owned());
    let output = fresh(&without);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("None can be created: 127.0.0.1:1: "), "{error}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
