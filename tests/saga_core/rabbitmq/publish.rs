//! What becomes of what is sent.

use std::time::Duration;

use amqprs::BasicProperties;
use saga_core::wire::MAX_BODY;
use saga_core::{Body, Bus, Envelope, Message, SendError};
use test_servers::{Proxy, Rabbit};
use uuid::Uuid;

use super::foreign::Foreign;
use super::house::{Counted, House, counted, endpoint, eventually, number, quick};

fn is_unroutable(result: &Result<(), SendError>, why: &str) -> bool {
    matches!(result, Err(SendError::Unroutable(text)) if text.contains(why))
}

fn is_unavailable(result: &Result<(), SendError>, why: &str) -> bool {
    matches!(result, Err(SendError::Unavailable(text)) if text.contains(why))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_command_without_a_queue_when_sent_then_it_is_reported_and_arrives_once_there_is_one() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    house.send_numbers(0..3).await;
    house.send(3, Some("billing"), counted(3)).await;
    house.send_numbers(4..6).await;
    let outcomes = house.outcomes(6).await;
    assert!(is_unroutable(&outcomes[&3], "billing"), "{:?}", outcomes[&3]);
    assert!(is_unroutable(&outcomes[&3], "NO_ROUTE"), "{:?}", outcomes[&3]);
    assert_eq!(outcomes.values().filter(|it| it.is_ok()).count(), 5);

    let foreign = Foreign::at(&url).await;
    foreign.declare_queue("billing", &[]).await;
    house.send(6, Some("queue:billing"), counted(6)).await;
    assert_eq!(house.confirm().await.result, Ok(()));
    let (properties, body) = foreign.take("billing").await;
    assert_eq!(properties.content_type().map(String::as_str), Some("application/vnd.masstransit+json"));
    assert_eq!(properties.delivery_mode(), Some(2));
    assert_eq!(properties.message_id(), Some(&counted(6).message_id.to_string()));
    assert!(String::from_utf8(body).unwrap().contains("urn:message:Test:Counted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_many_commands_without_a_queue_when_sent_then_each_is_reported_and_no_other() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    for id in 0..600 {
        let destination = if id % 3 == 0 { "inbox" } else { "nowhere" };
        house.send(id, Some(destination), counted(id)).await;
    }
    for (id, result) in house.outcomes(600).await {
        assert_eq!(result.is_ok(), id % 3 == 0, "{id}: {result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_exchange_as_destination_when_it_is_missing_then_unroutable_and_when_it_is_there_then_it_arrives() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    house.send(1, Some("exchange:Other:Place"), counted(1)).await;
    house.send_numbers(2..3).await;
    let outcomes = house.outcomes(2).await;
    assert!(is_unroutable(&outcomes[&1], "Other:Place"), "{:?}", outcomes[&1]);
    assert_eq!(outcomes[&2], Ok(()));

    let foreign = Foreign::at(&url).await;
    foreign.declare_exchange("Other:Place", "fanout").await;
    foreign.declare_queue("theirs", &[]).await;
    foreign.bind("theirs", "Other:Place").await;
    // That it was not there is remembered for a moment.
    let mut id = 2;
    loop {
        id += 1;
        house.send(id, Some("exchange:Other:Place"), counted(id)).await;
        match house.confirm().await.result {
            Ok(()) => break,
            other => assert!(is_unroutable(&other, "Other:Place"), "{other:?}"),
        }
    }
    let (properties, _) = foreign.take("theirs").await;
    assert_eq!(properties.message_id(), Some(&counted(id).message_id.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_ever_new_places_that_do_not_exist_when_sent_to_then_no_channel_runs_out() {
    const PLACES: i64 = 1_200;
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = House::with_inbox(&proxy.url(&url)).await;
    for id in 0..PLACES {
        let place: &'static str = format!("exchange:gone-{id}").leak();
        house.send(id, Some(place), counted(id)).await;
    }
    house.send_numbers(PLACES..PLACES + 1).await;
    for (id, result) in house.outcomes(usize::try_from(PLACES).unwrap() + 1).await {
        assert!(if id == PLACES { result.is_ok() } else { is_unroutable(&result, "gone-") }, "{id}: {result:?}");
    }
    assert!(proxy.accepted() >= 4, "the connection was replaced on the way: {}", proxy.accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_of_several_types_when_published_then_who_hears_one_of_them_gets_it_once() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    let mut envelope = counted(1);
    envelope.message_type = vec!["Test:Special[[Test:Counted]]".into(), Counted::NAME.into(), "Test:Thing".into()];
    house.send(1, None, envelope.clone()).await;
    assert_eq!(house.confirm().await.result, Ok(()));
    house.send(2, None, counted(2)).await;
    let deliveries = house.deliveries(2).await;
    assert_eq!(deliveries[0].envelope.message_type, envelope.message_type);
    assert_eq!(deliveries.iter().map(number).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_what_amqp_can_not_hold_when_sent_then_it_is_unroutable_and_blocks_no_other() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = House::with_inbox(&proxy.url(&url)).await;
    let long: &'static str = "x".repeat(300).leak();
    house.send(1, Some(long), counted(1)).await;
    house.send(2, None, Envelope::raw(Uuid::from_u128(2), long, Body::of(&()))).await;
    let huge = Body::of(&"x".repeat(MAX_BODY));
    house.send(3, Some("inbox"), Envelope::raw(Uuid::from_u128(3), Counted::NAME.to_owned(), huge)).await;
    let mut heavy = counted(4);
    heavy.headers.insert("heavy".into(), "x".repeat(200_000).into());
    house.send(4, Some("inbox"), heavy).await;
    house.send_numbers(5..6).await;
    let outcomes = house.outcomes(5).await;
    for (id, why) in [(1, "255"), (2, "255"), (3, "bytes"), (4, "headers")] {
        assert!(is_unroutable(&outcomes[&id], why), "{id}: {:?}", outcomes[&id]);
    }
    assert_eq!(outcomes[&5], Ok(()));
    assert_eq!(proxy.accepted(), 2, "no connection was lost over it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_queue_that_refuses_when_sent_to_then_the_message_is_unavailable_and_later_taken() {
    let url = Rabbit::shared().vhost();
    let vhost = url.rsplit_once('/').unwrap().1;
    let mut house = House::with_inbox(&url).await;
    let foreign = Foreign::at(&url).await;
    foreign
        .declare_queue("narrow", &[("x-max-length", amqprs::FieldValue::l(1)), ("x-overflow", "reject-publish".into())])
        .await;
    for id in 1..=40 {
        house.send(id, Some("narrow"), counted(id)).await;
        house.send(100 + id, Some("inbox"), counted(100 + id)).await;
    }
    let outcomes = house.outcomes(80).await;
    let refused: Vec<_> = outcomes.iter().filter(|(_, it)| is_unavailable(it, "refused")).map(|(id, _)| *id).collect();
    assert!(!refused.is_empty(), "a queue of one has taken forty in {vhost}");
    assert!(refused.iter().all(|id| *id <= 40), "{refused:?}");
    assert_eq!(outcomes.values().filter(|it| it.is_ok()).count(), 80 - refused.len());
    while foreign.ready("narrow").await > 0 {
        foreign.take("narrow").await;
    }
    house.send(refused[0], Some("narrow"), counted(refused[0])).await;
    assert_eq!(house.confirm().await.result, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_exchange_of_another_kind_when_published_then_it_waits_and_blocks_no_other() {
    let url = Rabbit::shared().vhost();
    let foreign = Foreign::at(&url).await;
    foreign.declare_exchange("Test:Odd", "topic").await;
    let mut house = House::with_inbox(&url).await;
    house.send(1, None, Envelope::raw(Uuid::from_u128(1), "Test:Odd", Body::of(&()))).await;
    house.send_numbers(2..3).await;
    let outcomes = house.outcomes(2).await;
    assert!(is_unavailable(&outcomes[&1], "exchange Test:Odd exists with other arguments"), "{:?}", outcomes[&1]);
    assert_eq!(outcomes[&2], Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_over_which_the_broker_closes_the_channel_when_sent_then_it_alone_is_given_up() {
    let rabbit = Rabbit::start();
    // Read by each channel as it opens; this bus's are not open yet.
    rabbit.eval("application:set_env(rabbit, max_message_size, 20000).");
    let mut house = House::with_inbox(rabbit.url()).await;
    let large = |id: i64| {
        let mut envelope = counted(id);
        envelope.headers.insert("note".into(), serde_json::json!(["x".repeat(30_000)]));
        envelope
    };
    for id in 0..300 {
        let envelope = if id == 57 || id == 201 { large(id) } else { counted(id) };
        house.send(id, Some("inbox"), envelope).await;
    }
    for (id, result) in house.outcomes(300).await {
        if id == 57 || id == 201 {
            assert!(is_unroutable(&result, "message size"), "{result:?}");
        } else {
            assert_eq!(result, Ok(()), "{id}");
        }
    }
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_type_that_nobody_here_handles_when_delivered_then_it_moves_as_it_came() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    let foreign = Foreign::at(&url).await;
    let body = br#"{ "messageType": ["urn:message:Else:Thing"], "message": {"a": 1} , "odd" :  true}"#;
    let mut headers = amqprs::FieldTable::new();
    headers.insert("tenant".try_into().unwrap(), "eu-1".into());
    let mut properties = BasicProperties::default();
    properties
        .with_content_type("application/vnd.masstransit+json")
        .with_message_id("not a guid")
        .with_headers(headers);
    properties.with_expiration("600000").with_user_id(&user(&url)).with_correlation_id("c-1");
    foreign.publish("", "inbox", properties, body).await;
    foreign.publish("inbox", "", BasicProperties::default(), &serde_json::to_vec(&counted(9)).unwrap()).await;
    assert_eq!(number(&house.delivery().await), 9, "what is handled comes through");

    eventually("the queue inbox_skipped", || match house.bus.health() {
        Ok(()) => Ok(()),
        Err(why) => Err(why),
    })
    .await;
    let (properties, moved) = take_when_there(&url, "inbox_skipped").await;
    assert_eq!(moved, body);
    assert_eq!(properties.message_id().map(String::as_str), Some("not a guid"));
    assert_eq!(properties.correlation_id().map(String::as_str), Some("c-1"));
    assert_eq!(properties.expiration(), None);
    let header = |name| super::foreign::header(&properties, name);
    assert_eq!(header("tenant").as_deref(), Some("eu-1"));
    assert_eq!(header("MT-Reason").as_deref(), Some("dead-letter"));
    assert!(header("MT-Host-ProcessId").is_some(), "{properties:?}");

    // It is acknowledged, and does not come again.
    house.bus.close().await;
    assert_eq!(Foreign::at(&url).await.ready("inbox").await, 1, "the one that was not acknowledged");
}

/// Takes a message from a queue that is declared on first use.
async fn take_when_there(url: &str, queue: &str) -> (BasicProperties, Vec<u8>) {
    let vhost = url.rsplit_once('/').unwrap().1;
    let there = format!(
        "case rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)) of {{ok, _}} -> there; _ -> no end."
    );
    eventually(queue, || if Rabbit::shared().eval(&there) == "there" { Ok(()) } else { Err("not there".to_owned()) })
        .await;
    Foreign::at(url).await.take(queue).await
}

fn user(url: &str) -> String {
    url.strip_prefix("amqp://").unwrap().split_once(':').unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_bytes_that_nobody_can_decode_when_delivered_then_they_come_as_such_and_are_sent_again_as_they_came() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    let foreign = Foreign::at(&url).await;
    let body = b"\x00\xff{ not json";
    let mut properties = BasicProperties::default();
    properties.with_content_type("application/vnd.masstransit+json").with_message_id("m-1");
    foreign.publish("", "inbox", properties, body).await;
    let delivery = house.delivery().await;
    let raw = delivery.envelope.as_raw().expect("nobody can decode it");
    assert_eq!(raw.bytes, body);
    house.acknowledge(std::slice::from_ref(&delivery));

    foreign.declare_queue("elsewhere", &[]).await;
    house.send(1, Some("elsewhere"), Envelope::clone(&delivery.envelope)).await;
    assert_eq!(house.confirm().await.result, Ok(()));
    let (properties, again) = foreign.take("elsewhere").await;
    assert_eq!(again, body);
    assert_eq!(properties.message_id().map(String::as_str), Some("m-1"));
    assert_eq!(properties.content_type().map(String::as_str), Some("application/vnd.masstransit+json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_foreign_publisher_when_it_publishes_the_least_then_it_is_read() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    let foreign = Foreign::at(&url).await;
    let body = br#"{"messageType":["urn:message:Test:Counted"],"message":{"number":42}}"#;
    foreign.publish(Counted::NAME, "", BasicProperties::default(), body).await;
    let delivery = house.delivery().await;
    assert_eq!((number(&delivery), delivery.redelivered), (42, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_slow_network_when_much_is_sent_then_no_more_is_under_way_than_the_window() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = House::start(quick(&proxy.url(&url)), &[endpoint("inbox")]).await;
    proxy.delay(Duration::from_millis(30));
    house.send_numbers(0..5_000).await;
    house.all_confirmed(0..5_000).await;
    assert_eq!(house.bus.health(), Ok(()));
    assert_eq!(proxy.accepted(), 2, "no connection was lost");
}
