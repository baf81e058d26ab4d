//! Another program at the same broker, which knows amqprs and nothing of this library.

use amqprs::callbacks::{DefaultChannelCallback, DefaultConnectionCallback};
use amqprs::channel::{
    BasicAckArguments, BasicGetArguments, BasicPublishArguments, Channel, ExchangeDeclareArguments, QueueBindArguments,
    QueueDeclareArguments, QueueDeleteArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{BasicProperties, FieldTable, FieldValue};
use tokio::time::Instant;

use super::house::PATIENCE;

pub struct Foreign {
    // The channel first: it says goodbye over the connection.
    channel: Channel,
    _connection: Connection,
}

impl Foreign {
    pub async fn at(url: &str) -> Self {
        let (user, rest) = url.strip_prefix("amqp://").unwrap().split_once('@').unwrap();
        let (address, vhost) = rest.split_once('/').unwrap();
        let ((user, password), (host, port)) = (user.split_once(':').unwrap(), address.split_once(':').unwrap());
        let mut arguments = OpenConnectionArguments::new(host, port.parse().unwrap(), user, password);
        arguments.virtual_host(&vhost.replace("%2f", "/")).connection_name("foreign");
        let connection = Connection::open(&arguments).await.unwrap();
        connection.register_callback(DefaultConnectionCallback).await.unwrap();
        let channel = connection.open_channel(None).await.unwrap();
        channel.register_callback(DefaultChannelCallback).await.unwrap();
        Self { channel, _connection: connection }
    }

    /// Publishes and returns when the broker has seen it: the call after it is answered.
    pub async fn publish(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) {
        let arguments = BasicPublishArguments::new(exchange, key);
        self.channel.basic_publish(properties, body.to_vec(), arguments).await.unwrap();
        self.channel.flow(true).await.unwrap();
    }

    pub async fn declare_queue(&self, name: &str, arguments: &[(&str, FieldValue)]) {
        let mut table = FieldTable::new();
        for (name, value) in arguments {
            table.insert((*name).try_into().unwrap(), value.clone());
        }
        let declare = QueueDeclareArguments::durable_client_named(name).arguments(table).finish();
        self.channel.queue_declare(declare).await.unwrap();
    }

    pub async fn declare_exchange(&self, name: &str, kind: &str) {
        let declare = ExchangeDeclareArguments::new(name, kind).durable(true).finish();
        self.channel.exchange_declare(declare).await.unwrap();
    }

    pub async fn bind(&self, queue: &str, exchange: &str) {
        self.channel.queue_bind(QueueBindArguments::new(queue, exchange, "")).await.unwrap();
    }

    pub async fn delete_queue(&self, name: &str) {
        self.channel.queue_delete(QueueDeleteArguments::new(name)).await.unwrap();
    }

    /// How many messages are ready in a queue, which must exist.
    pub async fn ready(&self, queue: &str) -> u32 {
        let declare = QueueDeclareArguments::new(queue).passive(true).finish();
        self.channel.queue_declare(declare).await.unwrap().unwrap().1
    }

    /// Takes one message out of a queue, waiting for it.
    pub async fn take(&self, queue: &str) -> (BasicProperties, Vec<u8>) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some((got, properties, body)) = self.channel.basic_get(BasicGetArguments::new(queue)).await.unwrap()
            {
                self.channel.basic_ack(BasicAckArguments::new(got.delivery_tag(), false)).await.unwrap();
                return (properties, body);
            }
            assert!(Instant::now() < until, "nothing came to {queue}");
        }
    }
}

/// A text among the headers.
pub fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    properties.headers()?.get(&name.try_into().unwrap()).map(ToString::to_string)
}
