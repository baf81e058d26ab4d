//! What the consumers of two libraries have read of ours, as `tests/foreign/run` saw it, beside what the host publishes
//! today.

use serde_json::Value;
use test_foreign::{Received, Recording};

use super::masked::masked;
use super::{Market, SUBMITTED};
use crate::support::approved;

/// What the Python library's consumer was given: the bytes of the body.
#[track_caller]
fn assert_as_python_read(name: &str, came: &Received) {
    let today = String::from_utf8(came.body.clone()).unwrap();
    assert_eq!(masked(&today), masked(Recording::read(&format!("python-{name}")).trim_end()), "{name}");
}

/// What rust-rabbit's consumer was given: the fields of the message.
#[track_caller]
fn assert_as_rust_rabbit_read(name: &str, came: &Received) {
    let read: Value = serde_json::from_str(&Recording::read(&format!("rust-rabbit-{name}"))).unwrap();
    let fields = |value: &Value| masked(&serde_json::to_string_pretty(value).unwrap());
    assert_eq!(fields(&came.json()["message"]), fields(&read), "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_what_their_consumers_have_read_when_the_host_publishes_today_then_it_is_the_same() {
    let market = Market::open([approved(), approved()]).await;
    market.peer.listen("completed", "Orders:OrderCompleted").await.unwrap();
    market.peer.listen("faults", "MassTransit:Fault--Orders:OrderSubmitted--").await.unwrap();
    market.peer.pass_on("rust-rabbit-orders", SUBMITTED).await.unwrap();

    let (python, rust_rabbit) = (Recording::of("python-order-submitted"), Recording::of("rust-rabbit-order-submitted"));
    market.peer.replay(&python).await.unwrap();
    let completed = market.peer.take("completed").await.unwrap();
    assert_as_python_read("order-completed", &completed);
    assert_as_rust_rabbit_read("order-completed", &completed);

    // As the script spoils them: the total is not the sum. Under ids that were not handled yet.
    let spoiled = |it: Recording, total: &str| {
        let body = it.body.replace(&format!("{total}99.8"), &format!("{total}1"));
        assert_ne!(body, it.body);
        let own: Value = serde_json::from_str(&body).unwrap();
        let id = own["messageId"].as_str().unwrap();
        Recording { body: body.replace(id, &id.replace('7', "6")), ..it }
    };
    market.peer.replay(&spoiled(python, "\"total\": ")).await.unwrap();
    assert_as_python_read("fault", &market.peer.take("faults").await.unwrap());
    market.peer.replay(&spoiled(rust_rabbit, "\"total\":")).await.unwrap();
    assert_as_rust_rabbit_read("fault", &market.peer.take("faults").await.unwrap());
}
