//! A service that speaks AMQP through amqprs alone.

use std::time::{Duration, Instant};

use amqprs::callbacks::{DefaultChannelCallback, DefaultConnectionCallback};
use amqprs::channel::{
    BasicConsumeArguments, BasicGetArguments, BasicPublishArguments, Channel, ExchangeBindArguments,
    ExchangeDeclareArguments, ExchangeType, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{BasicProperties, FieldTable, FieldValue};
use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Recording;

/// How long a message is waited for that is sure to come: a limit for what is broken, not a pace.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a queue is looked into.
const LOOK: Duration = Duration::from_millis(5);
/// How long MassTransit lets the queue of a bus outlive its process.
const EXPIRES: i64 = 60_000;

/// A service at the broker. It waits for nothing that it sends: what must have happened, a test waits for.
pub struct Peer {
    // The channel first: it says goodbye over the connection.
    channel: Channel,
    _connection: Connection,
}

/// A message that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// The exchange that it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its properties.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.properties.headers()?.get(&name.try_into().ok()?).map(ToString::to_string)
    }
}

impl Peer {
    /// A service at the broker of that URL, `amqp://user:password@host:port/vhost`.
    ///
    /// # Errors
    /// When it does not let us in.
    pub async fn at(url: &str) -> anyhow::Result<Self> {
        let parts = || {
            let (login, rest) = url.strip_prefix("amqp://")?.split_once('@')?;
            let (address, vhost) = rest.split_once('/')?;
            Some((login.split_once(':')?, address.split_once(':')?, vhost))
        };
        let ((user, password), (host, port), vhost) = parts().context("the broker's URL is not as expected")?;
        let mut arguments = OpenConnectionArguments::new(host, port.parse()?, user, password);
        arguments.virtual_host(&vhost.replace("%2f", "/")).connection_name("foreign");
        let connection = Connection::open(&arguments).await?;
        connection.register_callback(DefaultConnectionCallback).await?;
        let channel = connection.open_channel(None).await?;
        channel.register_callback(DefaultChannelCallback).await?;
        Ok(Self { channel, _connection: connection })
    }

    /// Publishes, and returns when the broker has seen it: the call that follows is answered after it.
    ///
    /// # Errors
    /// When the channel is closed, as it is over an exchange that is not there.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let arguments = BasicPublishArguments::new(exchange, routing_key);
        self.channel.basic_publish(properties, body.to_vec(), arguments).await?;
        self.channel.flow(true).await?;
        Ok(())
    }

    /// Publishes what was recorded, as it was.
    ///
    /// # Errors
    /// As [`Peer::publish`].
    pub async fn replay(&self, recording: &Recording) -> anyhow::Result<()> {
        let properties = recording.basic_properties()?;
        self.publish(&recording.exchange, &recording.routing_key, properties, recording.body.as_bytes()).await
    }

    /// Declares the exchange of a message type, as MassTransit does before it publishes one.
    ///
    /// # Errors
    /// When it is there with other arguments.
    pub async fn exchange(&self, name: &str) -> anyhow::Result<()> {
        let mut arguments = ExchangeDeclareArguments::of_type(name, ExchangeType::Fanout);
        let declared = self.channel.exchange_declare(arguments.durable(true).finish()).await;
        declared.with_context(|| format!("declaring exchange {name}, a durable fanout exchange"))
    }

    /// Declares a queue without an exchange of its name, and binds it to the exchange of a message type.
    ///
    /// # Errors
    /// When one of them is there with other arguments.
    pub async fn listen(&self, queue: &str, exchange: &str) -> anyhow::Result<()> {
        self.exchange(exchange).await?;
        let what = || format!("declaring queue {queue}, a durable queue without arguments, and its binding");
        self.channel.queue_declare(QueueDeclareArguments::durable_client_named(queue)).await.with_context(what)?;
        self.channel.queue_bind(QueueBindArguments::new(queue, exchange, "")).await.with_context(what)
    }

    /// Declares a receive endpoint as MassTransit does: an exchange and a queue of its name.
    ///
    /// # Errors
    /// When one of them is there with other arguments.
    pub async fn endpoint(&self, name: &str) -> anyhow::Result<()> {
        self.listen(name, name).await
    }

    /// Declares the endpoint of a bus, where answers come in, as MassTransit does: both vanish with the process.
    ///
    /// # Errors
    /// When one of them is there with other arguments.
    pub async fn bus_endpoint(&self, name: &str) -> anyhow::Result<()> {
        self.temporary_exchange(name).await?;
        let mut expires = FieldTable::new();
        expires.insert("x-expires".try_into()?, FieldValue::l(EXPIRES));
        let mut queue = QueueDeclareArguments::transient_autodelete(name);
        self.channel.queue_declare(queue.arguments(expires).finish()).await?;
        Ok(self.channel.queue_bind(QueueBindArguments::new(name, name, "")).await?)
    }

    /// Declares what MassTransit declares before it sends to an address with `temporary=true`.
    ///
    /// # Errors
    /// When it is there with other arguments.
    pub async fn temporary_exchange(&self, name: &str) -> anyhow::Result<()> {
        let mut arguments = ExchangeDeclareArguments::of_type(name, ExchangeType::Fanout);
        Ok(self.channel.exchange_declare(arguments.auto_delete(true).finish()).await?)
    }

    /// Passes on to the exchange of a message type what is published to an exchange of type topic, under whatever key.
    ///
    /// # Errors
    /// When one of them is there with other arguments.
    pub async fn pass_on(&self, topic: &str, destination: &str) -> anyhow::Result<()> {
        self.exchange(destination).await?;
        let mut arguments = ExchangeDeclareArguments::of_type(topic, ExchangeType::Topic);
        let what = || format!("declaring exchange {topic}, a durable topic exchange, and what it passes on");
        self.channel.exchange_declare(arguments.durable(true).finish()).await.with_context(what)?;
        self.channel.exchange_bind(ExchangeBindArguments::new(destination, topic, "#")).await.with_context(what)
    }

    /// Takes the next message out of a queue, waiting for it.
    ///
    /// # Errors
    /// When the queue is not there, or nothing comes.
    pub async fn take(&self, queue: &str) -> anyhow::Result<Received> {
        let since = Instant::now();
        loop {
            if let Some(received) = self.look(queue).await? {
                return Ok(received);
            }
            ensure!(since.elapsed() < PATIENCE, "nothing came to {queue} within {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many messages wait in a queue, those not counted that somebody has and did not acknowledge.
    ///
    /// # Errors
    /// When there is no such queue, or no broker; this peer is then of no more use.
    pub async fn waiting(&self, queue: &str) -> anyhow::Result<u32> {
        let mut arguments = QueueDeclareArguments::new(queue);
        let declared = self.channel.queue_declare(arguments.passive(true).finish()).await;
        let declared = declared.with_context(|| format!("asking for queue {queue}"))?;
        Ok(declared.map_or(0, |(_, messages, _)| messages))
    }

    /// Takes everything out of a queue that waits in it now. Thousands are asked for at once: asked for one by one, an
    /// answer now and then comes before amqprs expects it, and the channel is gone.
    ///
    /// # Errors
    /// When the queue is not there, or what waited does not come.
    pub async fn drain(&self, queue: &str) -> anyhow::Result<Vec<Received>> {
        let waiting = self.waiting(queue).await?;
        let arguments = BasicConsumeArguments::new(queue, "drain").manual_ack(false).finish();
        let consuming = self.channel.basic_consume_rx(arguments).await;
        let (_, mut messages) = consuming.with_context(|| format!("consuming queue {queue}"))?;
        let mut drained = Vec::new();
        while drained.len() < waiting as usize {
            let message = tokio::time::timeout(PATIENCE, messages.recv()).await;
            let message = message.with_context(|| format!("{} of {waiting} came from {queue}", drained.len()))?;
            let message = message.with_context(|| format!("queue {queue} was cut off"))?;
            let deliver = message.deliver.context("a delivery without its address")?;
            drained.push(Received {
                exchange: deliver.exchange().clone(),
                routing_key: deliver.routing_key().clone(),
                properties: message.basic_properties.unwrap_or_default(),
                body: message.content.unwrap_or_default(),
            });
        }
        Ok(drained)
    }

    /// Takes the next message out of a queue, if one is there.
    ///
    /// # Errors
    /// When the queue is not there.
    pub async fn look(&self, queue: &str) -> anyhow::Result<Option<Received>> {
        // Acknowledged by the broker itself: an acknowledgement of ours might not leave before the process ends.
        let get = BasicGetArguments::new(queue).no_ack(true).finish();
        let got = self.channel.basic_get(get).await.with_context(|| format!("looking into queue {queue}"))?;
        let Some((got, properties, body)) = got else { return Ok(None) };
        let (exchange, routing_key) = (got.exchange().clone(), got.routing_key().clone());
        Ok(Some(Received { exchange, routing_key, properties, body }))
    }
}
