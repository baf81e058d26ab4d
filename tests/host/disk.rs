//! A disk that runs full under the real program, in a file system of its own (`unshare`, tmpfs).

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use host::rest::{Answer, Rest};
use serde_json::Value;

use crate::support::{PATIENCE, Served, assert_problem, program, small};

/// What the program runs on; it needs a third of it.
const DISK: &str = "size=8m";

/// The program on a disk of its own, mounted where nobody else sees it.
fn on_a_small_disk(folder: &str) -> Command {
    let program = program(&["serve"]);
    let mount = format!(r#"mount -t tmpfs -o {DISK} tmpfs "$0" && exec "$@""#);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount, folder]).arg(program.get_program());
    command.args(program.get_args()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("SAGA__STORE__URL", format!("sqlite://{folder}/orders.db"))
        .env("SAGA__PAYMENT__DELAY", "0s")
        .env("SAGA__PAYMENT__SUCCESS_RATE", "1");
    command
}

/// Writes into a file until there is no room for another byte.
fn fill(file: PathBuf) {
    let mut file = File::create(file).unwrap();
    let chunk = [0; 4096];
    while file.write_all(&chunk).is_ok() {}
    while file.write_all(&chunk[..1]).is_ok() {}
}

async fn submit(rest: &Rest, key: &str) -> Answer {
    rest.post("/api/orders", &small().to_string(), &[("Idempotency-Key", key)]).await.unwrap()
}

async fn until_completed(rest: &Rest, order: &Value) {
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    let completed = async {
        while rest.get(&path).await.unwrap().json::<Value>().unwrap()["status"] != "completed" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, completed).await.expect("it is never completed");
}

async fn until_ready(rest: &Rest, status: u16) {
    let ready = async {
        while rest.get("/health/ready").await.unwrap().status != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap_or_else(|_| panic!("ready is never {status}"));
}

#[tokio::test]
async fn given_a_disk_that_is_full_when_orders_come_then_none_is_taken_and_all_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let served = Served::start(&mut on_a_small_disk(folder));
    let before: Value = submit(&served.rest, "before").await.json().unwrap();
    until_completed(&served.rest, &before).await;

    let ballast = PathBuf::from(format!("/proc/{}/root{folder}/ballast", served.id()));
    fill(ballast.clone());
    until_ready(&served.rest, 503).await;
    // What has room in a page that is there already may still be taken; soon nothing has.
    let mut taken = Vec::new();
    let refused = loop {
        let answer = submit(&served.rest, &format!("full-{}", taken.len())).await;
        if answer.status != 201 {
            break answer;
        }
        taken.push(answer.json::<Value>().unwrap());
        assert!(taken.len() < 10_000, "the disk is not full");
    };
    let problem: Value = refused.json().unwrap();
    let kind = problem["type"].as_str().unwrap().trim_start_matches("urn:saga-host:problem:");
    assert!(["unavailable", "outcome-unknown"].contains(&kind), "{problem}");
    assert_problem(&refused, 503, kind);
    let seen: Value =
        served.rest.get(&format!("/api/orders/{}", before["id"].as_str().unwrap())).await.unwrap().json().unwrap();
    assert_eq!(seen["status"], "completed", "what is there can be read");

    std::fs::remove_file(ballast).unwrap();
    until_ready(&served.rest, 200).await;
    let again = submit(&served.rest, &format!("full-{}", taken.len())).await;
    assert!([200, 201].contains(&again.status), "{}", again.text());
    taken.push(again.json().unwrap());
    for order in &taken {
        until_completed(&served.rest, order).await;
    }
    served.signal("-TERM");
    assert_eq!(served.exit_code(), Some(0));
}
