//! An endpoint in shards at the broker: where its messages go, in which order, and to which host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amqprs::BasicProperties;
use saga_core::{Bus, Delivery, Endpoint, Envelope, Name, OutboxId, OutboxRow, QueueType, Shard, ShardKey, bucket};
use serde_json::json;
use test_servers::{Proxy, Rabbit};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::foreign::Foreign;
use super::house::{Counted, House, counted, endpoint, eventually, number, quick};

const INSTANCES: OutboxId = 24;

/// The instance that a number belongs to.
fn instance(number: OutboxId) -> Uuid {
    Uuid::from_u128(0x5a5a << 64 | (number % INSTANCES) as u128)
}

fn key() -> ShardKey {
    ShardKey::new(|envelope| envelope.message.read::<Counted>().ok().map(|it| instance(it.number)))
}

/// The shards of the endpoint `inbox`.
fn inboxes(of: usize) -> Vec<Endpoint> {
    let key = key();
    let shard = |index| Endpoint { shard: Some(Shard { index, of, key: key.clone() }), ..endpoint("inbox") };
    (0..of).map(shard).collect()
}

fn shard_of(number: OutboxId, of: usize) -> usize {
    bucket(instance(number)) % of
}

async fn publish(house: &House, numbers: std::ops::Range<OutboxId>) {
    let rows = numbers.map(|id| (id, OutboxRow { destination: None, envelope: Arc::new(counted(id)) }));
    house.bus.send(rows.collect()).await;
}

/// What has come to the hosts: for each message the host and the shard that had it.
#[derive(Default)]
struct Seen(Vec<(OutboxId, usize, usize)>);

impl Seen {
    /// Takes what there is, acknowledging each.
    fn look(&mut self, houses: &mut [House]) {
        for (host, house) in houses.iter_mut().enumerate() {
            for (shard, deliveries) in house.endpoints.iter_mut().enumerate() {
                while let Ok(delivery) = deliveries.try_recv() {
                    self.0.push((number(&delivery), host, shard));
                    house.bus.acknowledge(&[delivery.receipt]);
                }
            }
        }
    }

    /// Waits until all of these have come.
    async fn all(&mut self, houses: &mut [House], numbers: std::ops::Range<OutboxId>) {
        eventually("all to be delivered", || {
            self.look(houses);
            let seen: BTreeSet<_> = self.0.iter().map(|it| it.0).collect();
            let missing = numbers.clone().filter(|it| !seen.contains(it)).count();
            if missing == 0 { Ok(()) } else { Err(format!("{missing} are missing")) }
        })
        .await;
    }

    /// The hosts that have had something, with the shards that they had it of.
    fn hosts(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let mut hosts: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (_, host, shard) in &self.0 {
            hosts.entry(*host).or_default().insert(*shard);
        }
        hosts
    }

    fn each_in_its_shard(&self, of: usize) {
        for (number, _, shard) in &self.0 {
            assert_eq!(*shard, shard_of(*number, of), "number {number} is in another shard");
        }
    }

    /// Whether the numbers of each instance came one after the other; one that came again may follow its successors.
    fn in_order(&self) {
        let mut last: BTreeMap<Uuid, OutboxId> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (number, ..) in &self.0 {
            if seen.insert(*number) {
                let before = last.insert(instance(*number), *number);
                assert!(before.is_none_or(|it| it < *number), "{number} came after {before:?}");
            }
        }
    }
}

/// The bindings of a virtual host, as `source destination kind` and the key if there is one.
fn bindings(url: &str) -> BTreeSet<String> {
    let vhost = url.rsplit_once('/').unwrap().1;
    let listed = Rabbit::shared().ctl(&[
        "list_bindings",
        "--no-table-headers",
        "-p",
        vhost,
        "source_name",
        "destination_name",
        "destination_kind",
        "routing_key",
    ]);
    let lines = listed.lines().map(|line| line.trim_end().replace('\t', " "));
    // The broker's own exchange has no name and knows every queue.
    lines.filter(|line| !line.starts_with(' ')).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_one_shard_when_declared_then_the_broker_has_what_it_has_without_any() {
    let (url, plain) = (Rabbit::shared().vhost(), Rabbit::shared().vhost());
    let mut house = House::start(quick(&url), &inboxes(1)).await;
    let _without = House::start(quick(&plain), &[endpoint("inbox")]).await;
    publish(&house, 0..50).await;
    house.send_numbers(50..100).await;
    house.all_delivered(0..100).await;
    let expected = ["Test:Counted inbox exchange", "inbox inbox queue"].map(str::to_owned);
    assert_eq!(bindings(&url), BTreeSet::from(expected));
    assert_eq!(bindings(&url), bindings(&plain));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_shards_when_messages_are_sent_and_published_then_each_is_in_its_own_and_in_order() {
    for queue_type in [QueueType::Quorum, QueueType::Classic] {
        let url = Rabbit::shared().vhost();
        let mut house = House::start(quick(&url).queue_type(queue_type), &inboxes(4)).await;
        publish(&house, 0..300).await;
        house.send_numbers(300..600).await;
        house.all_confirmed(0..600).await;
        let (mut seen, mut houses) = (Seen::default(), [house]);
        seen.all(&mut houses, 0..600).await;
        seen.each_in_its_shard(4);
        seen.in_order();
        assert_eq!(seen.0.len(), 600, "each comes once");
        assert_eq!(seen.hosts()[&0].len(), 4, "every shard has something");
        let bindings = bindings(&url);
        assert!(!bindings.contains("inbox inbox queue"), "{bindings:?}");
        assert_eq!(
            bindings.iter().filter(|it| it.starts_with("inbox_shards inbox_shard_")).count(),
            saga_core::BUCKETS
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_foreign_publisher_when_it_names_no_bucket_then_its_messages_are_moved_to_their_shards_in_order() {
    let url = Rabbit::shared().vhost();
    let mut houses = [House::start(quick(&url), &inboxes(4)).await, House::start(quick(&url), &inboxes(4)).await];
    let foreign = Foreign::at(&url).await;
    for number in 0..200 {
        let body = json!({
            "messageId": Uuid::from_u128(1 << 64 | number as u128),
            "messageType": ["urn:message:Test:Counted"],
            "message": { "number": number },
        });
        let mut properties = BasicProperties::default();
        properties.with_content_type("application/vnd.masstransit+json").with_expiration("3600000");
        let (exchange, key) = match number % 2 {
            0 => ("Test:Counted", ""),
            _ => ("inbox", "whatever"),
        };
        foreign.publish(exchange, key, properties, body.to_string().as_bytes()).await;
    }
    // Straight into the queue of the endpoint's name, as a host without shards does.
    for number in 200..250 {
        let body = json!({ "messageType": ["urn:message:Test:Counted"], "message": { "number": number } });
        foreign.publish("", "inbox", BasicProperties::default(), body.to_string().as_bytes()).await;
    }
    let mut seen = Seen::default();
    seen.all(&mut houses, 0..250).await;
    seen.each_in_its_shard(4);
    seen.0.retain(|it| it.0 < 200);
    seen.in_order();
    assert_eq!(foreign.ready("inbox_unsorted").await + foreign.ready("inbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_message_that_tells_of_no_instance_when_it_comes_then_it_is_in_the_first_shard() {
    let url = Rabbit::shared().vhost();
    let mut house = House::start(quick(&url), &inboxes(4)).await;
    let nameless = Envelope::raw(
        Uuid::from_u128(9),
        <Counted as saga_core::Message>::NAME,
        saga_core::Body::of(&json!({ "no": 1 })),
    );
    house.send(1, Some("inbox"), nameless.clone()).await;
    house.send(2, None, nameless).await;
    for _ in 0..2 {
        let delivery: Delivery = house.delivery().await;
        house.acknowledge(&[delivery]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_host_with_all_shards_when_another_comes_then_they_share_and_the_order_is_kept() {
    const MESSAGES: OutboxId = 6_000;
    let url = Rabbit::shared().vhost();
    let mut houses = vec![House::start(quick(&url), &inboxes(4)).await];
    let mut seen = Seen::default();
    publish(&houses[0], 0..200).await;
    seen.all(&mut houses, 0..200).await;
    houses.push(House::start(quick(&url), &inboxes(4)).await);
    let mut sent = 200;
    // One task sends them all, so that none overtakes another before it is sent.
    let (to_send, mut waiting) = mpsc::unbounded_channel::<std::ops::Range<OutboxId>>();
    let bus = houses[0].bus.clone();
    let sending = tokio::spawn(async move {
        while let Some(numbers) = waiting.recv().await {
            let row = |id| (id, OutboxRow { destination: None, envelope: Arc::new(counted(id)) });
            bus.send(numbers.map(row).collect()).await;
        }
    });
    // The first has all shards, and gives two of them up while messages flow.
    eventually("both to have two shards", || {
        if sent < MESSAGES && seen.0.len() as OutboxId + 100 > sent {
            to_send.send(sent..sent + 20).unwrap();
            sent += 20;
        }
        seen.look(&mut houses);
        let recent = Seen(seen.0.iter().rev().take(100).copied().collect());
        let shares: Vec<_> = recent.hosts().values().map(BTreeSet::len).collect();
        if shares == [2, 2] { Ok(()) } else { Err(format!("{:?} of {sent}", recent.hosts())) }
    })
    .await;
    drop(to_send);
    sending.await.unwrap();
    seen.all(&mut houses, 0..sent).await;
    seen.each_in_its_shard(4);
    seen.in_order();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_host_that_can_not_handle_what_it_has_when_another_comes_then_that_one_has_its_share_all_the_same() {
    let url = Rabbit::shared().vhost();
    let mut stuck = House::start(quick(&url), &inboxes(4)).await;
    publish(&stuck, 0..200).await;
    // It has all shards, and acknowledges nothing of them.
    let mut held = Vec::new();
    eventually("the first host to have everything", || {
        for deliveries in &mut stuck.endpoints {
            held.extend(std::iter::from_fn(|| deliveries.try_recv().ok()));
        }
        if held.len() == 200 { Ok(()) } else { Err(format!("it has {}", held.len())) }
    })
    .await;
    let mut other = [House::start(quick(&url), &inboxes(4)).await];
    let mut seen = Seen::default();
    eventually("the other to have two shards whole", || {
        seen.look(&mut other);
        let shards = seen.hosts().remove(&0).unwrap_or_default();
        let expected: BTreeSet<_> = (0..200).filter(|it| shards.contains(&shard_of(*it, 4))).collect();
        let had: BTreeSet<_> = seen.0.iter().map(|it| it.0).collect();
        if shards.len() == 2 && had == expected { Ok(()) } else { Err(format!("{shards:?}, {} messages", had.len())) }
    })
    .await;
    seen.each_in_its_shard(4);
    seen.in_order();
    // What it acknowledges too late means nothing, and breaks nothing.
    stuck.acknowledge(&held);
    publish(&stuck, 200..400).await;
    let mut houses = [stuck, other.into_iter().next().unwrap()];
    seen.all(&mut houses, 200..400).await;
    assert_eq!(houses[0].bus.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_host_whose_saga_has_ended_when_its_bus_goes_on_then_another_has_all_shards_at_once() {
    let url = Rabbit::shared().vhost();
    let mut ending = House::start(quick(&url), &inboxes(4)).await;
    publish(&ending, 0..200).await;
    let mut waiting: BTreeSet<_> = (0..200).collect();
    eventually("half of it to be handled", || {
        for deliveries in &mut ending.endpoints {
            if let Ok(delivery) = deliveries.try_recv() {
                waiting.remove(&number(&delivery));
                ending.bus.acknowledge(&[delivery.receipt]);
            }
        }
        if waiting.len() <= 100 { Ok(()) } else { Err(format!("{} wait", waiting.len())) }
    })
    .await;
    ending.endpoints.clear();
    let mut other = [House::start(quick(&url), &inboxes(4)).await];
    let mut seen = Seen::default();
    eventually("the other to have the rest", || {
        seen.look(&mut other);
        let rest: BTreeSet<_> = seen.0.iter().map(|it| it.0).collect();
        if rest.is_superset(&waiting) { Ok(()) } else { Err(format!("{} of {}", rest.len(), waiting.len())) }
    })
    .await;
    assert_eq!(seen.0.len(), waiting.len(), "what was acknowledged does not come again");
    seen.each_in_its_shard(4);
    seen.in_order();
    // The one that ends is no longer counted, but publishes still.
    publish(&ending, 200..300).await;
    ending.send_numbers(300..400).await;
    seen.all(&mut other, 200..400).await;
    assert_eq!(seen.hosts()[&0].len(), 4);
    assert_eq!(ending.bus.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_host_that_dies_when_it_had_shards_then_the_other_has_them_and_nothing_is_lost() {
    let url = Rabbit::shared().vhost();
    let (proxy, mut houses) = (Proxy::to(&url), Vec::new());
    houses.push(House::start(quick(&proxy.url(&url)), &inboxes(4)).await);
    houses.push(House::start(quick(&url), &inboxes(4)).await);
    publish(&houses[1], 0..400).await;
    let mut seen = Seen::default();
    eventually("the first host to have something", || {
        seen.look(&mut houses[..1]);
        if seen.0.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
    })
    .await;
    // It has more in hand, and is never heard of again.
    proxy.refuse(true);
    proxy.cut();
    publish(&houses[1], 400..800).await;
    seen.all(&mut houses[1..], 0..400).await;
    seen.all(&mut houses[1..], 400..800).await;
    seen.each_in_its_shard(4);
    seen.in_order();
    // It comes back, and is given its share.
    proxy.resume();
    houses[0].healthy().await;
    let mut next = 800;
    eventually("both to have something", || {
        let (bus, id) = (houses[1].bus.clone(), next);
        next += 1;
        tokio::spawn(async move {
            let envelope = Arc::new(counted(id));
            bus.send(vec![(id, OutboxRow { destination: Some(Name::Borrowed("inbox")), envelope })]).await;
        });
        seen.look(&mut houses);
        let recent = Seen(seen.0.iter().rev().take(50).copied().collect());
        if recent.hosts().len() == 2 { Ok(()) } else { Err(format!("{:?}", recent.hosts())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_host_that_only_publishes_when_it_believes_in_another_number_then_the_buckets_stay_where_they_are() {
    let url = Rabbit::shared().vhost();
    let mut house = House::start(quick(&url), &inboxes(4)).await;
    house.healthy().await;
    let buckets = || bindings(&url).into_iter().filter(|it| it.starts_with("inbox_shards ")).collect::<BTreeSet<_>>();
    let before = buckets();
    assert_eq!(before.len(), saga_core::BUCKETS);
    for (of, numbers) in [(6, 0..100), (3, 100..200)] {
        let mut theirs = inboxes(of);
        theirs.iter_mut().for_each(|it| it.consumed = false);
        let mut sender = House::start(quick(&url), &theirs).await;
        sender.healthy().await;
        assert_eq!(buckets(), before, "with {of} shards");
        publish(&sender, numbers.clone()).await;
        sender.all_confirmed(numbers.clone()).await;
        let mut seen = Seen::default();
        seen.all(std::slice::from_mut(&mut house), numbers).await;
        seen.each_in_its_shard(4);
        seen.in_order();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_no_consumer_yet_when_messages_are_published_then_they_wait_for_the_first_one() {
    let url = Rabbit::shared().vhost();
    let mut theirs = inboxes(4);
    theirs.iter_mut().for_each(|it| it.consumed = false);
    let mut sender = House::start(quick(&url), &theirs).await;
    publish(&sender, 0..100).await;
    sender.send_numbers(100..200).await;
    sender.all_confirmed(0..200).await;
    sender.healthy().await;
    let buckets = bindings(&url).into_iter().filter(|it| it.starts_with("inbox_shards ")).count();
    assert_eq!(buckets, 0, "which shard hears which bucket is its consumer's to say");
    let mut houses = [House::start(quick(&url), &inboxes(4)).await];
    let mut seen = Seen::default();
    seen.all(&mut houses, 0..200).await;
    seen.each_in_its_shard(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_another_number_of_shards_when_started_then_what_waits_is_found_whichever_number_it_was() {
    let url = Rabbit::shared().vhost();
    let mut sent = 0;
    // From none to many, to more, to fewer, and back to none; each number leaves messages to the next.
    for of in [1, 4, 6, 3, 1] {
        let mut house = House::start(quick(&url), &inboxes(of)).await;
        let mut seen = Seen::default();
        seen.all(std::slice::from_mut(&mut house), sent.max(100) - 100..sent).await;
        seen.each_in_its_shard(of);
        assert_eq!(house.bus.health(), Ok(()));
        house.bus.close().await;
        let mut theirs = inboxes(of);
        theirs.iter_mut().for_each(|it| it.consumed = false);
        let mut sender = House::start(quick(&url), &theirs).await;
        publish(&sender, sent..sent + 60).await;
        let command = |id| OutboxRow { destination: Some("inbox".into()), envelope: Arc::new(counted(id)) };
        sender.bus.send((sent + 60..sent + 100).map(|id| (id, command(id))).collect()).await;
        sender.all_confirmed(sent..sent + 100).await;
        sender.bus.close().await;
        sent += 100;
    }
    let mut house = House::start(quick(&url), &inboxes(1)).await;
    house.all_delivered(sent - 100..sent).await;
    assert_eq!(bindings(&url).iter().filter(|it| it.starts_with("inbox ")).count(), 1, "{:?}", bindings(&url));
}
