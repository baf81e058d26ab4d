//! A runtime at a broker: a saga that notes orders, a consumer of one type, and who answers requests.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use amqprs::{BasicProperties, FieldTable, FieldValue};
use async_trait::async_trait;
use rust_decimal::Decimal;
use saga_core::{
    Activity, ActivityHandler, Client, Consumer, Correlation, Ctx, DeadLetterPage, DeadLetterRow, Effects, Failure,
    HandlerContext, HandlerOptions, JournalRow, MemoryStore, Message, Output, Point, Probe, RabbitMqBus, Roles, Rule,
    Runtime, Saga, Store, events, ignore, reject, states,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use test_foreign::Peer;
use test_servers::Rabbit;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::{Uuid, uuid};

/// What is sure to happen takes no longer: a limit for what is broken, not a pace.
const PATIENCE: Duration = Duration::from_secs(60);

/// The order that every message here is about.
pub const ORDER: Uuid = uuid!("0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11");

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),+ })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name { pub order_id: Uuid, $(pub $field: $type),+ }
        impl Message for $name { const NAME: &'static str = concat!("Shop.Contracts:", stringify!($name)); }
    )+};
}
messages! {
    OrderPlaced { total: Decimal }
    OrderPaid { reference: String }
    /// What follows from an order that was placed.
    OrderNoted { total: Decimal }
    /// A question, and its answer.
    CheckOrder { question: String }
    OrderStatus { answer: String }
    /// The command of an activity, its outcome, and its failure.
    ChargeCard { amount: Decimal }
    CardCharged { amount: Decimal }
    ChargeFailed { error: String }
}

states! { pub enum IntakeState { New, Noted } }
events! { pub enum IntakeEvent { OrderPlaced, OrderPaid } }

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Intake {
    pub totals: Vec<Decimal>,
}

impl Saga for Intake {
    const NAME: &'static str = "intake";
    const ENDPOINT: &'static str = "order-intake";
    type State = IntakeState;
    type Event = IntakeEvent;
    type Row = ();

    fn correlate(event: IntakeEvent) -> Correlation {
        match event {
            IntakeEvent::OrderPlaced(on) => on.by(|it| it.order_id),
            IntakeEvent::OrderPaid(on) => on.by(|it| it.order_id),
        }
    }

    fn table(state: IntakeState, event: IntakeEvent) -> Rule<Self> {
        match (state, event) {
            (IntakeState::New | IntakeState::Noted, IntakeEvent::OrderPlaced(on)) => on.to(IntakeState::Noted, note),
            (IntakeState::New, IntakeEvent::OrderPaid(_)) => reject("nothing was ordered"),
            (IntakeState::Noted, IntakeEvent::OrderPaid(_)) => ignore(),
        }
    }
}

fn note(intake: &mut Intake, event: &OrderPlaced, _: &Ctx<'_>) -> Effects<Intake> {
    intake.totals.push(event.total);
    Effects::none().publish(OrderNoted { order_id: event.order_id, total: event.total })
}

/// The endpoint that handles one type alone.
pub const AUDIT: &str = "order-audit";
/// The endpoint that answers questions.
pub const DESK: &str = "order-desk";

/// Says on the bus what it has heard.
struct Audit;

#[async_trait]
impl Consumer<OrderPlaced> for Audit {
    type Row = ();

    async fn consume(&self, event: &OrderPlaced, _: &HandlerContext) -> Result<Output<()>, Failure> {
        let heard = OrderStatus { order_id: event.order_id, answer: format!("audited {}", event.total) };
        Ok(Output::none().publish(&heard))
    }
}

struct Desk;

#[async_trait]
impl Consumer<CheckOrder> for Desk {
    type Row = ();

    async fn consume(&self, event: &CheckOrder, _: &HandlerContext) -> Result<Output<()>, Failure> {
        match event.question.as_str() {
            "where is it?" => {
                Ok(Output::none().respond(&OrderStatus { order_id: event.order_id, answer: "on its way".to_owned() }))
            }
            question => Err(Failure::permanent(format_args!("nobody knows an answer to `{question}`"))),
        }
    }
}

impl Activity for ChargeCard {
    const ENDPOINT: &'static str = "order-charge";
    type Outcome = CardCharged;
    type Failed = ChargeFailed;

    fn failed(&self, failure: &Failure) -> ChargeFailed {
        ChargeFailed { order_id: self.order_id, error: failure.message().to_owned() }
    }
}

struct Terminal;

#[async_trait]
impl ActivityHandler<ChargeCard> for Terminal {
    async fn execute(&self, command: &ChargeCard, _: &HandlerContext) -> Result<CardCharged, Failure> {
        if command.amount.is_sign_negative() {
            return Err(Failure::permanent("nobody is given money here"));
        }
        Ok(CardCharged { order_id: command.order_id, amount: command.amount })
    }
}

/// Counts everything that the runtime reaches.
struct Moves(watch::Sender<u64>);

#[async_trait]
impl Probe for Moves {
    async fn reached(&self, _: Point) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// The runtime, and a foreign service at its broker.
pub struct Shop {
    pub url: String,
    pub peer: Peer,
    pub client: Client,
    store: MemoryStore,
    bus: Arc<RabbitMqBus>,
    moves: watch::Receiver<u64>,
    running: JoinHandle<()>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Shop {
    pub async fn open() -> Self {
        Self::at(Rabbit::shared().vhost(), MemoryStore::builder().build(), Roles::ALL).await
    }

    /// Closes it as a crash would, and opens it again with the same store, to do this alone.
    pub async fn open_again(self, roles: Roles) -> Self {
        self.running.abort();
        self.bus.close().await;
        Self::at(self.url.clone(), self.store.clone(), roles).await
    }

    async fn at(url: String, store: MemoryStore, roles: Roles) -> Self {
        let bus = Arc::new(RabbitMqBus::builder(&url).build().unwrap());
        let (sender, moves) = watch::channel(0);
        let options = HandlerOptions::default();
        let runtime = Runtime::builder(Arc::new(store.clone()), bus.clone())
            .roles(roles)
            .probe(Arc::new(Moves(sender)))
            .saga::<Intake>()
            .consumer::<OrderPlaced>(AUDIT, Audit, options)
            .consumer::<CheckOrder>(DESK, Desk, options)
            .activity::<ChargeCard>(Terminal, options)
            .build()
            .unwrap();
        let client = runtime.client();
        let running = tokio::spawn(async move { runtime.run(std::future::pending()).await.unwrap() });
        let shop = Self { peer: Peer::at(&url).await.unwrap(), url, client, store, bus, moves, running };
        // Its topology is declared before it is well.
        shop.until(async || shop.client.bus_health().ok()).await;
        shop
    }

    /// Asks again, whenever something moved or a moment has gone by, until there is an answer.
    pub async fn until<T>(&self, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let mut moves = self.moves.clone();
        let wait = async {
            loop {
                moves.mark_unchanged();
                if let Some(found) = ask().await {
                    return found;
                }
                // What the bus does by itself moves nothing in the runtime.
                let _ = tokio::time::timeout(Duration::from_millis(20), moves.changed()).await;
            }
        };
        within(wait, "what is waited for never happened").await
    }

    /// Waits until the saga has handled so many messages, and answers with its history.
    pub async fn journal(&self, lines: usize) -> Vec<JournalRow> {
        self.until(async || {
            let journal = self.store.journal(Intake::NAME, ORDER).await.unwrap();
            (journal.len() >= lines).then_some(journal)
        })
        .await
    }

    /// Waits for so many dead letters, and answers with all, the newest first.
    pub async fn dead_letters(&self, count: usize) -> Vec<DeadLetterRow> {
        let all = DeadLetterPage { before: None, limit: 100 };
        self.until(async || {
            let rows = self.store.dead_letters(&all).await.unwrap();
            (rows.len() >= count).then_some(rows)
        })
        .await
    }

    pub async fn totals(&self) -> Vec<Decimal> {
        let stored = self.store.instance(Intake::NAME, ORDER).await.unwrap().unwrap();
        stored.data.read::<Intake>().unwrap().totals
    }

    /// Publishes to the exchange of a type, as MassTransit does.
    pub async fn publish(&self, exchange: &str, envelope: &Value) {
        self.peer.publish(exchange, "", enveloped(&[]), envelope.to_string().as_bytes()).await.unwrap();
    }

    /// Sends to an endpoint's queue.
    pub async fn send(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        self.peer.publish("", queue, properties, body).await.unwrap();
    }

    /// The address of an exchange at this broker, as MassTransit writes it.
    pub fn address(&self, name: &str) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        format!("rabbitmq://{rest}/{name}")
    }
}

async fn within<F: Future>(wait: F, what: &str) -> F::Output {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"))
}

/// The properties that MassTransit gives a message, and headers.
pub fn enveloped(headers: &[(&str, FieldValue)]) -> BasicProperties {
    of_type(Some("application/vnd.masstransit+json"), headers)
}

pub fn of_type(content_type: Option<&str>, headers: &[(&str, FieldValue)]) -> BasicProperties {
    let mut properties = BasicProperties::default();
    properties.with_delivery_mode(2);
    if let Some(content_type) = content_type {
        properties.with_content_type(content_type);
    }
    if !headers.is_empty() {
        let mut table = FieldTable::new();
        for (name, value) in headers {
            table.insert((*name).try_into().unwrap(), value.clone());
        }
        properties.with_headers(table);
    }
    properties.finish()
}

pub fn text(text: &str) -> FieldValue {
    FieldValue::S(text.try_into().unwrap())
}
