//! Shutting down while connections are open, each in another state.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::socket::{HALF, LIVE, Raw};
use crate::faulty::{Faulty, Mode};
use crate::support::{Host, PATIENCE, Served, approved, program, quick, small};
use host::rest::Rest;
use order_saga::ScriptedGateway;

#[tokio::test]
async fn given_connections_in_every_state_when_stopped_then_each_ends_as_it_should() {
    let (store, parts) = Faulty::parts();
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    let address = host.service.address;
    let mut silent = Raw::open(address).await;
    let mut idle = Raw::open(address).await;
    idle.say(LIVE).await;
    assert_eq!(idle.answer().await.header("connection"), None, "it is kept");
    let mut half = Raw::open(address).await;
    half.say(HALF).await;
    let mut in_hand = Raw::open(address).await;
    store.turns(Mode::Waits);
    let body = small().to_string();
    let head = "POST /api/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    in_hand.say(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    store.until_waiting(1).await;

    host.service.stop();
    silent.assert_closed().await;
    idle.assert_closed().await;
    let said = half.answer().await;
    assert_eq!(said.problem(503)["detail"], "the service stops");
    assert_eq!(said.header("retry-after"), Some("1"));
    half.assert_closed().await;
    // No new ones are taken, as soon as the task that takes them has seen the end.
    host.until(|| async { tokio::net::TcpStream::connect(address).await.is_err().then_some(()) }).await;

    store.turns(Mode::Works);
    let said = in_hand.answer().await;
    assert_eq!((said.status, said.header("connection")), (201, Some("close")), "{said:?}");
    in_hand.assert_closed().await;
    tokio::time::timeout(PATIENCE, host.stopped()).await.unwrap().unwrap();
}

#[tokio::test]
async fn given_a_request_that_does_not_end_when_stopped_then_the_shutdown_does() {
    let (store, parts) = Faulty::parts();
    let mut config = quick();
    config.drain = Duration::from_millis(200);
    let host = Host::with(&config, ScriptedGateway::new([approved()]), parts).await;
    store.turns(Mode::Hangs);
    let mut raw = Raw::open(host.service.address).await;
    raw.say("GET /api/dead-letters HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // Whoever comes later is answered: the first is in hand by then.
    let mut other = Raw::open(host.service.address).await;
    other.say(LIVE).await;
    assert_eq!(other.answer().await.status, 200);
    tokio::time::timeout(PATIENCE, host.stopped()).await.expect("within its limit").unwrap();
    raw.assert_closed().await;
}

async fn get(rest: &Rest, path: &str) -> Value {
    let answer = rest.get(path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

/// Asks until the order has a status; the program is another one, so nothing tells that it moved.
async fn until_status(rest: &Rest, path: &str, status: &str) {
    let wait = async {
        while get(rest, path).await["status"] != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the order never was {status}"));
}

/// The entry of a history for a type of message.
fn entry<'a>(history: &'a Value, message_type: &str) -> &'a Value {
    let mut items = history["items"].as_array().unwrap().iter();
    items.find(|it| it["messageType"] == message_type).unwrap_or_else(|| panic!("no {message_type} in {history}"))
}

#[tokio::test]
async fn given_a_payment_of_five_seconds_under_way_when_terminated_then_it_goes_on_at_the_next_start_under_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/orders.db", folder.path().display());
    let drain = Duration::from_secs(2);
    let start = |delay: &str| {
        let mut command = program(&["serve"]);
        command.env("SAGA__STORE__URL", &url).env("SAGA__SHUTDOWN__DRAIN", "2s");
        Served::start(command.env("SAGA__PAYMENT__DELAY", delay).env("SAGA__PAYMENT__SUCCESS_RATE", "1"))
    };
    let mut served = start("5s");
    let answer = served.rest.post("/api/orders", &small().to_string(), &[]).await.unwrap();
    assert_eq!(answer.status, 201);
    let path = answer.header("location").unwrap().to_owned();
    until_status(&served.rest, &path, "processing").await;
    let history = get(&served.rest, &format!("{path}/history")).await;
    let effects = entry(&history, "Orders:OrderCreated")["effects"].as_array().unwrap();
    let payment = effects.iter().find(|it| it["name"] == "Orders:ProcessPayment").unwrap();
    let key = payment["messageId"].as_str().unwrap();

    let begun = Instant::now();
    served.signal("-TERM");
    served.line("stopped");
    assert_eq!(served.exit_code(), Some(0));
    assert!(begun.elapsed() < drain + Duration::from_secs(1), "{:?}", begun.elapsed());

    let served = start("0s");
    until_status(&served.rest, &path, "completed").await;
    let history = get(&served.rest, &format!("{path}/history")).await;
    // The gateway's reference repeats the key that it was called with.
    let reference = &entry(&history, "Orders:PaymentApproved")["message"]["reference"];
    assert_eq!(*reference, format!("charge-{key}"), "{history}");
    let approvals = history["items"].as_array().unwrap().iter();
    assert_eq!(approvals.filter(|it| it["messageType"] == "Orders:PaymentApproved").count(), 1);
}
