//! Time is paused, and goes on by itself when nothing else can happen: whoever says nothing costs no time.

use std::time::Duration;

use tokio::time::Instant;

use super::socket::{HALF, LIVE, Raw};
use crate::support::{Host, approved, quick};

/// As the deadlines are documented.
const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(60);

#[track_caller]
fn assert_took(since: Instant, limit: Duration) {
    let took = since.elapsed();
    assert!((limit..limit + Duration::from_secs(1)).contains(&took), "{took:?} instead of {limit:?}");
}

#[tokio::test(start_paused = true)]
async fn given_half_a_head_when_no_more_comes_then_it_is_408_in_time() {
    let host = Host::start(&quick(), [approved()]).await;
    let begun = Instant::now();
    let mut raw = Raw::open(host.service.address).await;
    raw.say(HALF).await;
    let said = raw.read().await.expect("an answer");
    assert_took(begun, HEAD);
    assert_eq!(said.problem(408)["type"], "urn:saga-host:problem:too-slow");
    assert!(raw.read().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn given_a_head_that_comes_byte_by_byte_when_it_takes_too_long_then_it_is_408_in_time() {
    let host = Host::start(&quick(), [approved()]).await;
    let begun = Instant::now();
    let mut raw = Raw::open(host.service.address).await;
    raw.say(HALF).await;
    let said = loop {
        match tokio::time::timeout(Duration::from_secs(1), raw.read()).await {
            Ok(said) => break said.expect("an answer"),
            Err(_) => raw.say("s").await,
        }
    };
    assert_took(begun, HEAD);
    said.problem(408);
}

#[tokio::test(start_paused = true)]
async fn given_a_new_connection_when_nothing_comes_then_it_is_closed_without_a_word() {
    let host = Host::start(&quick(), [approved()]).await;
    let begun = Instant::now();
    let mut raw = Raw::open(host.service.address).await;
    assert!(raw.read().await.is_none());
    assert_took(begun, HEAD);
}

#[tokio::test(start_paused = true)]
async fn given_an_idle_connection_when_its_time_is_over_then_it_is_closed_without_a_word() {
    let host = Host::start(&quick(), [approved()]).await;
    let mut raw = Raw::open(host.service.address).await;
    for _ in 0..3 {
        raw.say(LIVE).await;
        assert_eq!(raw.read().await.unwrap().status, 200);
        // Nearly too long: a request in time makes it anew.
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
    }
    raw.say(LIVE).await;
    assert_eq!(raw.read().await.unwrap().status, 200);
    let begun = Instant::now();
    assert!(raw.read().await.is_none());
    assert_took(begun, IDLE);
}

#[tokio::test(start_paused = true)]
async fn given_half_a_head_behind_a_request_when_no_more_comes_then_its_own_time_counts() {
    let host = Host::start(&quick(), [approved()]).await;
    let mut raw = Raw::open(host.service.address).await;
    raw.say(LIVE).await;
    assert_eq!(raw.read().await.unwrap().status, 200);
    tokio::time::advance(IDLE / 2).await;
    let begun = Instant::now();
    raw.say(HALF).await;
    raw.read().await.expect("an answer").problem(408);
    assert_took(begun, HEAD);
}

#[tokio::test(start_paused = true)]
async fn given_an_answer_that_is_not_taken_when_its_time_is_over_then_the_connection_is_thrown_away() {
    let host = Host::start(&quick(), [approved()]).await;
    let begun = Instant::now();
    let mut raw = Raw::narrow(host.service.address).await;
    // More than the system takes for somebody who does not read.
    raw.say("GET /docs HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20)).await;
    while !raw.is_reset() {
        assert!(begun.elapsed() < 2 * ANSWER, "it is still there");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() >= ANSWER, "{:?}", begun.elapsed());
    let mut other = Raw::open(host.service.address).await;
    other.say(LIVE).await;
    assert_eq!(other.read().await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn given_a_slow_reader_when_it_reads_within_its_time_then_it_is_told_everything() {
    let host = Host::start(&quick(), [approved()]).await;
    let mut raw = Raw::narrow(host.service.address).await;
    raw.say("GET /docs HTTP/1.1\r\nhost: x\r\n\r\n".repeat(8) + "@@@\r\n\r\n").await;
    for _ in 0..8 {
        // Each answer has its own time.
        tokio::time::advance(ANSWER / 4).await;
        let said = raw.read().await.expect("an answer");
        assert_eq!(said.status, 200);
        assert!(said.body.trim_end().ends_with("</html>"));
    }
    raw.read().await.expect("an answer").problem(400);
    assert!(raw.read().await.is_none());
}
