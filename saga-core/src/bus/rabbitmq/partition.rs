//! The queues of an endpoint in shards, and how its messages come into them.
//!
//! What is published for endpoint `q` goes from its exchange to the exchange `q_shards`, which is direct: each shard's queue,
//! `q_shard_0` and so on, is bound to it by the numbers of its buckets. A publisher of this library names the bucket as
//! routing key; what comes without one goes to `q_unsorted`, and is moved to its shard by a consumer that reads it. So it
//! is with the queue `q` itself, where a command may have been sent to straight, or before there were shards.

use std::sync::atomic::{AtomicBool, Ordering};

use amqprs::channel::{
    ExchangeDeclareArguments, ExchangeType, ExchangeUnbindArguments, QueueDeclareArguments, QueueUnbindArguments,
};
use amqprs::{FieldTable, FieldValue};

use super::connection::{CALL_LIMIT, Connected, Loss, NOT_FOUND, Opened};
use super::properties;
use super::topology::{self, Part, Plan};
use crate::bus::{BUCKETS, Shard};
use crate::message::Envelope;

/// The queue of a shard.
pub(super) fn shard(endpoint: &str, index: usize) -> String {
    format!("{endpoint}_shard_{index}")
}

/// The exchange and the queue of what has no bucket yet.
pub(super) fn unsorted(endpoint: &str) -> String {
    format!("{endpoint}_unsorted")
}

/// The exchange that knows the buckets.
pub(super) fn shards(endpoint: &str) -> String {
    format!("{endpoint}_shards")
}

/// The queue in which an endpoint of so many shards has the messages of one.
fn queue(endpoint: &str, index: usize, of: usize) -> String {
    if of > 1 { shard(endpoint, index) } else { endpoint.to_owned() }
}

/// Whether the buckets of queues that were bound otherwise before have been looked after in this process.
#[derive(Debug, Default)]
pub(super) struct Tidied(AtomicBool);

impl Plan {
    /// Which queue a message belongs to, if it is not the one that this consumes.
    pub(super) fn elsewhere(&self, envelope: &Envelope) -> Option<String> {
        match &self.part {
            Part::Whole => None,
            Part::Shard { shard, .. } => {
                let place = shard.place(envelope);
                (place != shard.index).then(|| queue(&self.name, place, shard.of))
            }
            Part::Sorter { shard } => Some(queue(&self.name, shard.place(envelope), shard.of)),
        }
    }

    /// Which queue a message that is sent to the endpoint goes into, if that is not the one of its name.
    pub(super) fn shard_queue(&self, envelope: &Envelope) -> Option<String> {
        let Part::Shard { shard, .. } = &self.part else { return None };
        Some(queue(&self.name, shard.place(envelope), shard.of))
    }

    /// The routing key by which a published message finds its shard.
    pub(super) fn bucket(&self, envelope: &Envelope) -> Option<String> {
        let Part::Shard { shard, .. } = &self.part else { return None };
        Some(shard.key.bucket(envelope).to_string())
    }

    /// The queues whose messages move to the shards of this endpoint, besides those that a smaller number has left over.
    pub(super) fn sorters(&self) -> Vec<Self> {
        match &self.part {
            Part::Shard { shard, .. } if shard.index == 0 => {
                vec![self.sorter(self.name.clone(), shard), self.sorter(unsorted(&self.name), shard)]
            }
            Part::Whole | Part::Shard { .. } | Part::Sorter { .. } => Vec::new(),
        }
    }

    /// Whether it is a shard, whose queue has one active consumer at a time.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.part, Part::Shard { .. })
    }

    fn sorter(&self, queue: String, shard: &Shard) -> Self {
        Self { queue, part: Part::Sorter { shard: shard.clone() }, ..self.clone() }
    }

    /// Declares the queue of a shard, and what all shards share; binds nothing to it yet.
    pub(super) async fn declare_shard(&self, channel: &mut Opened, shard: &Shard) -> Result<(), Loss> {
        if shard.index == 0 {
            self.declare_shared(channel).await?;
        } else {
            declare_shards(channel, &self.name).await?;
        }
        topology::declare_queue(channel, &self.queue, self.single_active()).await
    }

    /// Binds the queue of a shard to its buckets, and, the first time in this process, to no others: there may have been
    /// another number of shards before.
    pub(super) async fn bind_shard(&self, channel: &mut Opened, shard: &Shard, tidied: &Tidied) -> Result<(), Loss> {
        let exchange = shards(&self.name);
        for bucket in (0..BUCKETS).filter(|it| it % shard.of == shard.index) {
            topology::bind_queue(channel, &self.queue, &exchange, &bucket.to_string()).await?;
        }
        if !tidied.0.load(Ordering::Relaxed) {
            let others = (0..BUCKETS).filter(|it| it % shard.of != shard.index);
            unbind_buckets(channel, &self.queue, &exchange, others).await?;
            tidied.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Declares a queue whose messages move. A shard that is left over from another number hears no more buckets, and an
    /// endpoint without shards none of theirs.
    pub(super) async fn declare_sorter(&self, channel: &mut Opened, shard: &Shard) -> Result<(), Loss> {
        if self.queue == self.name {
            return topology::declare_queue(channel, &self.queue, self.arguments()).await;
        }
        topology::declare_queue(channel, &self.queue, self.single_active()).await?;
        if shard.of == 1 {
            topology::bind_queue(channel, &self.name, &self.name, "").await?;
            return unbind_exchange(channel, &self.name, &shards(&self.name)).await;
        }
        if self.queue == unsorted(&self.name) {
            Ok(())
        } else {
            unbind_buckets(channel, &self.queue, &shards(&self.name), 0..BUCKETS).await
        }
    }

    /// The part of the topology that is no shard's own. At every moment each message that is published has a queue.
    async fn declare_shared(&self, channel: &mut Opened) -> Result<(), Loss> {
        let (name, unsorted) = (&self.name, unsorted(&self.name));
        self.declare_own(channel).await?;
        topology::declare_queue(channel, name, self.arguments()).await?;
        topology::declare_exchange(channel, &unsorted, true).await?;
        topology::declare_queue(channel, &unsorted, self.single_active()).await?;
        topology::bind_queue(channel, &unsorted, &unsorted, "").await?;
        declare_shards(channel, name).await?;
        topology::bind_exchange(channel, name, &shards(name)).await?;
        unbind_queue(channel, name, name, "").await?;
        self.declare_types(channel).await
    }

    fn single_active(&self) -> Vec<(&'static str, FieldValue)> {
        let single = [("x-single-active-consumer", FieldValue::t(true))];
        self.arguments().into_iter().chain(single).collect()
    }
}

/// The queues in which messages of an endpoint may be that are not its own any more, because it had more shards once: they
/// are numbered without a gap, so whoever deletes them when they are empty begins with the highest number. Those of an
/// endpoint that never had are none; to know that costs a channel. Who consumes nothing of an endpoint leaves its queues
/// alone.
pub(super) async fn left_over(connection: &mut Connected, plans: &[Plan]) -> Result<Vec<Plan>, Loss> {
    let mut found = Vec::new();
    for plan in plans.iter().filter(|it| it.consumed) {
        let Some(shard) = plan.first_shard() else { continue };
        let first = if shard.of > 1 { shard.of } else { 0 };
        let mut channel = connection.channel().await?;
        for index in first..BUCKETS {
            let queue = self::shard(&plan.name, index);
            if let Err(loss) = consumers(&mut channel, &queue).await {
                // That it is not there, the broker says by closing the channel. Anything else tells nothing of the queue.
                if loss.code != Some(NOT_FOUND) {
                    return Err(loss);
                }
                connection.count_error(&loss)?;
                break;
            }
            found.push(plan.sorter(queue, shard));
        }
        if shard.of == 1 && found.iter().any(|it| it.home == plan.home) {
            found.push(plan.sorter(unsorted(&plan.name), shard));
        }
        if channel.channel.is_open() {
            channel.close().await;
        }
    }
    for it in &found {
        tracing::info!(
            endpoint = it.name,
            queue = it.queue,
            "the queue is left over from another number of shards; its messages move"
        );
    }
    Ok(found)
}

/// Declares the exchange that knows the buckets.
async fn declare_shards(channel: &mut Opened, endpoint: &str) -> Result<(), Loss> {
    let name = shards(endpoint);
    let mut table = FieldTable::new();
    if let (Some(key), Ok(value)) = (properties::short("alternate-exchange"), unsorted(endpoint).try_into()) {
        table.insert(key, FieldValue::S(value));
    }
    let mut arguments = ExchangeDeclareArguments::of_type(&name, ExchangeType::Direct);
    arguments.durable(true).arguments(table);
    let what = format!("declaring exchange {name}");
    let call = channel.watch.call(&what, CALL_LIMIT, channel.channel.exchange_declare(arguments)).await;
    call.map_err(|error| {
        topology::mismatch(channel.loss(&what, &error), &format!("exchange {name}"), "a durable direct exchange")
    })
}

async fn unbind_buckets(
    channel: &mut Opened,
    queue: &str,
    exchange: &str,
    buckets: impl IntoIterator<Item = usize>,
) -> Result<(), Loss> {
    for bucket in buckets {
        unbind_queue(channel, queue, exchange, &bucket.to_string()).await?;
    }
    Ok(())
}

/// Unbinds a queue; that it was not bound is no error of the broker's.
async fn unbind_queue(channel: &mut Opened, queue: &str, exchange: &str, key: &str) -> Result<(), Loss> {
    let what = format!("unbinding queue {queue} from exchange {exchange}");
    let unbind = channel.channel.queue_unbind(QueueUnbindArguments::new(queue, exchange, key));
    let call = channel.watch.call(&what, CALL_LIMIT, unbind).await;
    call.map_err(|error| channel.loss(&what, &error))
}

async fn unbind_exchange(channel: &mut Opened, source: &str, destination: &str) -> Result<(), Loss> {
    let what = format!("unbinding exchange {destination} from exchange {source}");
    let unbind = channel.channel.exchange_unbind(ExchangeUnbindArguments::new(destination, source, ""));
    let call = channel.watch.call(&what, CALL_LIMIT, unbind).await;
    call.map_err(|error| channel.loss(&what, &error))
}

/// How many consume a queue; of one with a single active consumer, that one.
pub(super) async fn consumers(channel: &mut Opened, queue: &str) -> Result<usize, Loss> {
    let mut arguments = QueueDeclareArguments::new(queue);
    arguments.passive(true);
    let what = format!("looking at queue {queue}");
    let call = channel.watch.call(&what, CALL_LIMIT, channel.channel.queue_declare(arguments)).await;
    let found = call.map_err(|error| channel.loss(&what, &error))?;
    Ok(found.map_or(0, |(_, _, consumers)| usize::try_from(consumers).unwrap_or(usize::MAX)))
}
