//! The runtime: one way through the house for every message.
//!
//! inbound → gather a batch → load → step (pure) → commit → acknowledge; relay → bus → confirm → settle.

mod builder;
mod client;
mod core;
mod deliver;
mod erased;
mod handlers;
mod intake;
mod patience;
mod relay;
mod report;
mod requests;
mod settle;
mod shards;
mod timers;
mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::{Delivery, Endpoint};
use crate::store::StoreError;

pub use builder::RuntimeBuilder;
pub use client::{Client, RedriveError, SubmitError, Submitted};
use core::Core;
use deliver::Submission;
use erased::ErasedHandler;
use handlers::HandlerEndpoint;
use relay::Relay;
pub use requests::{Request, RequestError, Response};
use shards::Partition;
pub use upkeep::Retention;

/// What a process does of all that is registered. Several processes with one store and one bus share the work; whatever
/// is registered is declared to the bus by each, so that no message is without a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Takes the sagas' messages from the bus. Submissions of its own callers a process steps without it.
    pub sagas: bool,
    /// Performs activities and consumes events.
    pub handlers: bool,
    /// Sends the outbox, fires timers and removes old rows.
    pub relay: bool,
}

impl Roles {
    /// Everything.
    pub const ALL: Self = Self { sagas: true, handlers: true, relay: true };
}

impl Default for Roles {
    fn default() -> Self {
        Self::ALL
    }
}

/// What runs on one endpoint.
enum Registered {
    Saga { subscriptions: Vec<&'static str>, start: Box<StartSaga>, partition: Partition },
    Handlers { subscriptions: Vec<&'static str>, handlers: Handlers, options: HandlerOptions },
}

type Handlers = HashMap<&'static str, Arc<dyn ErasedHandler>>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type StartSaga = dyn Fn(Arc<Core>, mpsc::UnboundedReceiver<Delivery>, mpsc::Receiver<Submission>) -> Running + Send;

/// A runtime that is ready to run.
pub struct Runtime {
    core: Arc<Core>,
    client: Client,
    endpoints: BTreeMap<&'static str, Registered>,
    submissions: HashMap<&'static str, Vec<mpsc::Receiver<Submission>>>,
    handed_over: mpsc::UnboundedReceiver<Vec<(crate::commit::OutboxId, crate::commit::OutboxRow)>>,
    drain: Duration,
    roles: Roles,
    retention: Retention,
}

/// How the handlers of one endpoint are run. The first registration on an endpoint decides for all of it.
#[derive(Debug, Clone, Copy)]
pub struct HandlerOptions {
    /// How many of the endpoint's messages are handled at the same time; at least 1.
    pub concurrency: usize,
    /// How long one attempt may take; not zero.
    pub timeout: Duration,
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self { concurrency: 64, timeout: Duration::from_secs(30) }
    }
}

/// Why a runtime can not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The registrations do not fit together: says which, and what to do.
    #[error("{0}")]
    Setup(String),
    /// The bus can not start.
    #[error("the bus can not start: {0}")]
    Bus(#[from] crate::bus::BusError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A loop ended although nobody asked it to: the bus was closed, or a loop has panicked, which is a defect. What was
    /// in hand is stored and goes on at the next start.
    #[error("the runtime ended unasked: {0}; start it again, what was in hand is stored")]
    Ended(String),
}

impl Runtime {
    /// The way in from this process: submissions, publications, redrives.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs until `shutdown` completes; then takes no more, finishes what is in hand within the drain limit, and
    /// leaves the rest stored. Dropping the future stops everything at once, as a crash would; nothing is lost by it.
    ///
    /// # Errors
    /// When it can not start, or one of its loops ends unasked.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RuntimeError> {
        // The client of its own stays until the end: the queues of the submissions must not close because the
        // application, which lives by its bus and its timers, holds none.
        let Self { core, client: _client, endpoints, mut submissions, handed_over, drain, roles, retention } = self;
        let declared = endpoints.iter().flat_map(|(name, it)| it.declare(name, roles));
        let declared: Vec<_> = declared.chain([core.replies.declare()]).collect();
        let (confirm, confirms) = mpsc::unbounded_channel();
        let mut receivers = core.bus.start(&declared, confirm).await?;
        let mut workers = JoinSet::new();
        if let Some(replies) = receivers.pop() {
            workers.spawn(requests::run(core.clone(), replies));
        }
        let mut receivers = receivers.into_iter();
        for (name, registered) in endpoints {
            let mut deliveries: Vec<_> = receivers.by_ref().take(registered.shards()).collect();
            match registered {
                Registered::Saga { start, .. } => {
                    let submissions = submissions.remove(name).into_iter().flatten();
                    for (deliveries, submissions) in deliveries.into_iter().zip(submissions) {
                        workers.spawn(start(core.clone(), deliveries, submissions));
                    }
                }
                Registered::Handlers { .. } if !roles.handlers => {}
                Registered::Handlers { handlers, options, .. } => {
                    let Some(deliveries) = deliveries.pop() else { continue };
                    let endpoint = HandlerEndpoint::new(core.clone(), name, handlers, options);
                    workers.spawn(endpoint.run(deliveries));
                }
            }
        }
        let closing = CancellationToken::new();
        let mut relay = JoinSet::new();
        if roles.relay {
            workers.spawn(timers::run(core.clone()));
            workers.spawn(upkeep::watch(core.clone()));
            workers.spawn(upkeep::look_again(core.clone()));
            workers.spawn(upkeep::purge(core.clone(), retention));
            relay.spawn(Relay { core: core.clone(), handed_over, confirms, closing: closing.clone() }.run());
        }

        let ended = tokio::select! {
            biased;
            () = shutdown => None,
            Some(ended) = workers.join_next() => Some(ended),
            Some(ended) = relay.join_next() => Some(ended),
        };
        core.stopping.cancel();
        // The relay goes last: what the workers commit and acknowledge is settled. One limit holds for all, because a
        // store that is away must not keep the process alive; what is not settled is sent again, and known.
        let in_hand = async {
            while workers.join_next().await.is_some() {}
            closing.cancel();
            while relay.join_next().await.is_some() {}
        };
        let in_time = tokio::select! {
            biased;
            () = in_hand => true,
            () = core.clock.sleep(drain) => false,
        };
        if !in_time {
            tracing::warn!(limit = ?drain, "not everything in hand was finished; the rest is stored and goes on at the next start");
            workers.shutdown().await;
            relay.shutdown().await;
        }
        match ended {
            None => Ok(()),
            Some(Ok(())) => Err(RuntimeError::Ended("the bus delivers no more".to_owned())),
            Some(Err(error)) => Err(RuntimeError::Ended(format!("a loop did not end by itself: {error}"))),
        }
    }
}

impl Registered {
    /// How many channels of deliveries it has.
    fn shards(&self) -> usize {
        match self {
            Self::Saga { partition, .. } => partition.shards,
            Self::Handlers { .. } => 1,
        }
    }

    fn declare(&self, name: &'static str, roles: Roles) -> Vec<Endpoint> {
        let (subscriptions, handles, prefetch, consumed) = match self {
            Self::Saga { subscriptions, .. } => (subscriptions, subscriptions.clone(), 2 * core::BATCH, roles.sagas),
            Self::Handlers { subscriptions, handlers, options } => {
                let mut handles: Vec<_> = handlers.keys().copied().collect();
                handles.sort_unstable();
                (subscriptions, handles, options.concurrency + core::BATCH, roles.handlers)
            }
        };
        let subscriptions = subscriptions.clone();
        let whole =
            Endpoint { name: name.into(), subscriptions, handles, consumed, temporary: false, prefetch, shard: None };
        match self {
            Self::Saga { partition, .. } => {
                partition.all().map(|it| Endpoint { shard: Some(it), ..whole.clone() }).collect()
            }
            Self::Handlers { .. } => vec![whole],
        }
    }
}
