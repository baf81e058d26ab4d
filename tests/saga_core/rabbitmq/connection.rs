//! Connections that break in every way a network knows, that are refused, and that need TLS.

use std::time::Duration;

use saga_core::{Bus, RabbitMqBus};
use test_servers::{Proxy, Rabbit, RabbitOptions, Way};

use super::house::{House, counted, endpoint, eventually};

/// A bus behind a proxy, that has sent and received over it.
async fn behind(proxy: &Proxy, url: &str) -> House {
    let mut house = House::with_inbox(&proxy.url(url)).await;
    house.send_numbers(0..10).await;
    house.all_confirmed(0..10).await;
    house.all_delivered(0..10).await;
    house
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_connections_cut_again_and_again_when_messages_flow_then_none_is_lost() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = behind(&proxy, &url).await;
    for round in 1..10 {
        let numbers = round * 1_000..round * 1_000 + 500;
        house.send_numbers(numbers.clone()).await;
        // Somewhere among them: some are confirmed, some delivered, some under way.
        let first = house.confirm().await;
        assert_eq!(first.result, Ok(()));
        proxy.cut();
        let mut rest = house.outcomes(499).await;
        rest.insert(first.id, first.result);
        assert!(rest.keys().copied().eq(numbers.clone()), "each is confirmed once");
        assert!(rest.values().all(Result::is_ok));
        house.all_delivered(numbers).await;
    }
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_network_that_drops_what_the_broker_says_when_noticed_then_it_connects_anew_and_nothing_is_lost() {
    dropped(Way::ToClient).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_network_that_drops_what_is_said_to_the_broker_when_noticed_then_it_connects_anew_and_nothing_is_lost()
{
    dropped(Way::ToServer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_network_that_drops_everything_when_noticed_then_it_connects_anew_and_nothing_is_lost() {
    dropped(Way::Both).await;
}

async fn dropped(way: Way) {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = behind(&proxy, &url).await;
    proxy.half_open(way);
    house.send_numbers(10..3_000).await;
    // Heartbeats stay away on one side or the other; whoever notices ends the connection.
    house.unhealthy("not connected").await;
    proxy.cut();
    proxy.resume();
    house.all_confirmed(10..3_000).await;
    house.all_delivered(10..3_000).await;
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_broker_that_is_away_when_started_then_it_starts_says_so_and_connects_when_it_can() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    proxy.refuse(true);
    let mut house = House::with_inbox(&proxy.url(&url)).await;
    let why = house.bus.health().unwrap_err();
    assert!(why.contains("not connected for publishing") && why.contains("not connected for consuming"), "{why}");
    assert!(!why.contains("tester:"), "{why}");
    house.send_numbers(0..10).await;
    proxy.resume();
    house.all_confirmed(0..10).await;
    house.all_delivered(0..10).await;
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_host_that_answers_nothing_when_started_then_it_starts_within_its_limit_and_says_so() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    proxy.half_open(Way::Both);
    let house = House::with_inbox(&proxy.url(&url)).await;
    let why = house.bus.health().unwrap_err();
    assert!(why.contains("no answer in time: connecting to amqp://127.0.0.1"), "{why}");
    proxy.cut();
    proxy.resume();
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_wrong_password_when_started_then_health_says_what_it_may_be_and_not_the_password() {
    let url = Rabbit::shared().vhost();
    let (_, rest) = url.split_once('@').unwrap();
    let house = House::with_inbox(&format!("amqp://tester:hunter2@{rest}")).await;
    let why = house.bus.health().unwrap_err();
    assert!(why.contains("the user, the password"), "{why}");
    assert!(!why.contains("hunter2"), "{why}");
    let no_vhost = House::with_inbox(&format!("{}_not", url)).await;
    let why = no_vhost.bus.health().unwrap_err();
    assert!(why.contains("_not"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_tls_when_the_ca_is_known_then_it_connects_and_when_it_is_another_then_not() {
    let rabbit = Rabbit::start_with(&RabbitOptions { tls: true, ..RabbitOptions::default() });
    let with =
        |ca: &std::path::Path| RabbitMqBus::builder(rabbit.amqps_url()).ca_file(ca).heartbeat(Duration::from_secs(4));
    let mut house = House::start(with(rabbit.ca_path()), &[endpoint("inbox")]).await;
    assert_eq!(house.bus.health(), Ok(()));
    house.send_numbers(0..2_000).await;
    house.all_confirmed(0..2_000).await;
    house.all_delivered(0..2_000).await;

    for refused in [with(rabbit.other_ca_path()), RabbitMqBus::builder(rabbit.amqps_url())] {
        let other = House::start(refused, &[endpoint("inbox")]).await;
        let why = other.bus.health().unwrap_err();
        assert!(why.contains("certificate"), "{why}");
        other.send(1, Some("inbox"), counted(1)).await;
    }
    // A listener without TLS is no TLS.
    let plain = rabbit.url().replace("amqp://", "amqps://");
    let other = House::start(RabbitMqBus::builder(plain), &[endpoint("inbox")]).await;
    assert!(other.bus.health().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_bus_when_dropped_then_its_connections_are_gone() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = behind(&proxy, &url).await;
    assert_eq!(proxy.open(), 2);
    let mut inbox = house.endpoints.remove(0);
    drop(house);
    eventually(
        "both connections to be gone",
        || if proxy.open() == 0 { Ok(()) } else { Err(proxy.open().to_string()) },
    )
    .await;
    assert!(inbox.recv().await.is_none(), "the endpoint ends with its bus");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_broker_that_answers_nothing_when_the_bus_is_closed_then_it_ends_all_the_same() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = behind(&proxy, &url).await;
    proxy.half_open(Way::Both);
    house.send_numbers(10..20).await;
    tokio::time::timeout(Duration::from_secs(30), house.bus.close()).await.expect("closing has a limit");
    assert!(house.outcomes(10).await.values().all(Result::is_err), "none of them is known to have arrived");
}
