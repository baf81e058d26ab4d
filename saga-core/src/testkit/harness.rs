//! A whole process in a test: sagas, activities and consumers on the memory adapters, under a clock that the test
//! moves. Nothing sleeps: each call returns when everything that could happen has happened.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::runtime;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::activity::Activity;
use crate::bus::EmbeddedBus;
use crate::clock::Clock;
use crate::commit::{
    Commit, DeadLetterRow, JournalRow, Lane, OutboxId, OutboxRow, StoredInstance, TimerKind, TimerRow,
};
use crate::message::{Envelope, Message};
use crate::runtime::{Client, RedriveError, Runtime, RuntimeBuilder, RuntimeError, SubmitError, Submitted};
use crate::saga::Saga;
use crate::store::{Backlog, Change, DeadLetterPage, LoadQuery, Loaded, MemoryStore, Old, Page, Store, StoreError};
use crate::testkit::ManualClock;

type Configure = Box<dyn Fn(RuntimeBuilder) -> RuntimeBuilder>;

/// Builds a [`Harness`].
pub struct HarnessBuilder {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    configure: Vec<Configure>,
}

/// A running process under a manual clock.
///
/// ```
/// # use saga_core::testkit::Harness;
/// let harness = Harness::builder().start();
/// assert!(harness.dead_letters().is_empty());
/// ```
pub struct Harness {
    executor: runtime::Runtime,
    clock: Arc<ManualClock>,
    store: Arc<Recorder>,
    configure: Vec<Configure>,
    running: Option<Running>,
    submitted: u128,
}

struct Running {
    client: Client,
    task: JoinHandle<Result<(), RuntimeError>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl HarnessBuilder {
    /// The store to run on: one with the application's writers, or one that an earlier harness has filled.
    #[must_use]
    pub fn store(mut self, store: MemoryStore) -> Self {
        self.store = store;
        self
    }

    /// The clock to run under, where the test needs it beforehand.
    #[must_use]
    pub fn clock(mut self, clock: Arc<ManualClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Registers sagas, activities and consumers, or sets options; applied again at each restart.
    #[must_use]
    pub fn with(mut self, configure: impl Fn(RuntimeBuilder) -> RuntimeBuilder + 'static) -> Self {
        self.configure.push(Box::new(configure));
        self
    }

    /// Runs a saga.
    #[must_use]
    pub fn saga<S: Saga>(self) -> Self {
        self.with(RuntimeBuilder::saga::<S>)
    }

    /// Starts the process.
    ///
    /// # Panics
    /// When it can not start: the test says what was registered, so the test is wrong.
    #[must_use]
    pub fn start(self) -> Harness {
        // Tokio's own clock is paused as well: it moves only when nothing else can run, which is how the harness
        // knows that everything has settled.
        let executor = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let executor = executor.unwrap_or_else(|error| panic!("no executor: {error}"));
        let store = Arc::new(Recorder { inner: self.store, seen: Mutex::default() });
        let mut harness =
            Harness { executor, clock: self.clock, store, configure: self.configure, running: None, submitted: 0 };
        harness.boot();
        harness
    }
}

impl Harness {
    /// Begins to build a harness.
    pub fn builder() -> HarnessBuilder {
        HarnessBuilder {
            store: MemoryStore::builder().build(),
            clock: Arc::new(ManualClock::default()),
            configure: Vec::new(),
        }
    }

    /// Brings a message to a saga, under an id of its own, and lets everything settle.
    ///
    /// # Errors
    /// What the saga says of it.
    pub fn submit<S: Saga>(&mut self, message: &impl Message) -> Result<Submitted, SubmitError> {
        let envelope = self.envelope(message);
        self.submit_envelope::<S>(envelope)
    }

    /// Brings an envelope to a saga, and lets everything settle.
    ///
    /// # Errors
    /// What the saga says of it.
    pub fn submit_envelope<S: Saga>(&mut self, envelope: Envelope) -> Result<Submitted, SubmitError> {
        let client = self.client();
        self.call(async move { client.submit::<S>(envelope).await }).unwrap_or(Err(SubmitError::Stopped))
    }

    /// Publishes a message under an id of its own, and lets everything settle.
    pub fn publish(&mut self, message: &impl Message) {
        let envelope = self.envelope(message);
        self.publish_envelope(envelope);
    }

    /// Publishes an envelope, and lets everything settle.
    ///
    /// # Panics
    /// When the memory store refuses, which it does not.
    pub fn publish_envelope(&mut self, envelope: Envelope) {
        let client = self.client();
        if let Some(Err(error)) = self.call(async move { client.publish(envelope).await }) {
            panic!("not published: {error}");
        }
    }

    /// Sends an envelope to one endpoint, and lets everything settle.
    ///
    /// # Panics
    /// When the memory store refuses, which it does not.
    pub fn send_envelope(&mut self, endpoint: &str, envelope: Envelope) {
        let (client, endpoint) = (self.client(), endpoint.to_owned());
        if let Some(Err(error)) = self.call(async move { client.send(&endpoint, envelope).await }) {
            panic!("not sent: {error}");
        }
    }

    /// Takes a dead letter out again, and lets everything settle.
    ///
    /// # Errors
    /// When there is none of that id, or it was redriven before.
    pub fn redrive(&mut self, dead_letter: Uuid) -> Result<(), RedriveError> {
        let client = self.client();
        let stopped = || Err(RedriveError::Store(StoreError::Unavailable("the process has stopped".to_owned())));
        self.call(async move { client.redrive(dead_letter).await }).unwrap_or_else(stopped)
    }

    /// Lets time pass: the clock goes from one thing that waits to the next, and everything settles at each.
    pub fn advance(&mut self, by: Duration) {
        let end = self.clock.now() + by;
        self.settle();
        while let Some(at) = self.clock.next_wake(end) {
            self.clock.set(at.max(self.clock.now()));
            self.settle();
        }
        self.clock.set(end);
        self.settle();
    }

    /// Stops the process at once, as `kill -9` would, and starts it again on what it has stored.
    pub fn crash_and_restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
            // The abort is an error by its nature.
            let _ = self.executor.block_on(running.task);
        }
        self.boot();
    }

    /// Stops the process as it should be stopped: it finishes what is in hand.
    ///
    /// # Errors
    /// What ended it, if it was not this call.
    pub fn shut_down(&mut self) -> Result<(), RuntimeError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        if let Some(stop) = running.stop.take() {
            let _ = stop.send(());
        }
        self.settle();
        while !running.task.is_finished() {
            let Some(at) = self.clock.next_wake(DateTime::<Utc>::MAX_UTC) else { break };
            self.clock.set(at.max(self.clock.now()));
            self.settle();
        }
        match self.executor.block_on(running.task) {
            Ok(outcome) => outcome,
            Err(error) => Err(RuntimeError::Ended(error.to_string())),
        }
    }

    /// Runs a future, for what the harness does not offer itself.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.executor.block_on(future)
    }

    /// Returns when nothing can happen any more without time passing or a message coming.
    pub fn settle(&self) {
        // Longer than anything that waits by tokio's own clock, for the machine's sake and not for the time's.
        self.executor.block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
    }

    /// The way into the running process.
    ///
    /// # Panics
    /// When the process was shut down.
    pub fn client(&self) -> Client {
        match &self.running {
            Some(running) => running.client.clone(),
            None => panic!("the process was shut down"),
        }
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// The store.
    pub fn store(&self) -> MemoryStore {
        self.store.inner.clone()
    }

    /// An instance's state, by name; `None`: there is no instance.
    pub fn state<S: Saga>(&self, id: Uuid) -> Option<String> {
        self.instance::<S>(id).map(|it| it.state)
    }

    /// An instance as it is stored.
    pub fn instance<S: Saga>(&self, id: Uuid) -> Option<StoredInstance> {
        self.read(self.store.instance(S::NAME, id))
    }

    /// An instance's data.
    ///
    /// # Panics
    /// When there is no such instance.
    pub fn data<S: Saga>(&self, id: Uuid) -> S {
        let stored = self.instance::<S>(id).unwrap_or_else(|| panic!("there is no {} {id}", S::NAME));
        stored.data.read().unwrap_or_else(|error| panic!("{} {id} can not be read: {error}", S::NAME))
    }

    /// An instance's history.
    pub fn journal<S: Saga>(&self, id: Uuid) -> Vec<JournalRow> {
        self.read(self.store.journal(S::NAME, id))
    }

    /// The dead letters that were not redriven, newest first.
    pub fn dead_letters(&self) -> Vec<DeadLetterRow> {
        self.read(self.store.dead_letters(&DeadLetterPage { before: None, limit: usize::MAX }))
    }

    /// What waits in the store.
    pub fn backlog(&self) -> Backlog {
        self.read(self.store.backlog())
    }

    /// Every message of type `M` that was published, in order.
    pub fn published<M: Message>(&self) -> Vec<M> {
        self.outgoing::<M>(|row| row.destination.is_none())
    }

    /// Every message of type `M` that was sent to one endpoint, in order.
    pub fn sent<M: Message>(&self) -> Vec<M> {
        self.outgoing::<M>(|row| row.destination.is_some())
    }

    /// Every call of the activity `A`, in order.
    pub fn called<A: Activity>(&self) -> Vec<A> {
        self.outgoing::<A>(|row| row.destination.as_deref() == Some(A::ENDPOINT))
    }

    /// Every timer of message type `M` that was started, with the time it was due, in order.
    pub fn scheduled<M: Message>(&self) -> Vec<(M, DateTime<Utc>)> {
        let seen = self.store.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let timers = seen.timers.iter().filter(|row| row.kind == TimerKind::Timer && row.envelope.name() == M::NAME);
        timers.map(|row| (read(&row.envelope), row.due)).collect()
    }

    /// How many attempts were put off: retries and deferrals.
    pub fn redeliveries(&self) -> usize {
        let seen = self.store.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.timers.iter().filter(|row| row.kind == TimerKind::Redelivery).count()
    }

    fn boot(&mut self) {
        let mut builder = Runtime::builder(self.store.clone(), Arc::new(EmbeddedBus::new())).clock(self.clock.clone());
        for configure in &self.configure {
            builder = configure(builder);
        }
        let runtime = builder.build().unwrap_or_else(|error| panic!("the process can not start: {error}"));
        let client = runtime.client();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async move {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let task = self.executor.spawn(runtime.run(shutdown));
        self.running = Some(Running { client, task, stop: Some(stop) });
        self.settle();
    }

    /// A call into the process, and all that follows from it; `None`: a crash took the caller along.
    fn call<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let task = self.executor.spawn(call);
        self.settle();
        task.abort();
        self.executor.block_on(task).ok()
    }

    fn envelope(&mut self, message: &impl Message) -> Envelope {
        self.submitted += 1;
        Envelope::new(Uuid::from_u128(self.submitted), message)
    }

    fn outgoing<M: Message>(&self, which: impl Fn(&OutboxRow) -> bool) -> Vec<M> {
        let seen = self.store.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = seen.outbox.iter().filter(|row| row.envelope.name() == M::NAME && which(row));
        rows.map(|row| read(&row.envelope)).collect()
    }

    fn read<T>(&self, query: impl Future<Output = Result<T, StoreError>>) -> T {
        self.executor.block_on(query).unwrap_or_else(|error| panic!("the memory store does not answer: {error}"))
    }
}

fn read<M: Message>(envelope: &Envelope) -> M {
    envelope.message.read().unwrap_or_else(|error| panic!("{} can not be read back: {error}", M::NAME))
}

/// Remembers what was committed to a store.
struct Recorder {
    inner: MemoryStore,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    outbox: Vec<OutboxRow>,
    timers: Vec<TimerRow>,
}

impl Recorder {
    fn note(&self, commit: &Commit) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.timers.extend(commit.timers.iter().cloned());
        // A timer that fires, a retry and a redrive are not sent for the first time.
        let again = |it: &Envelope| it.timer_token().is_some() || it.attempt() > 1 || it.redrives() > 0;
        seen.outbox.extend(commit.outbox.iter().filter(|row| !again(&row.envelope)).cloned());
    }
}

#[async_trait]
impl Store for Recorder {
    async fn load(&self, query: &LoadQuery<'_>) -> Result<Loaded, StoreError> {
        self.inner.load(query).await
    }
    async fn commit(&self, commit: Arc<Commit>) -> Result<Vec<OutboxId>, StoreError> {
        let ids = self.inner.commit(commit.clone()).await?;
        self.note(&commit);
        Ok(ids)
    }
    async fn outbox(&self, after: OutboxId, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner.outbox(after, limit).await
    }
    async fn outbox_lane(
        &self,
        lane: &Lane,
        after: OutboxId,
        limit: usize,
    ) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner.outbox_lane(lane, after, limit).await
    }
    async fn take_over(&self, limit: usize) -> Result<Page<(OutboxId, OutboxRow)>, StoreError> {
        self.inner.take_over(limit).await
    }
    async fn changed(&self) -> Change {
        self.inner.changed().await
    }
    async fn purge(&self, old: Old, limit: usize) -> Result<bool, StoreError> {
        self.inner.purge(old, limit).await
    }
    async fn due_timers(&self, now: DateTime<Utc>, limit: usize) -> Result<Page<TimerRow>, StoreError> {
        self.inner.due_timers(now, limit).await
    }
    async fn next_due_after(&self, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.inner.next_due_after(after).await
    }
    async fn instance(&self, saga: &str, id: Uuid) -> Result<Option<StoredInstance>, StoreError> {
        self.inner.instance(saga, id).await
    }
    async fn journal(&self, saga: &str, id: Uuid) -> Result<Vec<JournalRow>, StoreError> {
        self.inner.journal(saga, id).await
    }
    async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.inner.dead_letters(page).await
    }
    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        self.inner.dead_letter(id).await
    }
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.inner.backlog().await
    }
    fn writes(&self, row: std::any::TypeId) -> bool {
        self.inner.writes(row)
    }
}
