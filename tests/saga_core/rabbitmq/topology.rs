//! What is declared at the broker, and what happens when something else is there, or nothing any more.

use saga_core::{Bus, BusError, QueueType};
use test_servers::{Proxy, Rabbit};

use super::foreign::Foreign;
use super::house::{House, counted, endpoint, eventually, next, number, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_queue_with_other_arguments_when_started_then_the_error_says_which_what_is_there_and_what_to_do() {
    let url = Rabbit::shared().vhost();
    Foreign::at(&url).await.declare_queue("inbox", &[]).await;
    let Err(error) = House::try_start(quick(&url), &[endpoint("outbox"), endpoint("inbox")]).await else {
        panic!("it starts over a queue of another type")
    };
    let BusError::Topology(why) = error else { panic!("{error}") };
    for part in ["queue inbox exists", "x-queue-type = quorum", "current is none", "Delete it at the broker", "406"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    // As it is, it can be used.
    let mut house = House::start(quick(&url).queue_type(QueueType::Classic), &[endpoint("inbox")]).await;
    house.send_numbers(0..1).await;
    house.all_delivered(0..1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_exchange_of_another_kind_when_started_then_the_error_names_it() {
    let url = Rabbit::shared().vhost();
    Foreign::at(&url).await.declare_exchange("Test:Counted", "topic").await;
    let Err(BusError::Topology(why)) = House::try_start(quick(&url), &[endpoint("inbox")]).await else {
        panic!("it starts over an exchange of another kind")
    };
    assert!(why.contains("exchange Test:Counted exists") && why.contains("'topic'"), "{why}");
    let Err(BusError::Topology(why)) = House::try_start(quick(&url), &[endpoint("amq.inbox")]).await else {
        panic!("it starts with a name that is the broker's own")
    };
    assert!(why.contains("amq.inbox"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_queue_that_changed_while_away_when_connected_again_then_it_shows_others_go_on_and_it_heals() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = House::start(quick(&proxy.url(&url)), &[endpoint("inbox"), endpoint("other")]).await;
    proxy.refuse(true);
    proxy.cut();
    house.unhealthy("not connected").await;
    let foreign = Foreign::at(&url).await;
    foreign.delete_queue("inbox").await;
    foreign.declare_queue("inbox", &[]).await;
    proxy.resume();
    house.unhealthy("endpoint inbox: queue inbox exists with other arguments").await;
    house.send(1, Some("other"), counted(1)).await;
    assert_eq!(house.confirm().await.result, Ok(()));
    assert_eq!(number(&next(&mut house.endpoints[1], "a delivery to the other").await), 1);
    // Messages can be sent to it, for whoever consumes it.
    house.send(2, Some("inbox"), counted(2)).await;
    assert_eq!(house.confirm().await.result, Ok(()));
    assert_eq!(foreign.ready("inbox").await, 1);
    foreign.delete_queue("inbox").await;
    house.healthy().await;
    house.send_numbers(3..4).await;
    house.all_delivered(3..4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_queue_that_is_deleted_when_consumed_then_it_is_declared_again_and_consumed() {
    for queue_type in [QueueType::Quorum, QueueType::Classic] {
        let url = Rabbit::shared().vhost();
        let proxy = Proxy::to(&url);
        let mut house =
            House::start(quick(&proxy.url(&url)).queue_type(queue_type), &[endpoint("inbox"), endpoint("other")]).await;
        let foreign = Foreign::at(&url).await;
        for round in 0..3 {
            house.send_numbers(round..round + 1).await;
            house.all_delivered(round..round + 1).await;
            house.all_confirmed(round..round + 1).await;
            foreign.delete_queue("inbox").await;
            let there = house.unavailable_until_there(100 + round).await;
            assert_eq!(number(&there), 100 + round);
            house.acknowledge(&[there]);
        }
        house.healthy().await;
        assert_eq!(proxy.accepted(), 2, "the other endpoint's channel bore it, and the connections");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_endpoint_of_other_processes_when_started_then_it_is_declared_and_fills() {
    let url = Rabbit::shared().vhost();
    let mut theirs = endpoint("inbox");
    theirs.consumed = false;
    let mut sender = House::start(quick(&url), &[theirs]).await;
    sender.send(1, None, counted(1)).await;
    sender.send(2, Some("inbox"), counted(2)).await;
    assert!(sender.outcomes(2).await.values().all(Result::is_ok));
    assert_eq!(sender.bus.health(), Ok(()));
    let mut taker = House::with_inbox(&url).await;
    taker.all_delivered(1..3).await;
    assert!(sender.endpoints[0].try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_temporary_endpoint_when_the_connection_is_lost_then_its_answers_wait_for_it() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut answers = endpoint("answers-7");
    (answers.temporary, answers.subscriptions, answers.handles) = (true, Vec::new(), Vec::new());
    let mut asker = House::start(quick(&proxy.url(&url)), &[answers]).await;
    let answerer = House::with_inbox(&url).await;
    answerer.send(1, Some("answers-7"), counted(1)).await;
    assert_eq!(number(&asker.delivery().await), 1);
    proxy.refuse(true);
    proxy.cut();
    asker.unhealthy("not connected").await;
    answerer.send(2, Some("answers-7"), counted(2)).await;
    proxy.resume();
    let mut numbers = [number(&asker.delivery().await), number(&asker.delivery().await)];
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2], "the first was not acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_several_hosts_that_start_at_once_when_they_declare_the_same_then_all_are_well() {
    let url = Rabbit::shared().vhost();
    let endpoints = || [endpoint("inbox"), endpoint("second"), endpoint("third")];
    let starts = (0..6).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { House::start(quick(&url), &endpoints()).await })
    });
    let mut houses = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        houses.push(start.await.unwrap());
    }
    for house in &houses {
        house.healthy().await;
    }
    houses[0].send_numbers(0..500).await;
    houses[0].all_confirmed(0..500).await;
    let mut missing: std::collections::BTreeSet<_> = (0..500).collect();
    eventually("all to be delivered to one of them", || {
        for house in &mut houses {
            while let Ok(delivery) = house.endpoints[0].try_recv() {
                missing.remove(&number(&delivery));
                house.bus.acknowledge(&[delivery.receipt]);
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("{} are missing", missing.len())) }
    })
    .await;
}
