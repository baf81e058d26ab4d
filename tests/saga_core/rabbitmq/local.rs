//! Commands between endpoints of one process, past the broker.

use std::sync::Arc;

use saga_core::{Body, Endpoint, Envelope, Name, OutboxId, OutboxRow, SendError, Shard, ShardKey};
use test_servers::Rabbit;
use tokio::sync::mpsc::error::TryRecvError;
use uuid::Uuid;

use super::foreign::Foreign;
use super::house::{House, counted, endpoint, number, quick};

fn row(destination: Option<&'static str>, envelope: Envelope) -> OutboxRow {
    OutboxRow { destination: destination.map(Name::Borrowed), envelope: Arc::new(envelope) }
}

/// Sends rows as the relay does what was committed just now.
async fn send_as_fresh(house: &House, rows: impl IntoIterator<Item = (OutboxId, OutboxRow)>) {
    use saga_core::Bus;
    let rest = rows.into_iter().filter(|(id, row)| !house.bus.hand_over(*id, row)).collect();
    house.bus.send(rest).await;
}

/// Numbered commands to the inbox.
async fn send_fresh(house: &House, numbers: std::ops::Range<OutboxId>) {
    send_as_fresh(house, numbers.map(|id| (id, row(Some("inbox"), counted(id))))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_fresh_command_when_its_endpoint_is_here_then_it_is_there_at_once_and_confirmed_when_acknowledged() {
    let url = Rabbit::shared().vhost();
    let mut house = House::start(quick(&url).local(true), &[endpoint("inbox")]).await;
    send_fresh(&house, 0..3).await;
    let deliveries: Vec<_> = (0..3).map(|_| house.endpoints[0].try_recv().expect("it needs no time")).collect();
    assert_eq!(deliveries.iter().map(number).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(house.confirms.try_recv(), Err(TryRecvError::Empty), "its row is the queue until it is handled");

    house.acknowledge(&deliveries[..2]);
    house.acknowledge(&deliveries[..2]);
    house.all_confirmed(0..2).await;
    assert_eq!(house.confirms.try_recv(), Err(TryRecvError::Empty), "the third is still in hand");
    house.acknowledge(&deliveries[2..]);
    house.all_confirmed(2..3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_endpoint_without_room_when_more_comes_then_the_broker_has_it_until_there_is_room() {
    let url = Rabbit::shared().vhost();
    let inbox = Endpoint { prefetch: 2, ..endpoint("inbox") };
    let mut house = House::start(quick(&url).local(true), &[inbox]).await;
    send_fresh(&house, 0..7).await;
    // Nothing is acknowledged: what is confirmed is at the broker, which sends ahead as many as the endpoint takes.
    house.all_confirmed(2..7).await;
    let first = house.deliveries(4).await;
    let mut numbers: Vec<_> = first.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    house.acknowledge(&first);
    house.all_confirmed(0..2).await;
    send_fresh(&house, 7..8).await;
    house.all_delivered(4..8).await;
    house.all_confirmed(7..8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_bound_for_all_endpoints_when_commands_are_fresh_then_it_holds_for_them_too() {
    let url = Rabbit::shared().vhost();
    let mut house = House::start(quick(&url).local(true).prefetch(1), &[endpoint("inbox")]).await;
    send_fresh(&house, 0..3).await;
    house.all_confirmed(1..3).await;
    let delivery = house.deliveries(1).await;
    assert_eq!(number(&delivery[0]), 0);
    assert_eq!(house.confirms.try_recv(), Err(TryRecvError::Empty), "one alone is in hand the short way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_what_others_may_want_when_it_is_fresh_then_it_goes_over_the_broker() {
    let url = Rabbit::shared().vhost();
    let key = ShardKey::new(|envelope| envelope.correlation_id);
    let shard = |index| Endpoint { shard: Some(Shard { index, of: 2, key: key.clone() }), ..endpoint("parted") };
    let elsewhere = Endpoint { consumed: false, ..endpoint("elsewhere") };
    let endpoints = [endpoint("inbox"), elsewhere, shard(0), shard(1)];
    let house = &mut House::start(quick(&url).local(true), &endpoints).await;
    let other = Envelope::raw(Uuid::from_u128(7), "Test:Other", Body::of(&()));
    let rows = vec![
        (1, row(None, counted(1))),
        (2, row(Some("elsewhere"), counted(2))),
        (3, row(Some("parted"), counted(3).correlated(Uuid::from_u128(9)))),
        (4, row(Some("inbox"), other)),
    ];
    send_as_fresh(house, rows).await;
    house.all_confirmed(1..5).await;
    let foreign = Foreign::at(&url).await;
    // Each of these is where it was published to: the command waits in its queue, and what nobody handles was put aside.
    foreign.take("elsewhere").await;
    let (properties, _) = foreign.take("inbox_skipped").await;
    assert_eq!(properties.message_id(), Some(&Uuid::from_u128(7).to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_fresh_commands_in_hand_when_they_come_again_from_the_outbox_then_over_the_broker() {
    let url = Rabbit::shared().vhost();
    let mut house = House::start(quick(&url).local(true), &[endpoint("inbox")]).await;
    send_fresh(&house, 0..1).await;
    house.send_numbers(1..2).await;
    house.all_confirmed(1..2).await;
    let deliveries = house.deliveries(2).await;
    assert_eq!(deliveries.iter().map(number).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_fresh_commands_in_hand_when_the_bus_is_closed_then_they_are_not_confirmed_and_the_channel_ends() {
    let url = Rabbit::shared().vhost();
    let mut house = House::start(quick(&url).local(true), &[endpoint("inbox")]).await;
    send_fresh(&house, 0..2).await;
    let deliveries = house.deliveries(2).await;
    house.bus.close().await;
    for result in house.outcomes(2).await.into_values() {
        assert!(matches!(result, Err(SendError::Unavailable(_))), "{result:?}");
    }
    house.acknowledge(&deliveries);
    send_fresh(&house, 2..3).await;
    let closed = house.confirm().await;
    assert!(matches!(closed.result, Err(SendError::Unavailable(_))), "{closed:?}");
    assert!(house.endpoints[0].recv().await.is_none(), "nobody can deliver any more");
}
