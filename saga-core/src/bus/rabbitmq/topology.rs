//! What exists at the broker, and how it is declared: MassTransit's topology.

use std::sync::Arc;
use std::time::Duration;

use amqprs::channel::{
    ExchangeBindArguments, ExchangeDeclareArguments, ExchangeType, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::{FieldTable, FieldValue};

use super::balance::Balance;
use super::builder::QueueType;
use super::connection::{CALL_LIMIT, Cause, Loss, Opened};
use super::partition::{self, Tidied};
use super::properties;
use crate::bus::{BUCKETS, Endpoint, Shard};
use crate::wire::{WireError, entity_name};

/// How often a quorum queue delivers a message before it moves it to the endpoint's `_error` queue. The runtime gives a
/// message up long before, and keeps it as a dead letter; this is for one that nobody can even receive. Said in so many
/// words because RabbitMQ 4 would delete a message after 20.
const DELIVERY_LIMIT: i64 = 100;
/// Of a queue where messages are put aside: nobody's consumer may lose one there.
const NO_DELIVERY_LIMIT: i64 = i32::MAX as i64;
/// How long the queue of a temporary endpoint outlives its consumer: long enough to connect again, with its answers there.
const TEMPORARY_EXPIRES: Duration = Duration::from_secs(60);

/// The broker's answers to a declaration that can not stand.
const ACCESS_REFUSED: u16 = 403;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;

/// An endpoint as it is at the broker: a fanout exchange and a queue of its name, and an exchange for each type that it
/// subscribes to, bound to its own. An endpoint in shards has a plan for each, and for each queue that it sorts.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The endpoint's name.
    pub(super) name: String,
    /// The queue that is consumed.
    pub(super) queue: String,
    /// Which part of the endpoint that is.
    pub(super) part: Part,
    /// The number of the endpoint's first plan.
    pub(super) home: usize,
    /// The shard that it was declared as.
    pub(super) shard: Option<Shard>,
    /// The exchanges of its subscriptions.
    pub(super) types: Vec<String>,
    pub(super) queue_type: QueueType,
    pub(super) temporary: bool,
    pub(super) consumed: bool,
    pub(super) prefetch: u16,
    pub(super) handles: Vec<&'static str>,
}

/// A part of an endpoint.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// One of several shards.
    Shard {
        /// Which.
        shard: Shard,
        /// Which of them this process has.
        balance: Arc<Balance>,
        tidied: Arc<Tidied>,
    },
    /// Messages that move to the shards that they belong to.
    Sorter {
        /// The first of these.
        shard: Shard,
    },
}

impl Plan {
    /// The plans of all endpoints, in their order; behind them those of what is sorted.
    pub(super) fn all(
        endpoints: &[Endpoint],
        queue_type: QueueType,
        most_prefetch: u16,
    ) -> Result<Vec<Self>, WireError> {
        let mut plans: Vec<Self> = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let mut plan = Self::new(endpoint, index, queue_type, most_prefetch)?;
            if let Some(first) = plans.last().filter(|it| it.name == plan.name) {
                plan.home = first.home;
                if let (Part::Shard { balance, .. }, Part::Shard { balance: shared, .. }) =
                    (&mut plan.part, &first.part)
                {
                    *balance = shared.clone();
                }
            }
            plans.push(plan);
        }
        let sorters: Vec<_> = plans.iter().flat_map(Self::sorters).collect();
        plans.extend(sorters);
        Ok(plans)
    }

    fn new(endpoint: &Endpoint, home: usize, queue_type: QueueType, most_prefetch: u16) -> Result<Self, WireError> {
        let types = endpoint.subscriptions.iter().map(|it| entity_name(it)).collect::<Result<_, _>>()?;
        // Of the names that are derived from it, the longest must fit, too.
        entity_name(&skipped(&endpoint.name))?;
        let mut queue = endpoint.name.to_string();
        let part = match &endpoint.shard {
            Some(shard) if shard.of > 1 => {
                entity_name(&partition::shard(&endpoint.name, BUCKETS))?;
                queue = partition::shard(&endpoint.name, shard.index);
                Part::Shard { shard: shard.clone(), balance: Arc::default(), tidied: Arc::default() }
            }
            _ => Part::Whole,
        };
        Ok(Self {
            name: endpoint.name.to_string(),
            queue,
            part,
            home,
            shard: endpoint.shard.clone(),
            types,
            queue_type,
            temporary: endpoint.temporary,
            consumed: endpoint.consumed,
            prefetch: u16::try_from(endpoint.prefetch).unwrap_or(u16::MAX).clamp(1, most_prefetch),
            handles: endpoint.handles.clone(),
        })
    }

    /// The shard that the endpoint was declared as, of its first plan alone.
    pub(super) fn first_shard(&self) -> Option<&Shard> {
        match &self.part {
            Part::Whole | Part::Shard { .. } => self.shard.as_ref().filter(|it| it.index == 0),
            Part::Sorter { .. } => None,
        }
    }

    /// Declares it; what is there already as it should be is left alone. Which shard hears which bucket is its consumer's to
    /// say: one who only publishes may still believe in another number of shards.
    pub(super) async fn declare(&self, channel: &mut Opened) -> Result<(), Loss> {
        self.declare_places(channel).await?;
        match &self.part {
            Part::Shard { shard, tidied, .. } if self.consumed => self.bind_shard(channel, shard, tidied).await,
            Part::Whole | Part::Shard { .. } | Part::Sorter { .. } => Ok(()),
        }
    }

    /// Declares what can be published to.
    pub(super) async fn declare_places(&self, channel: &mut Opened) -> Result<(), Loss> {
        match &self.part {
            Part::Shard { shard, .. } => return self.declare_shard(channel, shard).await,
            Part::Sorter { shard } => return self.declare_sorter(channel, shard).await,
            Part::Whole => {}
        }
        if self.temporary {
            // As MassTransit's own: whoever answers to such an address declares it so, too.
            declare_exchange(channel, &self.name, false).await?;
            let expires = i64::try_from(TEMPORARY_EXPIRES.as_millis()).unwrap_or(i64::MAX);
            declare_queue(channel, &self.name, vec![("x-expires", FieldValue::l(expires))]).await?;
        } else {
            self.declare_own(channel).await?;
            declare_queue(channel, &self.name, self.arguments()).await?;
        }
        bind_queue(channel, &self.name, &self.name, "").await?;
        self.declare_types(channel).await
    }

    /// Declares its exchange, and the queue of what nobody could receive.
    pub(super) async fn declare_own(&self, channel: &mut Opened) -> Result<(), Loss> {
        declare_exchange(channel, &self.name, true).await?;
        if self.queue_type == QueueType::Quorum {
            declare_queue(channel, &error(&self.name), put_aside(self.queue_type)).await?;
        }
        Ok(())
    }

    /// Declares the types that it hears, and binds them to its exchange.
    pub(super) async fn declare_types(&self, channel: &mut Opened) -> Result<(), Loss> {
        for name in &self.types {
            declare_exchange(channel, name, true).await?;
            bind_exchange(channel, name, &self.name).await?;
        }
        Ok(())
    }

    /// Declares where it puts the messages of types that it does not handle.
    pub(super) async fn declare_skipped(&self, channel: &mut Opened) -> Result<(), Loss> {
        let name = skipped(&self.name);
        declare_exchange(channel, &name, true).await?;
        declare_queue(channel, &name, put_aside(self.queue_type)).await?;
        bind_queue(channel, &name, &name, "").await
    }

    pub(super) fn arguments(&self) -> Vec<(&'static str, FieldValue)> {
        match self.queue_type {
            QueueType::Classic => Vec::new(),
            QueueType::Quorum => vec![
                ("x-queue-type", "quorum".into()),
                ("x-delivery-limit", FieldValue::l(DELIVERY_LIMIT)),
                // At least once: the message stays in this queue until the other one has confirmed it.
                ("x-dead-letter-strategy", "at-least-once".into()),
                ("x-overflow", "reject-publish".into()),
                ("x-dead-letter-exchange", "".into()),
                ("x-dead-letter-routing-key", error(&self.name).into()),
            ],
        }
    }
}

/// The queue where an endpoint puts the messages of types that it does not handle.
pub(super) fn skipped(endpoint: &str) -> String {
    format!("{endpoint}_skipped")
}

/// The queue where the broker puts what nobody could receive.
fn error(endpoint: &str) -> String {
    format!("{endpoint}_error")
}

fn put_aside(queue_type: QueueType) -> Vec<(&'static str, FieldValue)> {
    match queue_type {
        QueueType::Classic => Vec::new(),
        QueueType::Quorum => {
            vec![("x-queue-type", "quorum".into()), ("x-delivery-limit", FieldValue::l(NO_DELIVERY_LIMIT))]
        }
    }
}

/// Declares a fanout exchange.
pub(super) async fn declare_exchange(channel: &mut Opened, name: &str, durable: bool) -> Result<(), Loss> {
    let mut arguments = ExchangeDeclareArguments::of_type(name, ExchangeType::Fanout);
    arguments.durable(durable).auto_delete(!durable);
    let what = format!("declaring exchange {name}");
    let call = channel.watch.call(&what, CALL_LIMIT, channel.channel.exchange_declare(arguments)).await;
    call.map_err(|error| {
        let wanted =
            if durable { "a durable fanout exchange" } else { "a fanout exchange that is deleted with its queue" };
        mismatch(channel.loss(&what, &error), &format!("exchange {name}"), wanted)
    })
}

/// Asks whether an exchange is there. If not, the broker closes the channel.
pub(super) async fn find_exchange(channel: &mut Opened, name: &str) -> Result<(), Loss> {
    let mut arguments = ExchangeDeclareArguments::new(name, "");
    arguments.passive(true);
    let what = format!("looking for exchange {name}");
    let call = channel.watch.call(&what, CALL_LIMIT, channel.channel.exchange_declare(arguments)).await;
    call.map_err(|error| channel.loss(&what, &error))
}

/// Passes on to `destination` what is published to `source`.
pub(super) async fn bind_exchange(channel: &mut Opened, source: &str, destination: &str) -> Result<(), Loss> {
    let arguments = ExchangeBindArguments::new(destination, source, "");
    let what = format!("binding exchange {source} to exchange {destination}");
    let call = channel.watch.call(&what, CALL_LIMIT, channel.channel.exchange_bind(arguments)).await;
    call.map_err(|error| mismatch(channel.loss(&what, &error), &format!("a binding of exchange {source}"), "it"))
}

pub(super) async fn declare_queue(
    channel: &mut Opened,
    name: &str,
    arguments: Vec<(&'static str, FieldValue)>,
) -> Result<(), Loss> {
    let wanted = arguments.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");
    let mut table = FieldTable::new();
    for (name, value) in arguments {
        if let Some(name) = properties::short(name) {
            table.insert(name, value);
        }
    }
    let arguments = QueueDeclareArguments::durable_client_named(name).arguments(table).finish();
    let what = format!("declaring queue {name}");
    let call = channel.watch.call(&what, CALL_LIMIT, channel.channel.queue_declare(arguments)).await;
    call.map(drop).map_err(|error| {
        let wanted = if wanted.is_empty() {
            "a durable queue without arguments"
        } else {
            &format!("a durable queue with {wanted}")
        };
        mismatch(channel.loss(&what, &error), &format!("queue {name}"), wanted)
    })
}

/// Takes into a queue what an exchange has under a routing key.
pub(super) async fn bind_queue(channel: &mut Opened, name: &str, exchange: &str, key: &str) -> Result<(), Loss> {
    let arguments = QueueBindArguments::new(name, exchange, key);
    let what = format!("binding queue {name} to exchange {exchange}");
    let call = channel.watch.call(&what, CALL_LIMIT, channel.channel.queue_bind(arguments)).await;
    call.map_err(|error| mismatch(channel.loss(&what, &error), &format!("a binding of queue {name}"), "it"))
}

/// Tells a declaration that will never stand from one that failed with its connection, and what to do.
pub(super) fn mismatch(loss: Loss, entity: &str, wanted: &str) -> Loss {
    let text = &loss.why;
    let why = match loss.code {
        Some(PRECONDITION_FAILED) => format!(
            "{entity} exists with other arguments than this bus declares ({wanted}): {text}. Delete it at the broker \
             when nothing is left in it, or build the bus with the queue type that it has"
        ),
        Some(RESOURCE_LOCKED) => format!(
            "{entity} belongs to another connection alone: {text}. Stop that one, or name the endpoint otherwise"
        ),
        Some(ACCESS_REFUSED) => {
            format!("the broker's user may not declare {entity}: {text}. Let it configure, write and read it")
        }
        _ => return loss,
    };
    Loss { cause: Cause::Topology, why, code: loss.code }
}
