use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use test_servers::until;

const LIMIT: Duration = Duration::from_secs(60);

/// A process with both servers, whose temporary folder is `folder`.
fn start(folder: &std::path::Path) -> (Child, Vec<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_test-servers"))
        .env("TMPDIR", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let addresses = lines.map(|line| {
        let line = line.unwrap();
        line.rsplit_once('@').unwrap().1.split_once('/').unwrap().0.to_owned()
    });
    let addresses = addresses.take(2).collect::<Vec<_>>();
    assert_eq!(addresses.len(), 2);
    (child, addresses)
}

fn folders(folder: &std::path::Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn assert_vanish(folder: &std::path::Path, addresses: &[String]) {
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
    let (mut child, addresses) = start(folder.path());
    assert_eq!(folders(folder.path()).len(), 2);
    addresses.iter().for_each(|address| drop(TcpStream::connect(address).unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_vanish(folder.path(), &addresses);
}

#[test]
fn given_a_process_when_it_ends_then_its_servers_and_folders_are_gone() {
    let folder = temporary();
    let (mut child, addresses) = start(folder.path());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(folders(folder.path()).is_empty());
    assert_vanish(folder.path(), &addresses);
}
