//! Starting, stopping, and going on.

use std::sync::Arc;
use std::time::Duration;

use host::config::{Config, Roles, StoreUrl};
use host::rest::Rest;
use host::serve::Parts;
use order_saga::ScriptedGateway;
use saga_core::testkit::ManualClock;
use serde_json::Value;
use test_servers::{Postgres, Rabbit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::faulty::wound_on;
use crate::support::{Host, PATIENCE, Served, approved, assert_problem, program, quick, small};

#[tokio::test]
async fn given_a_request_in_hand_when_stopped_then_it_is_answered_and_no_more_are_taken() {
    let host = Host::start(&quick(), [approved()]).await;
    let address = host.service.address;
    let body = small().to_string();
    let head = format!(
        "POST /api/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 4096];
    // The server asks for the body: the handler has the request in hand.
    let read = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&buffer[..read]));
    host.service.stop();
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("new connections are refused");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    tokio::time::timeout(PATIENCE, host.stopped()).await.unwrap().unwrap();
}

#[tokio::test]
async fn given_a_payment_under_way_when_stopped_then_it_ends_within_the_limit_and_goes_on_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = quick();
    config.store = StoreUrl::Sqlite(folder.path().join("orders.db"));
    config.payment.delay = Duration::from_secs(3600);
    config.drain = Duration::from_millis(400);
    let host = Host::start(&config, [approved()]).await;
    let order = host.order().await;
    tokio::time::timeout(PATIENCE, host.stopped()).await.expect("within the limit").unwrap();

    config.payment.delay = Duration::ZERO;
    let host = Host::start(&config, [approved()]).await;
    host.until_notified(&order["id"], "completed").await;
    host.stopped().await.unwrap();
}

/// The head of a submission whose body is not sent.
const HEAD: &[u8] =
    b"POST /api/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";

#[tokio::test]
async fn given_a_body_that_never_comes_when_waited_for_then_it_is_408_and_the_connection_is_closed() {
    let clock = Arc::new(ManualClock::default());
    let parts = Parts { clock: Some(clock.clone()), ..Parts::default() };
    let host = Host::with(&quick(), ScriptedGateway::new([approved()]), parts).await;
    let mut stream = TcpStream::connect(host.service.address).await.unwrap();
    stream.write_all(HEAD).await.unwrap();
    let mut answer = Vec::new();
    wound_on(&clock, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("urn:saga-host:problem:too-slow"), "{answer}");
}

#[tokio::test]
async fn given_a_taken_address_when_started_then_the_error_names_it() {
    let host = Host::start(&quick(), [approved()]).await;
    let mut config = quick();
    config.http.listen = host.service.address;
    let error = host::serve::Service::start(&config, host::serve::Parts::default()).await.err().unwrap();
    assert!(
        format!("{error:#}").starts_with(&format!("http.listen {} can not be listened on", host.service.address)),
        "{error:#}"
    );
}

#[tokio::test]
async fn given_a_host_that_takes_no_orders_when_asked_then_it_tells_of_its_health_alone() {
    let mut config = quick();
    config.roles = Roles { api: false, ..Roles::ALL };
    let host = Host::start(&config, [approved()]).await;
    assert_problem(&host.rest.get("/api/orders").await.unwrap(), 404, "not-found");
    assert_problem(&host.rest.post("/api/orders", &small().to_string(), &[]).await.unwrap(), 404, "not-found");
    for path in ["/health/live", "/health/ready", "/metrics", "/docs"] {
        assert_eq!(host.rest.get(path).await.unwrap().status, 200, "{path}");
    }
    let description: Value = host.rest.get("/openapi.json").await.unwrap().json().unwrap();
    assert!(description["paths"].as_object().unwrap().keys().all(|path| !path.starts_with("/api")), "{description}");
}

#[tokio::test]
async fn given_hosts_that_share_the_roles_when_an_order_is_submitted_then_each_does_its_part() {
    let mut config = quick();
    config.store = Postgres::shared().database().parse().unwrap();
    config.bus = Rabbit::shared().vhost().parse().unwrap();
    let mut hosts = Vec::new();
    for roles in ["api,expiry", "saga", "activities", "relay"] {
        let config = Config { roles: roles.parse().unwrap(), ..config.clone() };
        hosts.push(Host::start(&config, [approved()]).await);
    }
    let order = hosts[0].order().await;
    let id = order["id"].as_str().unwrap().parse().unwrap();
    // What moves is told by the host that notifies; the order is read where orders are answered.
    let orders = hosts[0].service.orders.clone();
    let orders = &orders;
    hosts[2].until(|| async move { orders.notifications(id).await.unwrap().pop() }).await;
    hosts[0].until_notified(&order["id"], "completed").await;
    for host in hosts {
        host.stopped().await.unwrap();
    }
}

fn stored(folder: &tempfile::TempDir) -> String {
    format!("sqlite://{}/data/orders.db", folder.path().display())
}

async fn submit(rest: &Rest) -> String {
    let answer = rest.post("/api/orders", &small().to_string(), &[]).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json::<Value>().unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn given_a_signal_when_serving_then_the_process_ends_well() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut served = Served::start(program(&["serve"]).env("SAGA__STORE__URL", stored(&folder)));
        submit(&served.rest).await;
        served.signal(signal);
        served.line("stopped");
        assert_eq!(served.exit_code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn given_a_second_signal_when_stopping_then_the_process_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&["serve"]);
    command
        .env("SAGA__STORE__URL", stored(&folder))
        .env("SAGA__PAYMENT__DELAY", "1h")
        .env("SAGA__SHUTDOWN__DRAIN", "1h");
    let mut served = Served::start(&mut command);
    // A request whose body does not come keeps the program until its drain limit: it asks for the body, so it is in hand.
    let head = "POST /api/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\
                expect: 100-continue\r\n\r\n";
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    served.signal("-TERM");
    served.line("stopping");
    served.signal("-TERM");
    served.line("a second signal");
    assert_eq!(served.exit_code(), Some(143));
}

#[tokio::test]
async fn given_a_process_that_was_killed_when_started_again_then_the_order_completes() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&["serve"]);
    command.env("SAGA__STORE__URL", stored(&folder)).env("SAGA__PAYMENT__DELAY", "1h");
    let served = Served::start(&mut command);
    let id = submit(&served.rest).await;
    served.signal("-KILL");
    assert_eq!(served.exit_code(), None);

    let mut config = quick();
    config.store = StoreUrl::Sqlite(folder.path().join("data/orders.db"));
    let host = Host::start(&config, [approved()]).await;
    host.until_notified(&Value::String(id), "completed").await;
}
