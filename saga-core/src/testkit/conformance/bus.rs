//! What every bus adapter promises, as tests. Run them with [`bus_conformance!`](crate::bus_conformance).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::bus::{Bus, Confirm, Delivery, Endpoint, Receipt, SendError, Shard, ShardKey};
use crate::commit::{Name, OutboxId, OutboxRow};
use crate::message::{Envelope, Message};

/// How long a message may take that is sure to come; a limit for a broken adapter, not a pace.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes buses of one kind, each with a topology of its own.
#[async_trait]
pub trait BusFactory: Send + Sync {
    /// A bus that was not started, with nothing left over from other tests.
    async fn bus(&self) -> Arc<dyn Bus>;
}

/// Runs the whole suite: `bus_conformance!(EmbeddedBuses);` expands to one test for each property.
#[macro_export]
macro_rules! bus_conformance {
    ($factory:expr) => {
        $crate::bus_conformance!(@each $factory,
            a_command_reaches_its_endpoint_alone,
            an_event_reaches_each_subscriber_once,
            an_event_that_nobody_hears_is_confirmed,
            a_command_to_nowhere_is_unroutable_and_blocks_no_other,
            every_message_is_confirmed_exactly_once,
            a_receipt_of_another_epoch_is_ignored,
            an_envelope_arrives_as_it_was_sent,
            a_thousand_unacknowledged_messages_are_all_delivered,
            what_is_fresh_arrives_once_and_is_confirmed_once,
            a_message_reaches_the_shard_that_it_belongs_to,
        );
    };
    (@each $factory:expr, $($property:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $property() {
            $crate::testkit::conformance::bus::$property(&$factory).await;
        })+
    };
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rang {
    number: u32,
}
impl Message for Rang {
    const NAME: &'static str = "Conformance:Rang";
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    door: String,
}
impl Message for Open {
    const NAME: &'static str = "Conformance:Open";
}

struct Started {
    bus: Arc<dyn Bus>,
    confirms: mpsc::UnboundedReceiver<Confirm>,
    front: mpsc::UnboundedReceiver<Delivery>,
    back: mpsc::UnboundedReceiver<Delivery>,
}

impl Started {
    /// Two endpoints; both hear the bell.
    async fn new(factory: &dyn BusFactory) -> Self {
        let bus = factory.bus().await;
        let endpoint = |name: &'static str| Endpoint {
            name: name.into(),
            subscriptions: vec![Rang::NAME],
            handles: vec![Rang::NAME, Open::NAME],
            consumed: true,
            temporary: false,
            prefetch: 4_096,
            shard: None,
        };
        let (confirm, confirms) = mpsc::unbounded_channel();
        let started = bus.start(&[endpoint("front"), endpoint("back")], confirm).await;
        let mut receivers = started.unwrap_or_else(|error| panic!("the bus does not start: {error}")).into_iter();
        let (Some(front), Some(back)) = (receivers.next(), receivers.next()) else { panic!("two endpoints") };
        assert_eq!(bus.health(), Ok(()));
        Self { bus, confirms, front, back }
    }

    async fn send(&self, id: OutboxId, destination: Option<Name>, envelope: Envelope) {
        self.bus.send(vec![(id, OutboxRow { destination, envelope: Arc::new(envelope) })]).await;
    }
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    match tokio::time::timeout(PATIENCE, receiver.recv()).await {
        Ok(Some(it)) => it,
        Ok(None) => panic!("the channel has ended"),
        Err(_) => panic!("nothing came within {PATIENCE:?}"),
    }
}

fn rang(number: u32) -> Envelope {
    Envelope::new(Uuid::from_u128(u128::from(number) + 1), &Rang { number })
}

fn open() -> Envelope {
    Envelope::new(Uuid::from_u128(0x0a), &Open { door: "left".into() })
}

/// A command goes to the endpoint that it names and to no other.
pub async fn a_command_reaches_its_endpoint_alone(factory: &dyn BusFactory) {
    let mut it = Started::new(factory).await;
    it.send(1, Some("front".into()), open()).await;
    let delivery = next(&mut it.front).await;
    assert_eq!(delivery.envelope.message_id, open().message_id);
    it.bus.acknowledge(&[delivery.receipt]);
    assert_eq!(next(&mut it.confirms).await, Confirm { id: 1, result: Ok(()) });
    it.send(2, None, rang(1)).await;
    assert_eq!(next(&mut it.back).await.envelope.name(), Rang::NAME, "the command did not come here before");
}

/// An event goes to every endpoint that subscribed, once.
pub async fn an_event_reaches_each_subscriber_once(factory: &dyn BusFactory) {
    let mut it = Started::new(factory).await;
    it.send(1, None, rang(1)).await;
    it.send(2, None, rang(2)).await;
    for receiver in [&mut it.front, &mut it.back] {
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let delivery = next(receiver).await;
            numbers.push(delivery.envelope.message.read::<Rang>().map(|it| it.number).unwrap_or_default());
            it.bus.acknowledge(&[delivery.receipt]);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
    }
}

/// An event without subscribers is done.
pub async fn an_event_that_nobody_hears_is_confirmed(factory: &dyn BusFactory) {
    let mut it = Started::new(factory).await;
    it.send(7, None, open()).await;
    assert_eq!(next(&mut it.confirms).await, Confirm { id: 7, result: Ok(()) });
}

/// A command that has no place to go is reported as such, and what is sent beside it arrives.
pub async fn a_command_to_nowhere_is_unroutable_and_blocks_no_other(factory: &dyn BusFactory) {
    let mut it = Started::new(factory).await;
    let row = |destination: &'static str, envelope| OutboxRow {
        destination: Some(destination.into()),
        envelope: Arc::new(envelope),
    };
    it.bus.send(vec![(1, row("nowhere", open())), (2, row("back", rang(9)))]).await;
    let delivery = next(&mut it.back).await;
    it.bus.acknowledge(&[delivery.receipt]);
    let mut results = HashMap::new();
    for _ in 0..2 {
        let confirm = next(&mut it.confirms).await;
        results.insert(confirm.id, confirm.result);
    }
    assert!(matches!(&results[&1], Err(SendError::Unroutable(why)) if why.contains("nowhere")), "{:?}", results[&1]);
    assert_eq!(results[&2], Ok(()));
}

/// Each message that is sent gets one confirm and no more, whatever the order.
pub async fn every_message_is_confirmed_exactly_once(factory: &dyn BusFactory) {
    const MESSAGES: u32 = 500;
    let mut it = Started::new(factory).await;
    for number in 0..MESSAGES {
        it.send(OutboxId::from(number), None, rang(number)).await;
    }
    for _ in 0..MESSAGES {
        let receipts = [next(&mut it.front).await.receipt, next(&mut it.back).await.receipt];
        it.bus.acknowledge(&receipts);
        it.bus.acknowledge(&receipts);
    }
    let mut ids: Vec<_> = Vec::new();
    for _ in 0..MESSAGES {
        ids.push(next(&mut it.confirms).await.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..OutboxId::from(MESSAGES)).collect::<Vec<_>>());
    assert!(it.confirms.try_recv().is_err(), "no message is confirmed twice");
}

/// A receipt of a connection that is gone acknowledges nothing, and breaks nothing.
pub async fn a_receipt_of_another_epoch_is_ignored(factory: &dyn BusFactory) {
    let mut it = Started::new(factory).await;
    it.send(1, Some("front".into()), open()).await;
    let Receipt { epoch, tag } = next(&mut it.front).await.receipt;
    it.bus.acknowledge(&[Receipt { epoch: epoch.wrapping_add(1), tag }]);
    it.send(2, Some("front".into()), rang(1)).await;
    let second = next(&mut it.front).await;
    assert_eq!(second.envelope.name(), Rang::NAME);
    it.bus.acknowledge(&[Receipt { epoch, tag }, second.receipt]);
    let mut ids = [next(&mut it.confirms).await.id, next(&mut it.confirms).await.id];
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

/// Ids, headers and body are what they were; an address names the same, short or in full.
pub async fn an_envelope_arrives_as_it_was_sent(factory: &dyn BusFactory) {
    let mut it = Started::new(factory).await;
    let mut sent = rang(3).for_user("Zoë \"quoted\" 名前").correlated(Uuid::from_u128(77)).with_attempt(3).redriven();
    sent.response_address = Some("queue:back".to_owned());
    sent.headers.insert("tenant".into(), serde_json::json!({ "name": "eu-1", "tier": 2 }));
    it.send(1, Some("front".into()), sent.clone()).await;
    let mut arrived = Envelope::clone(&next(&mut it.front).await.envelope);
    assert_eq!(arrived.response_endpoint(), sent.response_endpoint());
    arrived.response_address.clone_from(&sent.response_address);
    assert_eq!(arrived, sent);
}

/// A slow consumer loses nothing.
pub async fn a_thousand_unacknowledged_messages_are_all_delivered(factory: &dyn BusFactory) {
    let mut it = Started::new(factory).await;
    for number in 0..1_000 {
        it.send(OutboxId::from(number), Some("front".into()), rang(number)).await;
    }
    let mut receipts = Vec::new();
    for _ in 0..1_000 {
        receipts.push(next(&mut it.front).await.receipt);
    }
    it.bus.acknowledge(&receipts);
    for _ in 0..1_000 {
        assert_eq!(next(&mut it.confirms).await.result, Ok(()));
    }
}

/// What was committed just now arrives as anything else, whichever way the bus sends it.
pub async fn what_is_fresh_arrives_once_and_is_confirmed_once(factory: &dyn BusFactory) {
    const MESSAGES: u32 = 300;
    let mut it = Started::new(factory).await;
    let row = |number| {
        let destination = match number % 3 {
            0 => Some("front"),
            1 => Some("back"),
            _ => None,
        };
        OutboxRow { destination: destination.map(Name::Borrowed), envelope: Arc::new(rang(number)) }
    };
    let fresh = (0..MESSAGES).map(|number| (OutboxId::from(number), row(number)));
    let nowhere = (OutboxId::from(MESSAGES), OutboxRow { destination: Some("nowhere".into()), ..row(0) });
    let rest: Vec<_> = fresh.chain([nowhere]).filter(|(id, row)| !it.bus.hand_over(*id, row)).collect();
    it.bus.send(rest).await;
    for (receiver, commands) in [(&mut it.front, 0), (&mut it.back, 1)] {
        let mut expected: Vec<_> = (0..MESSAGES).filter(|it| it % 3 == commands || it % 3 == 2).collect();
        while !expected.is_empty() {
            let delivery = next(receiver).await;
            let number = delivery.envelope.message.read::<Rang>().map(|it| it.number).unwrap_or(MESSAGES);
            let place = expected.iter().position(|it| *it == number);
            expected.remove(place.unwrap_or_else(|| panic!("{number} came twice, or from elsewhere")));
            it.bus.acknowledge(&[delivery.receipt, delivery.receipt]);
        }
    }
    let mut results = HashMap::new();
    for _ in 0..=MESSAGES {
        let confirm = next(&mut it.confirms).await;
        assert!(results.insert(confirm.id, confirm.result).is_none(), "{} is confirmed twice", confirm.id);
    }
    let nowhere = results.remove(&OutboxId::from(MESSAGES));
    assert!(matches!(nowhere, Some(Err(SendError::Unroutable(_)))), "{nowhere:?}");
    assert!(results.values().all(Result::is_ok), "{results:?}");
}

/// Of an endpoint in shards, each takes what belongs to it, in the order in which it was sent, and nothing else.
pub async fn a_message_reaches_the_shard_that_it_belongs_to(factory: &dyn BusFactory) {
    const SHARDS: usize = 3;
    const MESSAGES: u32 = 60;
    let bus = factory.bus().await;
    let key = ShardKey::new(|envelope| envelope.correlation_id);
    let shard = |index| Endpoint {
        name: "parted".into(),
        subscriptions: vec![Rang::NAME],
        handles: vec![Rang::NAME],
        consumed: true,
        temporary: false,
        prefetch: 4_096,
        shard: Some(Shard { index, of: SHARDS, key: key.clone() }),
    };
    let (confirm, mut confirms) = mpsc::unbounded_channel();
    let started = bus.start(&(0..SHARDS).map(shard).collect::<Vec<_>>(), confirm).await;
    let mut shards = started.unwrap_or_else(|error| panic!("the bus does not start: {error}"));
    assert_eq!(shards.len(), SHARDS, "each shard has a channel of its own");
    let mut expected = vec![Vec::new(); SHARDS];
    for number in 0..MESSAGES {
        let envelope = rang(number).correlated(Uuid::from_u128(u128::from(number % 10)));
        expected[key.place(&envelope, SHARDS)].push(number);
        let destination = (number % 2 == 0).then(|| "parted".into());
        bus.send(vec![(OutboxId::from(number), OutboxRow { destination, envelope: Arc::new(envelope) })]).await;
    }
    for (receiver, expected) in shards.iter_mut().zip(expected) {
        let mut numbers = Vec::new();
        for _ in 0..expected.len() {
            let delivery = next(receiver).await;
            numbers.push(delivery.envelope.message.read::<Rang>().map(|it| it.number).unwrap_or_default());
            bus.acknowledge(&[delivery.receipt]);
        }
        assert_eq!(numbers, expected);
        assert!(receiver.try_recv().is_err(), "nothing comes twice, or from elsewhere");
    }
    for _ in 0..MESSAGES {
        assert_eq!(next(&mut confirms).await.result, Ok(()));
    }
}
