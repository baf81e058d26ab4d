//! Where messages go: what must exist at the broker before one is published there, looked after once a connection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::connection::{Cause, Connected, Loss, NOT_FOUND, Opened};
use super::topology::{self, Plan};
use crate::bus::SendError;
use crate::commit::OutboxRow;
use crate::message::Envelope;
use crate::wire::{self, entity_name};

/// How long what can not be published to is not asked for again. Each asking costs a channel, and a storm of messages to a
/// place that does not exist must not cost one each; soon after it was made it is to be found.
const REFUSED_FOR: Duration = Duration::from_secs(2);
/// How many destinations are remembered as looked after: answers go to ever new ones, of processes that come and go.
const READY: usize = 8_192;

/// Where one message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Destination {
    /// Straight into a queue, which must exist.
    Queue(String),
    /// To an exchange, which must exist.
    Exchange(String),
    /// To the exchange of its type; the exchanges of the types that it is as well are bound to that.
    Types(Vec<String>),
    /// To the `_skipped` queue of an endpoint.
    Skipped(usize),
}

impl Destination {
    /// Where an outbox row goes.
    pub(super) fn of(row: &OutboxRow) -> Result<Self, SendError> {
        let place = match &row.destination {
            Some(name) => {
                let place = wire::Destination::of(name);
                place.exchange().map(|name| match place {
                    wire::Destination::Queue(_) => Self::Queue(name),
                    wire::Destination::Exchange(_) => Self::Exchange(name),
                })
            }
            None => {
                row.envelope.message_type.iter().map(|it| entity_name(it)).collect::<Result<_, _>>().map(Self::Types)
            }
        };
        place.map_err(|error| SendError::Unroutable(error.to_string()))
    }

    /// The exchange to publish to.
    pub(super) fn exchange(&self) -> &str {
        match self {
            // Straight into the queue, so that the broker knows whether it is there.
            Self::Queue(_) | Self::Skipped(_) => "",
            Self::Exchange(name) => name,
            Self::Types(names) => names.first().map_or("", |name| name),
        }
    }

    /// Whether the broker must say so when no queue takes the message.
    pub(super) fn is_mandatory(&self) -> bool {
        matches!(self, Self::Queue(_) | Self::Skipped(_))
    }
}

/// What was looked after on this connection.
pub(super) struct Destinations {
    plans: Arc<[Plan]>,
    channel: Option<Opened>,
    ready: HashSet<Destination>,
    refused: HashMap<Destination, (Instant, SendError)>,
}

impl Destinations {
    pub(super) fn new(plans: Arc<[Plan]>) -> Self {
        Self { plans, channel: None, ready: HashSet::new(), refused: HashMap::new() }
    }

    /// Declares all endpoints, so that no message is without a place. One that is there with other arguments is there:
    /// messages can be sent to it, and its consumer says what is wrong.
    pub(super) async fn declare_all(&mut self, connection: &mut Connected, alone: &Mutex<()>) -> Result<(), Loss> {
        for plan in self.plans.clone().iter() {
            let _alone = alone.lock().await;
            let channel = self.channel(connection).await?;
            if let Err(loss) = plan.declare_places(channel).await {
                self.channel_lost(connection, loss)?;
            }
        }
        Ok(())
    }

    /// Where the broker brings a message to its shard, of the endpoints in shards that this process knows: into which
    /// queue, if it is sent; by which routing key, if it is published.
    pub(super) fn place(&self, destination: Destination, envelope: &Envelope) -> (Destination, String) {
        match destination {
            Destination::Queue(name) => {
                let plan = self.plans.iter().find(|it| it.name == name);
                let queue = plan.and_then(|it| it.shard_queue(envelope)).unwrap_or(name);
                (Destination::Queue(queue.clone()), queue)
            }
            Destination::Types(names) => {
                let mut heard = self.plans.iter().filter(|it| it.types.iter().any(|name| names.contains(name)));
                let bucket = heard.find_map(|it| it.bucket(envelope)).unwrap_or_default();
                (Destination::Types(names), bucket)
            }
            Destination::Skipped(_) | Destination::Exchange(_) => self.moved(&destination),
        }
    }

    /// A destination that is known to the queue, and its routing key.
    pub(super) fn moved(&self, destination: &Destination) -> (Destination, String) {
        let routing_key = match destination {
            Destination::Queue(name) => name.clone(),
            Destination::Skipped(endpoint) => self.skipped(*endpoint),
            Destination::Exchange(_) | Destination::Types(_) => String::new(),
        };
        (destination.clone(), routing_key)
    }

    /// Whether an endpoint that this process knows subscribes to the event: then it must reach a queue.
    pub(super) fn is_subscribed(&self, destination: &Destination) -> bool {
        let Destination::Types(names) = destination else { return false };
        self.plans.iter().any(|plan| plan.types.iter().any(|name| names.contains(name)))
    }

    /// Makes sure that a destination can be published to; or says why it can not.
    pub(super) async fn ensure(
        &mut self,
        connection: &mut Connected,
        destination: &Destination,
    ) -> Result<Result<(), SendError>, Loss> {
        if matches!(destination, Destination::Queue(_)) || self.ready.contains(destination) {
            return Ok(Ok(()));
        }
        match self.refused.get(destination) {
            Some((since, why)) if since.elapsed() < REFUSED_FOR => return Ok(Err(why.clone())),
            _ => {}
        }
        let plans = self.plans.clone();
        let channel = self.channel(connection).await?;
        let outcome = match destination {
            Destination::Queue(_) => Ok(()),
            Destination::Exchange(name) => topology::find_exchange(channel, name).await,
            Destination::Types(names) => declare_types(channel, names).await,
            Destination::Skipped(endpoint) => match plans.get(*endpoint) {
                Some(plan) => plan.declare_skipped(channel).await,
                None => Ok(()),
            },
        };
        let Err(loss) = outcome else {
            self.refused.remove(destination);
            if self.ready.len() >= READY {
                self.ready.clear();
            }
            self.ready.insert(destination.clone());
            return Ok(Ok(()));
        };
        let why = match loss.code {
            Some(NOT_FOUND) => SendError::Unroutable(loss.why.clone()),
            _ => SendError::Unavailable(loss.why.clone()),
        };
        if loss.cause == Cause::Topology {
            tracing::warn!(reason = loss.why, "messages can not be published");
        }
        self.channel_lost(connection, loss)?;
        self.refused.retain(|_, (since, _)| since.elapsed() < REFUSED_FOR);
        self.refused.insert(destination.clone(), (Instant::now(), why.clone()));
        Ok(Err(why))
    }

    /// The `_skipped` queue of an endpoint.
    fn skipped(&self, endpoint: usize) -> String {
        self.plans.get(endpoint).map(|it| topology::skipped(&it.name)).unwrap_or_default()
    }

    /// The `_skipped` queues may be gone: they are declared again before the next message.
    pub(super) fn forget_skipped(&mut self) {
        self.ready.retain(|it| !matches!(it, Destination::Skipped(_)));
    }

    async fn channel(&mut self, connection: &Connected) -> Result<&mut Opened, Loss> {
        let channel = match self.channel.take() {
            Some(channel) if channel.channel.is_open() => channel,
            _ => connection.channel().await?,
        };
        Ok(self.channel.insert(channel))
    }

    /// A declaration failed and took its channel along; or it was the connection, which is passed on.
    fn channel_lost(&mut self, connection: &mut Connected, loss: Loss) -> Result<(), Loss> {
        self.channel = None;
        match loss.cause {
            Cause::Topology | Cause::Refused if connection.is_open() => connection.count_error(&loss),
            _ => Err(loss),
        }
    }
}

async fn declare_types(channel: &mut Opened, names: &[String]) -> Result<(), Loss> {
    for name in names {
        topology::declare_exchange(channel, name, true).await?;
    }
    if let Some((concrete, bases)) = names.split_first() {
        for base in bases {
            topology::bind_exchange(channel, concrete, base).await?;
        }
    }
    Ok(())
}
