//! A bus under test: what was sent, confirmed and delivered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use saga_core::{
    Bus, BusError, Confirm, Delivery, Endpoint, Envelope, Message, Name, OutboxId, OutboxRow, RabbitMqBus,
    RabbitMqBusBuilder, Receipt, SendError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// How long what is sure to happen may take on a busy machine: recovery of a broker included.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at that nothing tells of.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    pub number: OutboxId,
}
impl Message for Counted {
    const NAME: &'static str = "Test:Counted";
}

pub fn counted(number: OutboxId) -> Envelope {
    Envelope::new(Uuid::from_u128(1 << 64 | number as u128), &Counted { number })
}

pub fn number(delivery: &Delivery) -> OutboxId {
    delivery.envelope.message.read::<Counted>().unwrap().number
}

/// An endpoint that hears what is counted.
pub fn endpoint(name: &'static str) -> Endpoint {
    Endpoint {
        name: name.into(),
        subscriptions: vec![Counted::NAME],
        handles: vec![Counted::NAME],
        consumed: true,
        temporary: false,
        prefetch: 256,
        shard: None,
    }
}

/// A bus that notices and mends soon, so that a test takes no longer than it must.
pub fn quick(url: &str) -> RabbitMqBusBuilder {
    let (first, longest) = (Duration::from_millis(20), Duration::from_millis(500));
    RabbitMqBus::builder(url).heartbeat(Duration::from_secs(2)).reconnect_backoff(first, longest)
}

/// A started bus and what comes out of it.
pub struct House {
    pub bus: Arc<RabbitMqBus>,
    pub confirms: mpsc::UnboundedReceiver<Confirm>,
    pub endpoints: Vec<mpsc::UnboundedReceiver<Delivery>>,
}

impl House {
    pub async fn start(builder: RabbitMqBusBuilder, endpoints: &[Endpoint]) -> Self {
        Self::try_start(builder, endpoints).await.unwrap_or_else(|error| panic!("the bus does not start: {error}"))
    }

    pub async fn try_start(builder: RabbitMqBusBuilder, endpoints: &[Endpoint]) -> Result<Self, BusError> {
        let bus = Arc::new(builder.build().unwrap());
        let (confirm, confirms) = mpsc::unbounded_channel();
        let endpoints = bus.start(endpoints, confirm).await?;
        Ok(Self { bus, confirms, endpoints })
    }

    /// One endpoint `inbox` on an ordinary bus.
    pub async fn with_inbox(url: &str) -> Self {
        Self::start(quick(url), &[endpoint("inbox")]).await
    }

    pub async fn send(&self, id: OutboxId, destination: Option<&'static str>, envelope: Envelope) {
        let row = OutboxRow { destination: destination.map(Name::Borrowed), envelope: Arc::new(envelope) };
        self.bus.send(vec![(id, row)]).await;
    }

    /// Sends numbered commands to the inbox.
    pub async fn send_numbers(&self, numbers: std::ops::Range<OutboxId>) {
        let row = |id| OutboxRow { destination: Some("inbox".into()), envelope: Arc::new(counted(id)) };
        self.bus.send(numbers.map(|id| (id, row(id))).collect()).await;
    }

    pub async fn confirm(&mut self) -> Confirm {
        next(&mut self.confirms, "a confirm").await
    }

    /// The outcomes of so many messages, by id.
    pub async fn outcomes(&mut self, count: usize) -> std::collections::BTreeMap<OutboxId, Result<(), SendError>> {
        let mut outcomes = std::collections::BTreeMap::new();
        for _ in 0..count {
            let Confirm { id, result } = self.confirm().await;
            assert_eq!(outcomes.insert(id, result), None, "message {id} is confirmed twice");
        }
        outcomes
    }

    /// Takes confirms until all those messages have arrived; each is confirmed once.
    pub async fn all_confirmed(&mut self, numbers: std::ops::Range<OutboxId>) {
        let count = numbers.clone().count();
        let outcomes = self.outcomes(count).await;
        assert!(outcomes.keys().copied().eq(numbers), "{:?}", outcomes.keys());
        let failed: Vec<_> = outcomes.iter().filter(|(_, result)| result.is_err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// Takes confirms until all of `0..count` have arrived that are not in `confirmed`.
    pub async fn all_rest_confirmed(&mut self, mut confirmed: BTreeSet<OutboxId>, count: OutboxId) {
        while i64::try_from(confirmed.len()).unwrap() < count {
            let Confirm { id, result } = self.confirm().await;
            assert_eq!(result, Ok(()));
            assert!(confirmed.insert(id), "{id} is confirmed twice");
        }
    }

    /// Sends a number to the inbox until its queue is there again, and takes it out.
    pub async fn unavailable_until_there(&mut self, number: OutboxId) -> Delivery {
        loop {
            self.send_numbers(number..number + 1).await;
            match self.confirm().await.result {
                // It may have arrived in the queue that was about to be deleted.
                Ok(()) => match timeout(Duration::from_secs(1), self.endpoints[0].recv()).await {
                    Ok(Some(delivery)) => return delivery,
                    Ok(None) => panic!("the endpoint has ended"),
                    Err(_) => {}
                },
                // It is gone, or on its way out.
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    pub async fn delivery(&mut self) -> Delivery {
        next(&mut self.endpoints[0], "a delivery").await
    }

    /// Takes deliveries, acknowledging each, until all those numbers have come, in any order and as often as they like.
    pub async fn all_delivered(&mut self, numbers: std::ops::Range<OutboxId>) {
        let mut missing: BTreeSet<_> = numbers.collect();
        while !missing.is_empty() {
            let delivery = timeout(PATIENCE, self.endpoints[0].recv()).await;
            let Ok(Some(delivery)) = delivery else {
                panic!("{} are missing, from {:?}: {:?}", missing.len(), missing.first(), self.bus.health())
            };
            missing.remove(&number(&delivery));
            self.bus.acknowledge(&[delivery.receipt]);
        }
    }

    pub fn acknowledge(&self, deliveries: &[Delivery]) {
        let receipts: Vec<Receipt> = deliveries.iter().map(|it| it.receipt).collect();
        self.bus.acknowledge(&receipts);
    }

    pub async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for _ in 0..count {
            deliveries.push(self.delivery().await);
        }
        deliveries
    }

    /// Waits until the bus is well.
    pub async fn healthy(&self) {
        eventually("the bus to be well", || self.bus.health().map_err(|why| format!("it says: {why}"))).await;
    }

    /// Waits until the bus says that something is wrong, and what.
    pub async fn unhealthy(&self, why: &str) {
        eventually(&format!("the bus to complain of `{why}`"), || match self.bus.health() {
            Err(said) if said.contains(why) => Ok(()),
            other => Err(format!("it says: {other:?}")),
        })
        .await;
    }
}

pub async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>, what: &str) -> T {
    match timeout(PATIENCE, receiver.recv()).await {
        Ok(Some(it)) => it,
        Ok(None) => panic!("{what} was expected, and the channel has ended"),
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// Waits until a condition holds.
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(it) => return it,
            Err(why) => assert!(Instant::now() < until, "waited {PATIENCE:?} for {what}: {why}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
