//! What is no request, or an odd one: each is answered with a problem, and the next connection finds the service well.

use host::serve::{HttpLimits, Parts};
use order_saga::ScriptedGateway;
use serde_json::Value;

use super::socket::{LIVE, Raw};
use crate::support::{Host, PATIENCE, approved, quick, small};

const JSON: &str = "host: x\r\ncontent-type: application/json\r\n";

/// What is said, and the status of the only answer, after which the connection ends.
fn refused() -> Vec<(&'static str, Vec<u8>, u16)> {
    let post = |rest: &str| format!("POST /api/orders HTTP/1.1\r\n{JSON}{rest}").into_bytes();
    let get = |rest: &str| format!("GET /health/live HTTP/1.1\r\nhost: x\r\n{rest}\r\n\r\n").into_bytes();
    let long = |length| "a".repeat(length);
    vec![
        ("HTTP/0.9", b"GET /health/live\r\n\r\n".to_vec(), 400),
        ("HTTP/2.0 in a line", b"GET /health/live HTTP/2.0\r\nhost: x\r\n\r\n".to_vec(), 400),
        ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), 505),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        ("no method", b" /health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 400),
        ("a method that is none", b"G@T /health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 400),
        ("a null byte in the path", b"GET /health\0/live HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 400),
        ("a null byte in a header", get("x: a\0b"), 400),
        ("a header over two lines", get("x: a\r\n b"), 400),
        ("a space before the colon", get("x : a"), 400),
        ("a header without a name", get(": a"), 400),
        ("a long path", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", long(20_000)).into_bytes(), 414),
        ("a path longer than any", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", long(70_000)).into_bytes(), 414),
        ("a long header", get(&format!("x: {}", long(17_000))), 431),
        ("a huge header", get(&format!("x: {}", long(4_000_000))), 431),
        ("many headers", get(&"a: b\r\n".repeat(101)), 431),
        ("two lengths", post("content-length: 2\r\ncontent-length: 3\r\n\r\n{}"), 400),
        ("a length with a sign", post("content-length: +2\r\n\r\n{}"), 400),
        ("a negative length", post("content-length: -2\r\n\r\n{}"), 400),
        ("a length beyond every number", post("content-length: 99999999999999999999999\r\n\r\n{}"), 400),
        ("another transfer coding", post("transfer-encoding: gzip\r\n\r\n"), 400),
        ("chunked, misspelt", post("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"), 400),
        ("chunked, not last", post("transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), 400),
        ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), 400),
        ("a chunk of no size", post("transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk larger than any", post("transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}"), 400),
        ("a chunk that does not end", post("transfer-encoding: chunked\r\n\r\n2\r\n{}{}\r\n0\r\n\r\n"), 400),
        ("a long extension", post(&format!("transfer-encoding: chunked\r\n\r\n2;{}\r\n{{}}", long(20_000))), 400),
        ("a huge body", post(&format!("content-length: 104857600\r\n\r\n{}", long(4_000_000))), 413),
        ("a huge chunk", post(&format!("transfer-encoding: chunked\r\n\r\n400000\r\n{}", long(0x40_0000))), 413),
    ]
}

#[tokio::test]
async fn given_what_is_no_request_when_it_comes_then_the_only_answer_is_a_problem_and_the_connection_ends() {
    // Long enough for whoever sends more than is read.
    let http = HttpLimits { linger: PATIENCE, ..HttpLimits::default() };
    let parts = Parts { http, ..Parts::default() };
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    for (name, bytes, status) in refused() {
        let mut raw = Raw::open(host.service.address).await;
        let (said, sent) = tokio::join!(
            async {
                let mut reader = Raw::open(host.service.address).await;
                reader.say(LIVE).await;
                reader.answer().await
            },
            raw.try_say(&bytes)
        );
        assert_eq!(said.status, 200, "{name}: others are served meanwhile");
        assert!(sent.is_ok(), "{name}: it is thrown away, and nobody is cut off in the middle: {sent:?}");
        let said = raw.next().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(said.status, status, "{name}: {said:?}");
        said.problem(status);
        assert_eq!(said.header("connection"), Some("close"), "{name}");
        assert!(said.header("date").is_some(), "{name}");
        raw.assert_closed().await;
    }
    assert_eq!(host.service.orders.count().await.unwrap().iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[tokio::test]
async fn given_an_odd_request_when_it_comes_then_it_is_answered_and_the_connection_lives() {
    let host = Host::start(&quick(), [approved()]).await;
    let mut raw = Raw::open(host.service.address).await;
    let dead = "/api/dead-letters/01890a5d-ac96-774b-bcce-b302099a8057/redrive";
    for (request, status) in [
        ("FROBNICATE /health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
        ("TRACE /health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
        ("CONNECT elsewhere:80 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("GET http://elsewhere/health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 200),
        ("GET //health//live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("GET /api/orders/%00 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /api/orders/%ff HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /api/orders/%zz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /api/orders?limit=%ff HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /api/orders?cursor=%00 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /health/live HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /health/live HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n".to_owned(), 400),
        // A length is never asked for where there is nothing to be long.
        (LIVE.to_owned(), 200),
        (format!("POST {dead} HTTP/1.1\r\nhost: x\r\n\r\n"), 404),
        (format!("POST /api/orders HTTP/1.1\r\n{JSON}\r\n"), 400),
        (format!("POST /api/orders HTTP/1.1\r\n{JSON}content-length: 2\r\nexpect: 200-maybe\r\n\r\n{{}}"), 422),
        ("GET /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello".to_owned(), 200),
        ("GET /health/live HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n".to_owned(), 200),
    ] {
        raw.say(&request).await;
        let said = raw.answer().await;
        assert_eq!(said.status, status, "{request}: {said:?}");
        if status >= 400 {
            said.problem(status);
        }
        assert!(said.header("x-request-id").is_some(), "{request}");
        assert_ne!(said.header("connection"), Some("close"), "{request}");
    }
}

#[tokio::test]
async fn given_http_1_0_when_it_is_spoken_then_it_is_answered_and_the_connection_ends() {
    let host = Host::start(&quick(), [approved()]).await;
    let mut raw = Raw::open(host.service.address).await;
    raw.say("GET /health/live HTTP/1.0\r\n\r\n").await;
    let said = raw.answer().await;
    assert!(said.head.starts_with("HTTP/1.0 200"), "{said:?}");
    raw.assert_closed().await;
}

/// A proxy in front could have taken the length for the body's, and the rest for another caller's request.
#[tokio::test]
async fn given_a_length_and_chunks_when_both_are_said_then_what_follows_is_no_request() {
    let host = Host::start(&quick(), [approved()]).await;
    for both in ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"] {
        let body = small().to_string();
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let mut raw = Raw::open(host.service.address).await;
        raw.say(format!("POST /api/orders HTTP/1.1\r\n{JSON}{both}\r\n\r\n{chunk}{LIVE}")).await;
        let said = raw.answer().await;
        assert_eq!(said.status, 201, "the chunks are the body: {said:?}");
        assert_eq!(said.header("connection"), Some("close"));
        raw.assert_closed().await;
    }
}

#[tokio::test]
async fn given_several_requests_at_once_when_they_are_answered_then_in_their_order() {
    let host = Host::start(&quick(), [approved()]).await;
    let body = small().to_string();
    let post = format!("POST /api/orders HTTP/1.1\r\n{JSON}content-length: {}\r\n\r\n{body}", body.len());
    let ask = |id: &str| format!("GET /api/orders HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\n\r\n");
    let mut raw = Raw::open(host.service.address).await;
    raw.say([ask("one"), post, ask("two"), "@@@\r\n\r\n".to_owned(), ask("three")].concat()).await;
    let before = raw.answer().await;
    assert_eq!((before.header("x-request-id"), before.body.as_str()), (Some("one"), r#"{"items":[]}"#));
    let order: Value = serde_json::from_str(&raw.answer().await.body).unwrap();
    let after = raw.answer().await;
    assert_eq!(after.header("x-request-id"), Some("two"));
    assert!(after.body.contains(order["id"].as_str().unwrap()), "{}", after.body);
    raw.answer().await.problem(400);
    raw.assert_closed().await;
}

#[tokio::test]
async fn given_a_request_that_ends_too_early_when_it_comes_then_it_is_told_and_nothing_is_stored() {
    let host = Host::start(&quick(), [approved()]).await;
    let half = format!("POST /api/orders HTTP/1.1\r\n{JSON}content-length: 70\r\n\r\n{{");
    for bytes in ["GET / HT", "GET /health/live HTTP/1.1\r\nhost: x\r\n"] {
        let mut raw = Raw::open(host.service.address).await;
        raw.say(bytes).await;
        raw.finish().await;
        raw.answer().await.problem(400);
        raw.assert_closed().await;
    }
    // Nobody is left to be told.
    for bytes in [half.as_str(), "GET / HT"] {
        let mut raw = Raw::open(host.service.address).await;
        raw.say(bytes).await;
        raw.reset();
    }
    let mut raw = Raw::open(host.service.address).await;
    raw.say(LIVE).await;
    assert_eq!(raw.answer().await.status, 200);
    assert_eq!(host.service.orders.count().await.unwrap().iter().map(|(_, count)| count).sum::<u64>(), 0);
}
