//! Brokers that stop, die, hang, run full and forget. Each test has a broker of its own.

use std::time::Duration;

use saga_core::Bus;
use test_servers::{Proxy, Rabbit, Way};

use super::house::{House, endpoint, eventually, number, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_broker_that_stops_dies_or_throws_everybody_out_when_it_is_back_then_nothing_is_lost() {
    let rabbit = Rabbit::start();
    let mut house = House::with_inbox(&rabbit.vhost()).await;
    let mut next = 0;
    let close_all: fn(&Rabbit) = |rabbit| drop(rabbit.ctl(&["close_all_connections", "--global", "maintenance"]));
    let ends: [fn(&Rabbit); 3] = [Rabbit::stop, Rabbit::kill9, close_all];
    for (round, end) in ends.into_iter().enumerate() {
        let numbers = next..next + 1_000;
        next += 1_000;
        house.send_numbers(numbers.clone()).await;
        let first = house.confirm().await;
        let held = house.delivery().await;
        end(&rabbit);
        if round < 2 {
            house.unhealthy("not connected").await;
            rabbit.start_again();
        }
        let mut outcomes = house.outcomes(999).await;
        outcomes.insert(first.id, first.result);
        assert!(outcomes.keys().copied().eq(numbers.clone()) && outcomes.values().all(Result::is_ok));
        // Its receipt is void, and it comes again.
        house.acknowledge(&[held]);
        house.all_delivered(numbers).await;
        house.healthy().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_broker_that_hangs_when_its_heartbeats_stay_away_then_it_is_noticed_and_it_may_run_on() {
    let rabbit = Rabbit::start();
    let mut house = House::with_inbox(rabbit.url()).await;
    rabbit.pause();
    house.send_numbers(0..500).await;
    house.unhealthy("not connected").await;
    rabbit.resume();
    house.all_confirmed(0..500).await;
    house.all_delivered(0..500).await;
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_broker_out_of_memory_when_it_blocks_publishers_then_consuming_goes_on_and_health_says_so() {
    consuming_goes_on_under("set_vm_memory_high_watermark", "0.0001", "0.6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_broker_whose_disk_is_full_when_it_blocks_publishers_then_consuming_goes_on_and_health_says_so() {
    consuming_goes_on_under("set_disk_free_limit", "999999999999999", "1000000").await;
}

/// A limit of the broker that is exceeded, and then is not any more.
async fn consuming_goes_on_under(limit: &str, exceeded: &str, met: &str) {
    let rabbit = Rabbit::start();
    let url = rabbit.vhost();
    let mut house = House::with_inbox(&url).await;
    house.send_numbers(0..100).await;
    house.all_confirmed(0..100).await;
    let mut held = house.deliveries(100).await;
    rabbit.ctl(&[limit, exceeded]);

    house.send_numbers(100..5_000).await;
    house.unhealthy("the broker has confirmed nothing").await;
    let why = house.bus.health().unwrap_err();
    assert!(!why.contains("not connected"), "consuming is well: {why}");
    // What is in hand is acknowledged at the broker, and the rest of the queue comes.
    held.retain(|it| {
        house.acknowledge(std::slice::from_ref(it));
        false
    });
    until_queued(&rabbit, &url, "messages_unacknowledged", 0).await;
    assert!(house.bus.health().is_err(), "until the broker confirms again");

    rabbit.ctl(&[limit, met]);
    house.all_confirmed(100..5_000).await;
    house.all_delivered(100..5_000).await;
    house.healthy().await;
}

/// Waits until the queue of the inbox has so many messages of a kind.
async fn until_queued(rabbit: &Rabbit, url: &str, kind: &str, count: usize) {
    let vhost = url.rsplit_once('/').unwrap().1;
    let asked = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"inbox\">>)),
         proplists:get_value({kind}, rabbit_amqqueue:info(Q, [{kind}]))."
    );
    eventually(&format!("{count} {kind}"), || match rabbit.eval(&asked) {
        told if told == count.to_string() => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_consumer_that_takes_nothing_in_hand_when_much_waits_then_no_more_than_its_prefetch_is_in_memory() {
    const WAITING: usize = 20_000;
    let rabbit = Rabbit::start();
    let url = rabbit.vhost();
    let mut house = House::with_inbox(&url).await;
    let prefetch = endpoint("inbox").prefetch;
    house.send_numbers(0..WAITING as i64).await;
    house.all_confirmed(0..WAITING as i64).await;
    until_queued(&rabbit, &url, "messages_ready", WAITING - prefetch).await;
    until_queued(&rabbit, &url, "messages_unacknowledged", prefetch).await;
    eventually("the first deliveries", || match house.endpoints[0].len() {
        waiting if waiting == prefetch => Ok(()),
        other => Err(format!("{other} are in memory")),
    })
    .await;
    house.all_delivered(0..WAITING as i64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_in_hand_for_too_long_when_the_broker_takes_it_back_then_it_comes_again_and_others_go_on() {
    let rabbit = Rabbit::start();
    rabbit.eval(
        "ok = application:set_env(rabbit, consumer_timeout, 1500),
         ok = application:set_env(rabbit, channel_tick_interval, 200).",
    );
    let mut house = House::with_inbox(&rabbit.vhost()).await;
    house.send_numbers(0..1).await;
    let held = house.delivery().await;
    let again = house.delivery().await;
    assert_eq!((number(&held), number(&again)), (0, 0));
    assert_eq!((held.redelivered, again.redelivered), (0, 1));
    // The first receipt is void, whatever channel is there now.
    house.acknowledge(&[held]);
    house.acknowledge(&[again]);
    house.send_numbers(1..100).await;
    house.all_confirmed(0..100).await;
    house.all_delivered(1..100).await;
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_broker_that_forgot_everything_when_it_is_back_then_all_is_declared_and_sent_that_was_not_confirmed() {
    let rabbit = Rabbit::start();
    let proxy = Proxy::to(rabbit.url());
    let mut house = House::with_inbox(&proxy.url(rabbit.url())).await;
    house.send_numbers(0..50).await;
    house.all_confirmed(0..50).await;
    house.all_delivered(0..50).await;
    // Nothing is confirmed any more, and then nothing is left.
    proxy.half_open(Way::ToServer);
    house.send_numbers(50..2_000).await;
    rabbit.ctl(&["stop_app"]);
    rabbit.ctl(&["reset"]);
    rabbit.ctl(&["start_app"]);
    proxy.cut();
    proxy.resume();
    house.all_confirmed(50..2_000).await;
    house.all_delivered(50..2_000).await;
    house.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_ten_thousand_messages_when_the_broker_restarts_among_them_then_none_is_lost() {
    const MESSAGES: i64 = 10_000;
    let rabbit = Rabbit::start();
    let url = rabbit.vhost();
    let mut inbox = endpoint("inbox");
    inbox.prefetch = 500;
    let mut house =
        House::start(quick(&url).reconnect_backoff(Duration::from_millis(20), Duration::from_secs(1)), &[inbox]).await;
    house.send_numbers(0..MESSAGES).await;
    let mut missing: std::collections::BTreeSet<_> = (0..MESSAGES).collect();
    let mut confirmed = std::collections::BTreeSet::new();
    let mut restarts = [2_000, 5_000, 8_000].into_iter().peekable();
    while !missing.is_empty() || confirmed.len() < missing.len() {
        tokio::select! {
            Some(delivery) = house.endpoints[0].recv() => {
                missing.remove(&super::house::number(&delivery));
                house.bus.acknowledge(&[delivery.receipt]);
            }
            Some(confirm) = house.confirms.recv() => {
                assert_eq!(confirm.result, Ok(()));
                assert!(confirmed.insert(confirm.id), "{} is confirmed twice", confirm.id);
            }
            () = tokio::time::sleep(super::house::PATIENCE) => panic!("{} are missing: {:?}", missing.len(), house.bus.health()),
        }
        let done = MESSAGES - i64::try_from(missing.len()).unwrap();
        if restarts.next_if(|at| done >= *at).is_some() {
            if done < 5_000 {
                rabbit.stop()
            } else {
                rabbit.kill9()
            }
            rabbit.start_again();
        }
    }
    assert!(restarts.peek().is_none());
    house.all_rest_confirmed(confirmed, MESSAGES).await;
    house.healthy().await;
}
