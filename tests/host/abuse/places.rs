//! More connections than there are places or descriptors for.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::Instant;

use super::socket::{HALF, LIVE, Raw};
use crate::support::{Host, PATIENCE, Served, approved, program, quick};

fn with_places(connections: usize) -> host::config::Config {
    let mut config = quick();
    config.http.connections = connections;
    config
}

#[tokio::test(start_paused = true)]
async fn given_no_place_when_one_more_comes_then_it_waits_until_a_place_is_free() {
    let host = Host::start(&with_places(2), [approved()]).await;
    let begun = Instant::now();
    let mut taken = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::open(host.service.address).await;
        raw.say(HALF).await;
        taken.push(raw);
    }
    let mut waiting = Raw::open(host.service.address).await;
    waiting.say(LIVE).await;
    assert_eq!(waiting.read().await.unwrap().status, 200);
    let waited = begun.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(12)).contains(&waited), "{waited:?}: a head's deadline");
}

#[tokio::test]
async fn given_the_last_place_when_it_is_taken_then_a_connection_ends_with_its_answer() {
    let host = Host::start(&with_places(2), [approved()]).await;
    let mut first = Raw::open(host.service.address).await;
    first.say(LIVE).await;
    let said = first.answer().await;
    assert_eq!((said.status, said.header("connection")), (200, None), "there is a place left");
    let mut second = Raw::open(host.service.address).await;
    for raw in [&mut second, &mut first] {
        raw.say(LIVE).await;
        let said = raw.answer().await;
        assert_eq!(said.status, 200);
        if said.header("connection") == Some("close") {
            raw.assert_closed().await;
        }
    }
    // Whoever came second found no place left behind it, and made room.
    second.assert_closed().await;
    let mut third = Raw::open(host.service.address).await;
    third.say(LIVE).await;
    assert_eq!(third.answer().await.status, 200);
}

/// More connections than this are not taken by a process with so many free descriptors.
const FREE: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn given_no_descriptors_when_connections_come_then_nothing_spins_and_they_are_served_later() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/orders.db", folder.path().display());
    let mut served = Served::start(program(&["serve"]).env("SAGA__STORE__URL", url));
    // So that everything is open that the service needs.
    assert_eq!(served.rest.get("/health/ready").await.unwrap().status, 200);
    let pid = Pid::from_raw(served.id().cast_signed()).unwrap();
    let limit = Some(served.descriptors() + FREE);
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();

    let mut taken = Vec::new();
    for _ in 0..2 * FREE {
        taken.push(Raw::open(served.address).await);
    }
    served.line("connections can not be taken");
    let begun = Instant::now();
    // Whoever was taken is served; whoever was not is, when the others have gone.
    let last = taken.len() - 1;
    for index in [0, last] {
        taken[index].say(LIVE).await;
    }
    assert_eq!(taken[0].answer().await.status, 200);
    let mut waiting = taken.pop().unwrap();
    drop(taken);
    assert_eq!(waiting.answer().await.status, 200);

    let address = served.address;
    let more = tokio::spawn(async move {
        loop {
            let mut raw = Raw::open(address).await;
            raw.say(LIVE).await;
            assert_eq!(raw.answer().await.status, 200);
        }
    });
    let line = tokio::task::spawn_blocking(move || served.line("connections are taken again"));
    let line = tokio::time::timeout(PATIENCE, line).await.expect("it recovers").unwrap();
    more.abort();
    // One attempt in a tenth of a second, and one more at either end.
    let allowed = begun.elapsed().as_millis() / 100 + 2;
    let attempts = u128::from(line["attempts"].as_u64().unwrap());
    assert!((1..=allowed).contains(&attempts), "{attempts} attempts, {allowed} allowed");
}

/// How many connections behave badly at the same time, and what each may cost at the most.
const BAD: usize = 200;
const EACH: u64 = 256 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn given_huge_heads_and_answers_that_nobody_reads_when_they_come_then_memory_stays_bounded() {
    let mut served = Served::start(program(&["serve"]).env("SAGA__STORE__URL", "memory:"));
    let mut page = Raw::open(served.address).await;
    page.say("GET /docs HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(page.answer().await.status, 200);
    let before = served.peak_memory();

    let head = format!("GET /health/live HTTP/1.1\r\nhost: x\r\nx: {}", "a".repeat(400_000));
    let mut heads = Vec::new();
    for _ in 0..BAD {
        let mut raw = Raw::open(served.address).await;
        // The rest is not taken; that is no matter here.
        let _ = raw.try_say(&head).await;
        heads.push(raw);
    }
    for raw in &mut heads {
        raw.answer().await.problem(431);
    }
    drop(heads);
    let mut unread = Vec::new();
    for _ in 0..BAD {
        let mut raw = Raw::narrow(served.address).await;
        raw.say("GET /docs HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20)).await;
        // The first answer has begun; it, and those behind it, are larger than what the system takes.
        assert_eq!(raw.first_byte().await, b'H');
        unread.push(raw);
    }
    let grown = served.peak_memory() - before;
    assert!(grown < BAD as u64 * EACH, "{BAD} connections cost {grown} bytes");
    served.signal("-TERM");
    served.line("stopped");
}
