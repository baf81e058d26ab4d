//! What is acknowledged, when, and what comes again.

use saga_core::{Bus, QueueType, Receipt};
use test_servers::{Proxy, Rabbit};

use super::house::{House, counted, endpoint, number, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_deliveries_not_acknowledged_when_the_process_dies_then_another_gets_them() {
    let url = Rabbit::shared().vhost();
    let mut first = House::with_inbox(&url).await;
    first.send_numbers(0..10).await;
    first.all_confirmed(0..10).await;
    let delivered = first.deliveries(10).await;
    assert!(delivered.iter().all(|it| it.redelivered == 0));
    drop(first);

    let mut second = House::with_inbox(&url).await;
    let again = second.deliveries(10).await;
    let numbers: std::collections::BTreeSet<_> = again.iter().map(number).collect();
    assert!(numbers.into_iter().eq(0..10));
    assert!(again.iter().all(|it| it.redelivered == 1), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_some_acknowledged_when_the_bus_is_closed_then_exactly_the_others_come_again() {
    let url = Rabbit::shared().vhost();
    let mut first = House::with_inbox(&url).await;
    first.send_numbers(0..100).await;
    let delivered = first.deliveries(100).await;
    // Ranges, holes and single ones, in an order of their own, and some twice.
    let kept = |number: i64| number % 7 == 3 || number > 90;
    let mut done: Vec<_> = delivered.iter().filter(|it| !kept(number(it))).cloned().collect();
    done.rotate_left(31);
    for chunk in done.chunks(5) {
        first.acknowledge(chunk);
        first.acknowledge(&chunk[..1]);
    }
    first.acknowledge(&done);
    first.bus.close().await;
    assert!(first.bus.health().is_err());

    let mut second = House::with_inbox(&url).await;
    second.send_numbers(1_000..1_001).await;
    let expected: Vec<_> = (0..100).filter(|it| kept(*it)).chain([1_000]).collect();
    let again = second.deliveries(expected.len()).await;
    let mut numbers: Vec<_> = again.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_acknowledgements_of_all_kinds_when_told_to_the_broker_then_it_never_closes_the_channel() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    let mut epochs = std::collections::BTreeSet::new();
    for round in 0..20 {
        let numbers = round * 200..(round + 1) * 200;
        house.send_numbers(numbers.clone()).await;
        let mut deliveries = house.deliveries(200).await;
        epochs.extend(deliveries.iter().map(|it| it.receipt.epoch));
        // Backwards, or the two halves in turn; each twice, and with tags that never were.
        if round % 2 == 0 {
            deliveries.reverse();
        } else {
            let (left, right) = deliveries.split_at(100);
            deliveries = left.iter().zip(right).flat_map(|(a, b)| [b.clone(), a.clone()]).collect();
        }
        let Receipt { epoch, tag } = deliveries[0].receipt;
        for delivery in &deliveries {
            house.bus.acknowledge(&[delivery.receipt, delivery.receipt, Receipt { epoch, tag: tag + 10_000 }]);
        }
        house.all_confirmed(numbers).await;
    }
    assert_eq!(epochs.len(), 1, "one channel bore it all");
    assert_eq!(house.bus.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_connection_that_was_lost_when_old_receipts_come_then_they_are_void() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut house = House::with_inbox(&proxy.url(&url)).await;
    house.send_numbers(0..5).await;
    house.all_confirmed(0..5).await;
    let old = house.deliveries(5).await;
    proxy.cut();
    let new = house.deliveries(5).await;
    assert!(new.iter().all(|it| it.receipt.epoch != old[0].receipt.epoch && it.redelivered == 1), "{new:?}");
    house.acknowledge(&old);
    house.acknowledge(&new[..2]);
    house.bus.close().await;

    let mut other = House::with_inbox(&url).await;
    let left = other.deliveries(3).await;
    let mut acknowledged: std::collections::BTreeSet<_> = (0..5).collect();
    left.iter().for_each(|it| assert!(acknowledged.remove(&number(it))));
    assert_eq!(acknowledged, new[..2].iter().map(number).collect(), "the old receipts acknowledged nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_that_ends_whoever_gets_it_when_delivered_again_then_the_count_grows() {
    for (queue_type, counts) in [(QueueType::Quorum, [0, 1, 2, 3]), (QueueType::Classic, [0, 1, 1, 1])] {
        let url = Rabbit::shared().vhost();
        for expected in counts {
            let mut house = House::start(quick(&url).queue_type(queue_type), &[endpoint("inbox")]).await;
            if expected == 0 {
                house.send_numbers(7..8).await;
            }
            assert_eq!(house.delivery().await.redelivered, expected, "{queue_type:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_nobody_who_handles_them_when_connections_come_and_go_then_copies_do_not_pile_up() {
    let url = Rabbit::shared().vhost();
    let proxy = Proxy::to(&url);
    let mut inbox = endpoint("inbox");
    inbox.prefetch = 10;
    let mut house = House::start(quick(&proxy.url(&url)), &[inbox]).await;
    house.send_numbers(0..50).await;
    house.all_confirmed(0..50).await;
    let mut held = house.deliveries(10).await;
    for _ in 0..3 {
        let before = proxy.accepted();
        proxy.cut();
        super::house::eventually("both connections to be back", || {
            if proxy.accepted() >= before + 2 { Ok(()) } else { Err(format!("{} of them", proxy.accepted())) }
        })
        .await;
        house.healthy().await;
    }
    held.extend(house.deliveries(1).await);
    while let Ok(delivery) = house.endpoints[0].try_recv() {
        held.push(delivery);
    }
    assert!(held.len() <= 20, "twice the prefetch, and no more: {}", held.len());
    // Once they are handled, all comes, however often the connection was lost.
    house.acknowledge(&held);
    house.all_delivered(0..50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_bus_when_closed_then_what_was_sent_is_confirmed_and_the_channels_end() {
    let url = Rabbit::shared().vhost();
    let mut house = House::with_inbox(&url).await;
    house.send_numbers(0..100).await;
    let first = house.confirm().await;
    assert_eq!(first.result, Ok(()));
    house.bus.close().await;
    let outcomes = house.outcomes(99).await;
    house.send(100, Some("inbox"), counted(100)).await;
    assert!(house.confirm().await.result.is_err(), "a closed bus takes nothing");
    while house.endpoints[0].recv().await.is_some() {}
    house.bus.close().await;

    // What is said to have arrived is there, and nothing else.
    let mut arrived: Vec<_> = outcomes.into_iter().filter(|(_, result)| result.is_ok()).map(|(id, _)| id).collect();
    arrived.push(first.id);
    arrived.sort_unstable();
    let mut other = House::with_inbox(&url).await;
    let there = other.deliveries(arrived.len()).await;
    let mut there: Vec<_> = there.iter().map(number).collect();
    there.sort_unstable();
    assert_eq!(there, arrived);
    assert!(other.endpoints[0].try_recv().is_err());
}
