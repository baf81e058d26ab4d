//! What a runtime runs, collected and checked before it runs.

use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::core::{Core, TimerWake};
use super::deliver::SagaEndpoint;
use super::erased::{Consumes, ErasedHandler, Performs};
use super::requests::Replies;
use super::shards::{self, Doors, Partition};
use super::{Client, HandlerOptions, Registered, Retention, Roles, Runtime, RuntimeError, StartSaga};
use crate::activity::Activity;
use crate::bus::Bus;
use crate::clock::{Clock, SystemClock};
use crate::handler::{ActivityHandler, Consumer};
use crate::machine::Machine;
use crate::message::Message;
use crate::probe::{Probe, Probes};
use crate::retry::RetryPolicy;
use crate::saga::Saga;
use crate::store::Store;

/// How many submissions of this process may wait for a saga's endpoint, all its shards together: less than a second's
/// work. More are refused as busy, so that the queue at the edge never grows without bound.
const SUBMISSIONS: usize = 4_096;
/// How long a shutdown waits for what is in hand, if nobody says.
const DRAIN: Duration = Duration::from_secs(10);
/// How often a message may be delivered without being handled, if nobody says: more often than hosts are restarted while
/// one message waits, so that only what ends its process again and again is met.
const DELIVERY_LIMIT: u32 = 20;

/// Collects what a runtime runs.
pub struct RuntimeBuilder {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    retry: RetryPolicy,
    drain: Duration,
    delivery_limit: u32,
    roles: Roles,
    retention: Retention,
    host: Option<Uuid>,
    probes: Probes,
    endpoints: BTreeMap<&'static str, Registered>,
    shards: BTreeMap<&'static str, usize>,
    mistakes: Vec<String>,
}

impl Runtime {
    /// Begins to build a runtime over a store and a bus.
    pub fn builder(store: Arc<dyn Store>, bus: Arc<dyn Bus>) -> RuntimeBuilder {
        RuntimeBuilder {
            store,
            bus,
            clock: Arc::new(SystemClock),
            retry: RetryPolicy::default(),
            drain: DRAIN,
            delivery_limit: DELIVERY_LIMIT,
            roles: Roles::ALL,
            retention: Retention::default(),
            host: None,
            probes: Probes::default(),
            endpoints: BTreeMap::new(),
            shards: BTreeMap::new(),
            mistakes: Vec::new(),
        }
    }
}

impl RuntimeBuilder {
    /// Where time comes from; the machine's clock if not said.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How failed messages are retried.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How long a shutdown waits for what is in hand; 10 seconds if not said.
    #[must_use]
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// How often a message may be delivered without being handled, before it is a dead letter: a message that ends the
    /// process that handles it comes back each time. 20 if not said.
    #[must_use]
    pub fn delivery_limit(mut self, limit: u32) -> Self {
        self.delivery_limit = limit;
        self
    }

    /// By which id this process is known to others, one that no other has, now or before; drawn if not said.
    #[must_use]
    pub fn host(mut self, id: Uuid) -> Self {
        self.host = Some(id);
        self
    }

    /// What this process does; everything if not said. The rest is left to other processes with the same store and bus.
    #[must_use]
    pub fn roles(mut self, roles: Roles) -> Self {
        self.roles = roles;
        self
    }

    /// How long what nobody needs any more is kept.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Who is told of named points; nobody if not said. For crash tests.
    #[must_use]
    pub fn probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes = Probes(Some(probe));
        self
    }

    /// Parts a saga's endpoint into so many shards, 1 to [`BUCKETS`](crate::BUCKETS); 1 if not said. Each instance belongs
    /// to one of them, by [`bucket`](crate::bucket), and each shard is a loop of its own. Over RabbitMQ it is a queue of
    /// its own as well, which one host at a time consumes: so no two hosts meet on an instance over what the bus
    /// delivers, and the deliveries of an instance keep their order. All hosts of one endpoint must say the same number;
    /// [`RabbitMqBus`](crate::RabbitMqBus) says what happens while it changes.
    ///
    /// Over RabbitMQ an event is published with the bucket of one instance. If two sagas in shards hear it and find their
    /// instances by different ids, that is the instance of the one whose endpoint is first by name. To the other's shard it
    /// is moved, and there it may be overtaken.
    #[must_use]
    pub fn shards(mut self, endpoint: &'static str, count: usize) -> Self {
        self.shards.insert(endpoint, count);
        self
    }

    /// Runs a saga on its endpoint.
    #[must_use]
    pub fn saga<S: Saga>(mut self) -> Self {
        self.check_rows::<S::Row>(S::NAME);
        if self.endpoints.contains_key(S::ENDPOINT) {
            self.mistakes.push(format!("saga {} shares endpoint {} with something else", S::NAME, S::ENDPOINT));
        }
        let machine = Machine::<S>::new();
        let subscriptions = machine.columns().iter().map(|column| column.name).collect();
        let start: Box<StartSaga> = Box::new(|core, deliveries, submissions| {
            Box::pin(SagaEndpoint::<S>::new(core, deliveries, submissions).run())
        });
        let partition = Partition { shards: 1, key: shards::key(machine) };
        self.endpoints.insert(S::ENDPOINT, Registered::Saga { subscriptions, start, partition });
        self
    }

    /// Performs an activity on its endpoint.
    #[must_use]
    pub fn activity<A: Activity>(mut self, handler: impl ActivityHandler<A>, options: HandlerOptions) -> Self {
        self.handler(A::ENDPOINT, A::NAME, false, Arc::new(Performs(handler, PhantomData)), options);
        self
    }

    /// Consumes an event on `endpoint`.
    #[must_use]
    pub fn consumer<M: Message>(
        self,
        endpoint: &'static str,
        consumer: impl Consumer<M>,
        options: HandlerOptions,
    ) -> Self {
        self.consumer_of(endpoint, consumer, options)
    }

    /// Checks that everything fits together.
    ///
    /// # Errors
    /// When two registrations clash, or the store has no writer for a row type: says which and what to do.
    pub fn build(mut self) -> Result<Runtime, RuntimeError> {
        if self.retention.interval.is_zero() {
            self.mistakes.push("the interval at which old rows are looked for is zero: say longer".to_owned());
        }
        self.mistakes.extend(shards::part(&mut self.endpoints, self.shards));
        if let Some(mistake) = self.mistakes.into_iter().next() {
            return Err(RuntimeError::Setup(mistake));
        }
        let (relay, handed_over) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            store: self.store,
            bus: self.bus,
            clock: self.clock,
            retry: self.retry,
            probes: self.probes,
            relay,
            relays: self.roles.relay,
            delivery_limit: self.delivery_limit,
            replies: Replies::of(self.host.unwrap_or_else(Uuid::now_v7)),
            sweep: Notify::new(),
            orphans: Notify::new(),
            timers: TimerWake::default(),
            unsure: Notify::new(),
            stopping: CancellationToken::new(),
        });
        let (mut doors, mut submissions) = (HashMap::new(), HashMap::new());
        for (name, registered) in &self.endpoints {
            if let Registered::Saga { partition, .. } = registered {
                let (door, receivers) = Doors::new(partition, SUBMISSIONS);
                doors.insert(*name, door);
                submissions.insert(*name, receivers);
            }
        }
        let client = Client { core: core.clone(), submissions: Arc::new(doors) };
        Ok(Runtime {
            core,
            client,
            endpoints: self.endpoints,
            submissions,
            handed_over,
            drain: self.drain,
            roles: self.roles,
            retention: self.retention,
        })
    }

    fn consumer_of<M: Message, C: Consumer<M>>(
        mut self,
        endpoint: &'static str,
        consumer: C,
        options: HandlerOptions,
    ) -> Self {
        self.check_rows::<C::Row>(endpoint);
        self.handler(endpoint, M::NAME, true, Arc::new(Consumes(consumer, PhantomData)), options);
        self
    }

    fn handler(
        &mut self,
        endpoint: &'static str,
        name: &'static str,
        subscribes: bool,
        handler: Arc<dyn ErasedHandler>,
        options: HandlerOptions,
    ) {
        self.check_options(endpoint, options);
        let fresh = || Registered::Handlers { subscriptions: Vec::new(), handlers: HashMap::new(), options };
        match self.endpoints.entry(endpoint).or_insert_with(fresh) {
            Registered::Saga { .. } => self.mistakes.push(format!("{name} shares endpoint {endpoint} with a saga")),
            Registered::Handlers { subscriptions, handlers, .. } => {
                if subscribes {
                    subscriptions.push(name);
                }
                if handlers.insert(name, handler).is_some() {
                    self.mistakes.push(format!("endpoint {endpoint} has two handlers for {name}"));
                }
            }
        }
    }

    fn check_options(&mut self, endpoint: &str, options: HandlerOptions) {
        if !(1..=Semaphore::MAX_PERMITS).contains(&options.concurrency) {
            let (most, is) = (Semaphore::MAX_PERMITS, options.concurrency);
            self.mistakes.push(format!("the concurrency of endpoint {endpoint} is {is}: say 1 to {most}"));
        }
        if options.timeout.is_zero() {
            let mistake =
                format!("the timeout of endpoint {endpoint} is zero, so every attempt would fail: say longer");
            self.mistakes.push(mistake);
        }
    }

    fn check_rows<R: 'static>(&mut self, whose: &str) {
        let row = TypeId::of::<R>();
        if row != TypeId::of::<()>() && !self.store.writes(row) {
            let name = type_name::<R>();
            let mistake = format!("{whose} writes rows of {name}, and the store has no writer for them: register one");
            self.mistakes.push(mistake);
        }
    }
}
