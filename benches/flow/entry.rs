//! The ways in: how an order comes to the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use amqprs::BasicProperties;
use host::config::BusUrl;
use host::serve::Service;
use order_saga::{NewItem, NewOrder, Order, OrderSubmitted};
use saga_core::{Client, Envelope, Message, Saga, SubmitError};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::broker::{Publisher, persistent};
use crate::http::Poster;

/// How orders come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Entry {
    /// Straight into the runtime.
    Runtime,
    /// Over REST, on connections that are kept.
    Rest,
    /// Straight into the runtime, which sends each message over the broker, commands to itself included.
    Broker,
    /// From the bus: on RabbitMQ published by another program's client, on the embedded bus by this one's.
    Bus,
}

impl Entry {
    pub(crate) const ALL: [Self; 4] = [Self::Runtime, Self::Broker, Self::Rest, Self::Bus];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Broker => "broker",
            Self::Rest => "rest",
            Self::Bus => "bus",
        }
    }
}

/// How many requests are under way at the same time over REST to all hosts, each on a connection of its own.
pub(crate) const REQUESTS: usize = 512;
/// The pause of somebody who was told that the service is busy.
const BUSY: Duration = Duration::from_millis(5);
/// How long a bus may take to declare what it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way in, taken by each host in turn.
#[derive(Clone)]
pub(crate) struct WayIn(Arc<Way>);

struct Way {
    next: AtomicUsize,
    kind: Kind,
}

enum Kind {
    Runtime(Vec<Client>),
    Rest(Vec<Poster>),
    Published(Vec<Client>),
    Foreign(Publisher),
}

impl WayIn {
    pub(crate) async fn open(entry: Entry, services: &[Service], bus: &BusUrl) -> Self {
        let clients = || services.iter().map(|it| it.client.clone()).collect();
        let kind = match (entry, bus) {
            (Entry::Runtime | Entry::Broker, _) => Kind::Runtime(clients()),
            (Entry::Rest, _) => {
                let (order, each) = (json!({ "items": items() }).to_string(), REQUESTS.div_ceil(services.len()));
                Kind::Rest(services.iter().map(|it| Poster::new(it.address, "/api/orders", &order, each)).collect())
            }
            (Entry::Bus, BusUrl::Embedded) => Kind::Published(clients()),
            (Entry::Bus, BusUrl::RabbitMq(url)) => Kind::Foreign(Publisher::to(url.expose()).await),
        };
        Self(Arc::new(Way { next: AtomicUsize::new(0), kind }))
    }

    /// Submits an order, and gives its id.
    pub(crate) async fn submit(self) -> Uuid {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        match &self.0.kind {
            Kind::Runtime(clients) => {
                let (id, submission) = order();
                submit::<Order>(&clients[turn % clients.len()], id, &submission).await;
                id
            }
            Kind::Rest(posters) => post(&posters[turn % posters.len()]).await,
            Kind::Published(clients) => {
                let (id, submission) = order();
                let envelope = Envelope::new(Uuid::now_v7(), &submission).for_user("local").correlated(id);
                clients[turn % clients.len()].publish(envelope).await.expect("a store that answers");
                id
            }
            Kind::Foreign(publisher) => {
                let id = Uuid::now_v7();
                publish(publisher, OrderSubmitted::NAME, foreign_order(id)).await;
                id
            }
        }
    }
}

/// Returns when the bus of each has what it needs: whoever publishes before that finds no place for it.
pub(crate) async fn connected(clients: impl IntoIterator<Item = &Client>) {
    let began = Instant::now();
    for client in clients {
        while let Err(why) = client.bus_health() {
            assert!(began.elapsed() < PATIENCE, "the bus is not there: {why}");
            tokio::time::sleep(BUSY).await;
        }
    }
}

/// Brings a message to a saga of this process, which may be busy for a while.
pub(crate) async fn submit<S: Saga>(client: &Client, id: Uuid, message: &impl Message) {
    let envelope = Envelope::new(Uuid::now_v7(), message).for_user("local").correlated(id);
    loop {
        match client.submit::<S>(envelope.clone()).await {
            Ok(_) => return,
            Err(SubmitError::Busy) => tokio::time::sleep(BUSY).await,
            Err(error) => panic!("a submission was not taken: {error}"),
        }
    }
}

/// Publishes a message in MassTransit's envelope, as a service does that is not ours.
pub(crate) async fn publish(publisher: &Publisher, name: &str, message: Value) {
    let id = Uuid::now_v7();
    let envelope = json!({
        "messageId": id, "conversationId": id, "sourceAddress": "rabbitmq://elsewhere/shop_bus?temporary=true",
        "messageType": [format!("urn:message:{name}")], "message": message, "headers": {},
        "sentTime": chrono::Utc::now(),
    });
    let properties: BasicProperties =
        persistent().with_message_id(&id.to_string()).with_content_type("application/vnd.masstransit+json").finish();
    publisher.publish(name, "", properties, envelope.to_string().into_bytes()).await;
}

/// A new order of two items, and its id.
pub(crate) fn order() -> (Uuid, OrderSubmitted) {
    let id = Uuid::now_v7();
    (id, order_of(id))
}

/// The order of that id.
pub(crate) fn order_of(id: Uuid) -> OrderSubmitted {
    let item =
        |product: &str, quantity| NewItem { product_id: product.to_owned(), quantity, price: "43.32".to_owned() };
    let order = NewOrder { items: vec![item("A1", 2), item("B2", 1)] }.check().expect("a good order");
    order.submission(id, "local")
}

fn items() -> Value {
    json!([
        { "productId": "A1", "quantity": 2, "price": "43.32" }, { "productId": "B2", "quantity": 1, "price": "43.32" }
    ])
}

fn foreign_order(id: Uuid) -> Value {
    json!({ "orderId": id, "userId": "local", "items": items(), "total": "129.96" })
}

/// What the service answers with, as far as it is looked at.
#[derive(Deserialize)]
struct Created<'a> {
    id: Uuid,
    #[serde(borrow)]
    status: &'a str,
    #[serde(borrow)]
    total: &'a str,
}

async fn post(poster: &Poster) -> Uuid {
    loop {
        let id = poster.post(|status, body| match status {
            201 => {
                let order: Created<'_> = serde_json::from_slice(body).expect("an order");
                assert_eq!((order.status, order.total), ("pending", "129.96"), "{}", order.id);
                Some(order.id)
            }
            503 => None,
            status => panic!("{status}: {}", String::from_utf8_lossy(body)),
        });
        match id.await {
            Some(id) => return id,
            None => tokio::time::sleep(BUSY).await,
        }
    }
}
