//! RabbitMQ without anything of ours between: who submits from outside, and the raw ceilings of the broker.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use amqprs::callbacks::{ChannelCallback, DefaultChannelCallback, DefaultConnectionCallback};
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, QueueDeclareArguments, QueueDeleteArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, DELIVERY_MODE_PERSISTENT, FieldTable, FieldValue, Nack, Return,
};
use async_trait::async_trait;
use tokio::sync::Semaphore;
use url::Url;

/// How many messages may wait for their confirms.
pub(crate) const WINDOW: usize = 256;
/// How many messages the broker sends ahead, and how many are acknowledged together.
const PREFETCH: u16 = 512;
const ACKNOWLEDGED: u64 = 256;
/// After so many messages others have their turn: amqprs takes messages faster than it sends them.
const BURST: u64 = 64;

/// Publishes persistent messages, never more than [`WINDOW`] of them unconfirmed.
#[derive(Clone)]
pub(crate) struct Publisher {
    channel: Channel,
    next: Arc<tokio::sync::Mutex<u64>>,
    window: Arc<Window>,
    // Last: channels say goodbye over it.
    _connection: Connection,
}

/// What is not confirmed.
struct Window {
    tags: Mutex<BTreeSet<u64>>,
    places: Semaphore,
}

impl Publisher {
    pub(crate) async fn to(url: &str) -> Self {
        let connection = connect(url).await;
        let channel = connection.open_channel(None).await.expect("a channel");
        let window = Arc::new(Window { tags: Mutex::default(), places: Semaphore::new(WINDOW) });
        channel.register_callback(Confirms(window.clone())).await.expect("callbacks");
        channel.confirm_select(ConfirmSelectArguments::default()).await.expect("confirms");
        Self { channel, next: Arc::default(), window, _connection: connection }
    }

    /// Returns when the message is on its way; it is confirmed later.
    pub(crate) async fn publish(&self, exchange: &str, key: &str, properties: BasicProperties, body: Vec<u8>) {
        self.window.places.acquire().await.expect("it is never closed").forget();
        // The broker counts messages in the order in which they come.
        let mut next = self.next.lock().await;
        *next += 1;
        self.window.tags.lock().unwrap_or_else(PoisonError::into_inner).insert(*next);
        let arguments = BasicPublishArguments::new(exchange, key);
        self.channel.basic_publish(properties, body, arguments).await.expect("a channel that is open");
        if next.is_multiple_of(BURST) {
            tokio::task::yield_now().await;
        }
    }

    /// Returns when everything is confirmed.
    pub(crate) async fn confirmed(&self) {
        drop(self.window.places.acquire_many(WINDOW as u32).await.expect("it is never closed"));
    }
}

/// Properties of a persistent message.
pub(crate) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(DELIVERY_MODE_PERSISTENT).finish()
}

/// A quorum queue of its own on the broker.
pub(crate) struct Queue {
    channel: Channel,
    name: &'static str,
    _connection: Connection,
}

impl Queue {
    pub(crate) async fn declare(url: &str, name: &'static str) -> Self {
        let connection = connect(url).await;
        let channel = connection.open_channel(None).await.expect("a channel");
        channel.register_callback(DefaultChannelCallback).await.expect("callbacks");
        let mut table = FieldTable::new();
        table.insert("x-queue-type".try_into().expect("a name"), FieldValue::from("quorum".to_owned()));
        let mut arguments = QueueDeclareArguments::durable_client_named(name);
        channel.queue_declare(arguments.arguments(table).finish()).await.expect("a queue");
        Self { channel, name, _connection: connection }
    }

    /// Takes so many messages and acknowledges them; returns when the broker has seen that.
    pub(crate) async fn consume(&self, messages: u64) {
        self.channel.basic_qos(BasicQosArguments::new(0, PREFETCH, false)).await.expect("a prefetch");
        let arguments = BasicConsumeArguments::new(self.name, "ceiling").manual_ack(true).finish();
        let (tag, mut deliveries) = self.channel.basic_consume_rx(arguments).await.expect("a consumer");
        for number in 1..=messages {
            let delivery = deliveries.recv().await.expect("a delivery");
            if number.is_multiple_of(ACKNOWLEDGED) || number == messages {
                let tag = delivery.deliver.expect("its address").delivery_tag();
                self.channel.basic_ack(BasicAckArguments::new(tag, true)).await.expect("an acknowledgement");
            }
        }
        let cancel = amqprs::channel::BasicCancelArguments::new(&tag);
        self.channel.basic_cancel(cancel).await.expect("no more deliveries");
    }

    pub(crate) async fn delete(self) {
        self.channel.queue_delete(QueueDeleteArguments::new(self.name)).await.expect("no queue any more");
    }
}

async fn connect(url: &str) -> Connection {
    let url = Url::parse(url).unwrap_or_else(|error| panic!("--bus: {error}"));
    let (host, port) = (url.host_str().unwrap_or("localhost"), url.port().unwrap_or(5672));
    let mut arguments = OpenConnectionArguments::new(host, port, url.username(), url.password().unwrap_or_default());
    let vhost = url.path().trim_start_matches('/').replace("%2f", "/").replace("%2F", "/");
    arguments.virtual_host(&vhost).connection_name("flow");
    let connection = Connection::open(&arguments).await.expect("a broker");
    connection.register_callback(DefaultConnectionCallback).await.expect("callbacks");
    connection
}

/// Gives places back as confirms come in.
struct Confirms(Arc<Window>);

#[async_trait]
impl ChannelCallback for Confirms {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), amqprs::error::Error> {
        panic!("the broker has closed the channel: {close}");
    }
    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, _: bool) -> Result<bool, amqprs::error::Error> {
        Ok(true)
    }
    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        let (tag, mut tags) = (ack.delivery_tag(), self.0.tags.lock().unwrap_or_else(PoisonError::into_inner));
        let confirmed = if ack.mutiple() {
            let later = tags.split_off(&(tag + 1));
            std::mem::replace(&mut *tags, later).len()
        } else {
            usize::from(tags.remove(&tag))
        };
        self.0.places.add_permits(confirmed);
    }
    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        panic!("the broker has refused message {}", nack.delivery_tag());
    }
    async fn publish_return(&mut self, _: &Channel, returned: Return, _: BasicProperties, _: Vec<u8>) {
        panic!("no queue has taken a message: {returned}");
    }
}
