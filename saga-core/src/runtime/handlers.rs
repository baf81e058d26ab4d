//! The loop of an endpoint whose messages are handled by async code: activities and consumers.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bus::{Delivery, Receipt};
use crate::commit::{Commit, FaultMark, InboxRow, JournalOutcome, Name, OutboxRow};
use crate::effect::Outgoing;
use crate::failure::{Failure, FailureKind};
use crate::handler::HandlerContext;
use crate::message::Envelope;
use crate::mutation::{Mutation, is_out};
use crate::probe::Point;
use crate::runtime::HandlerOptions;
use crate::runtime::core::{BATCH, Core, Suspects, gather};
use crate::runtime::deliver::handled_before;
use crate::runtime::erased::{ErasedHandler, Work};
use crate::runtime::patience::{Conflicts, PutOff};
use crate::runtime::report::Report;
use crate::store::StoreError;
use crate::unit_of_work::{self, Failed, Verdict};
use crate::wire::address_of;

/// The loop of one endpoint.
pub(crate) struct HandlerEndpoint {
    core: Arc<Core>,
    name: &'static str,
    handlers: HashMap<&'static str, Arc<dyn ErasedHandler>>,
    options: HandlerOptions,
}

/// A message whose handler has returned.
struct Completion {
    envelope: Arc<Envelope>,
    result: Result<Work, Failure>,
    stage: Stage,
    /// The place that the message takes at its endpoint until its outcome is committed.
    _permit: OwnedSemaphorePermit,
}

/// How far a completion has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Its outcome is committed, by us or by somebody else, and it is acknowledged.
    Done,
    /// The store refuses even to note that it failed.
    Refused,
}

/// The attempts that are being made now, or wait for a place, each with what its deliveries are acknowledged by when its
/// outcome is committed. There may be several: when a connection is lost, what it had delivered comes again over the next.
#[derive(Default)]
struct Running(Mutex<HashMap<Attempt, Vec<Receipt>>>);

impl Running {
    /// Adds a delivery of an attempt that is being made now; `false`: it is not.
    fn join(&self, delivery: &Delivery) -> bool {
        let mut running = self.lock();
        let receipts = running.get_mut(&attempt_of(&delivery.envelope));
        receipts.map(|receipts| receipts.push(delivery.receipt)).is_some()
    }

    /// Begins an attempt; `false`: it is being made already, and this delivery is added to it.
    fn begin(&self, delivery: &Delivery) -> bool {
        let mut running = self.lock();
        let receipts = running.entry(attempt_of(&delivery.envelope)).or_default();
        receipts.push(delivery.receipt);
        receipts.len() == 1
    }

    /// The attempt is over; returns what to acknowledge.
    fn end(&self, envelope: &Envelope) -> Vec<Receipt> {
        self.lock().remove(&attempt_of(envelope)).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Attempt, Vec<Receipt>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt at a message: its id, how often it was redriven, and the number of the attempt. The id alone is not
/// enough: a retry or a redrive may come while the attempt whose failure caused it is still being put away.
type Attempt = (Uuid, u32, u32);

fn attempt_of(envelope: &Envelope) -> Attempt {
    (envelope.message_id, envelope.redrives(), envelope.attempt())
}

impl HandlerEndpoint {
    pub(crate) fn new(
        core: Arc<Core>,
        name: &'static str,
        handlers: HashMap<&'static str, Arc<dyn ErasedHandler>>,
        options: HandlerOptions,
    ) -> Self {
        Self { core, name, handlers, options }
    }

    /// Runs until the runtime stops; what is being handled then is finished and committed.
    pub(crate) async fn run(self, deliveries: mpsc::UnboundedReceiver<Delivery>) {
        let running = Running::default();
        let (done, completions) = mpsc::unbounded_channel();
        // The completions end when the last handler has returned and its sender is dropped.
        tokio::join!(self.take(deliveries, done, &running), self.complete(completions, &running));
    }

    async fn take(
        &self,
        mut deliveries: mpsc::UnboundedReceiver<Delivery>,
        done: mpsc::UnboundedSender<Completion>,
        running: &Running,
    ) {
        let places = Arc::new(Semaphore::new(self.options.concurrency));
        let mut tasks = JoinSet::new();
        let mut batch = Vec::new();
        let mut suspects = Suspects::default();
        'taking: loop {
            tokio::select! {
                biased;
                () = self.core.stopping.cancelled() => break,
                n = deliveries.recv_many(&mut batch, BATCH) => if n == 0 { break },
                Some(_) = tasks.join_next() => continue,
            }
            self.core.probes.reached(Point::Received).await;
            if is_out(Mutation::AckAfterHandlerCommit) {
                self.core.bus.acknowledge(&batch.iter().map(|it| it.receipt).collect::<Vec<_>>());
            }
            let mut new = self.only_new(std::mem::take(&mut batch), running).await;
            let all = u32::try_from(self.options.concurrency).unwrap_or(u32::MAX);
            // Who takes all places is alone.
            let alone = Suspects::among(&self.core, &mut new).into_iter().map(|it| (it, all));
            for (delivery, taken) in alone.chain(new.into_iter().map(|it| (it, 1))) {
                let permit = tokio::select! {
                    biased;
                    () = self.core.stopping.cancelled() => break 'taking,
                    permit = places.clone().acquire_many_owned(taken) => permit,
                };
                let Ok(permit) = permit else { break 'taking };
                let refusal = suspects.refusal(&self.core, &delivery);
                tasks.spawn(self.attempt(delivery, refusal, permit, done.clone()));
                while tasks.try_join_next().is_some() {}
            }
        }
        drop(done);
        while tasks.join_next().await.is_some() {}
    }

    /// Acknowledges what was handled before. An attempt that is being made now is acknowledged by whoever makes it, when
    /// its outcome is committed: not before, or a crash until then would lose the message.
    async fn only_new(&self, mut batch: Vec<Delivery>, running: &Running) -> Vec<Delivery> {
        // Before the inbox is asked: an attempt that ends meanwhile is then known there.
        batch.retain(|it| !running.join(it));
        let ids: Vec<Uuid> = batch.iter().map(|it| it.envelope.message_id).collect();
        let handled = loop {
            match handled_before(&self.core, self.name, &ids).await {
                Ok(handled) => break handled,
                Err(error) => tracing::error!(endpoint = self.name, %error, "the inbox can not be read"),
            }
            self.core.clock.sleep(std::time::Duration::from_secs(1)).await;
        };
        let (old, mut new): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|it| handled.contains(&it.envelope.message_id));
        new.retain(|it| running.begin(it));
        if !old.is_empty() {
            self.core.bus.acknowledge(&old.iter().map(|it| it.receipt).collect::<Vec<_>>());
        }
        new
    }

    /// One attempt at one message, as a task of its own.
    fn attempt(
        &self,
        delivery: Delivery,
        refusal: Option<Failure>,
        permit: OwnedSemaphorePermit,
        done: mpsc::UnboundedSender<Completion>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let envelope = delivery.envelope;
        let handler = self.handler(&envelope).cloned();
        let context = HandlerContext::new(envelope.clone(), self.core.clock.clone());
        let (core, endpoint, timeout) = (self.core.clone(), self.name, self.options.timeout);
        async move {
            let started = Instant::now();
            let work = async {
                if let Some(refusal) = refusal {
                    return Err(refusal);
                }
                let Some(handler) = handler else { return Err(unknown(endpoint, &envelope)) };
                tokio::select! {
                    biased;
                    outcome = handler.handle(&context) => outcome,
                    () = core.clock.sleep(timeout) => Err(Failure::new(
                        FailureKind::Timeout,
                        format_args!("the handler did not return within {timeout:?}"),
                    )),
                }
            };
            // Around the timeout too: a handler may panic while it is dropped.
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = result.unwrap_or_else(|panic| Err(Failure::panicked(&*panic)));
            metrics::histogram!("saga_handler_seconds", "endpoint" => endpoint).record(started.elapsed().as_secs_f64());
            core.probes.reached(Point::Performed).await;
            // The receiver outlives every sender.
            let _ = done.send(Completion { envelope, result, stage: Stage::Open, _permit: permit });
        }
    }

    async fn complete(&self, mut completions: mpsc::UnboundedReceiver<Completion>, running: &Running) {
        let mut put_off = PutOff::default();
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                // Before what is new, as at a saga's endpoint.
                () = put_off.due() => batch = put_off.take(),
                n = completions.recv_many(&mut batch, BATCH) => {
                    if n == 0 { return }
                    gather(&mut completions, &mut batch).await;
                }
            }
            metrics::histogram!("saga_batch_size", "endpoint" => self.name).record(batch.len() as f64);
            let mut refused = Vec::new();
            while !batch.is_empty() {
                // Two attempts at one message, which a crash may leave, must not meet in one commit: the second finds
                // what the first has written.
                let mut ids = HashSet::new();
                let (mut now, later): (Vec<_>, _) =
                    batch.drain(..).partition(|it: &Completion| ids.insert(it.envelope.message_id));
                batch = later;
                self.settle(&mut now, running).await;
                let again = now.into_iter().filter(|it| it.stage == Stage::Refused);
                refused.extend(again.map(|it| Completion { stage: Stage::Open, ..it }));
            }
            put_off.add(refused.into_iter(), &self.core.clock);
        }
    }

    /// Commits the outcomes, or, if one spoils the commit, their halves, down to the culprit.
    fn settle<'a>(
        &'a self,
        batch: &'a mut [Completion],
        running: &'a Running,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let mut conflicts = Conflicts::of(self.name);
            loop {
                let error = match self.commit(batch, running).await {
                    Ok(()) => return,
                    Err(StoreError::Conflict(reason)) => match self.drop_handled(batch, running).await {
                        Ok(0) => {
                            conflicts.met(&reason, &*self.core.clock).await;
                            continue;
                        }
                        Ok(_) => continue,
                        Err(error) => error,
                    },
                    Err(error) => error,
                };
                if batch.len() > 1 {
                    let (first, second) = batch.split_at_mut(batch.len() / 2);
                    self.settle(first, running).await;
                    self.settle(second, running).await;
                    return;
                }
                let it = &mut batch[0];
                if it.result.is_err() {
                    let (endpoint, id) = (self.name, it.envelope.message_id);
                    tracing::error!(endpoint, message_id = %id, %error, "a failure can not be stored; trying again");
                    it.stage = Stage::Refused;
                    return;
                }
                // The culprit is alone: what spoils the commit counts as its failure.
                it.result = Err(Failure::retry(error));
            }
        })
    }

    /// Commits what is open in the batch.
    async fn commit(&self, batch: &mut [Completion], running: &Running) -> Result<(), StoreError> {
        let mut open: Vec<_> = batch.iter_mut().filter(|it| it.stage == Stage::Open).collect();
        if open.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::of(open.len(), self.core.clock.now());
        let mut verdicts = Vec::new();
        for it in &open {
            verdicts.push(match &it.result {
                Ok(work) => self.handled(it, work, &mut commit),
                Err(failure) => self.failed(it, failure, &mut commit),
            });
        }
        self.core.commit(commit).await?;
        let mut report = Report::of(self.name);
        for (it, verdict) in open.iter().zip(&verdicts) {
            report.verdict(&it.envelope, verdict);
        }
        report.count();
        self.done(&mut open, running).await;
        Ok(())
    }

    /// Acknowledges what somebody else has handled meanwhile; says how many these were. The rest is still open.
    async fn drop_handled(&self, batch: &mut [Completion], running: &Running) -> Result<usize, StoreError> {
        let mut open: Vec<_> = batch.iter_mut().filter(|it| it.stage == Stage::Open).collect();
        let ids: Vec<Uuid> = open.iter().map(|it| it.envelope.message_id).collect();
        let handled = handled_before(&self.core, self.name, &ids).await?;
        open.retain(|it| handled.contains(&it.envelope.message_id));
        if !open.is_empty() {
            self.done(&mut open, running).await;
        }
        Ok(open.len())
    }

    async fn done(&self, batch: &mut [&mut Completion], running: &Running) {
        let mut receipts = Vec::new();
        for it in &mut *batch {
            it.stage = Stage::Done;
            receipts.extend(running.end(&it.envelope));
        }
        self.core.bus.acknowledge(&receipts);
        self.core.probes.reached(Point::Acknowledged).await;
    }

    fn handled(&self, it: &Completion, work: &Work, commit: &mut Commit) -> Verdict {
        let envelope = &it.envelope;
        commit.inbox.push(InboxRow { endpoint: self.name.into(), message_id: envelope.message_id });
        commit.rows.extend(work.rows.iter().cloned());
        if let Some(answer) = &work.answer {
            // Behind the ids of its other messages; an activity has none.
            let id = envelope.produced_id(self.name, work.messages.len());
            commit.outbox.push(unit_of_work::respond(envelope, self.name, id, answer.clone(), commit.at));
        }
        for (index, (destination, out)) in work.messages.iter().enumerate() {
            let id = envelope.produced_id(self.name, index);
            let mut produced = envelope.cause(id, out.name, out.body.clone(), commit.at);
            produced.source_address = Some(address_of(self.name));
            produced.destination_address = destination.as_deref().map(address_of);
            commit.outbox.push(OutboxRow { destination: destination.clone(), envelope: Arc::new(produced) });
        }
        if let (Some((saga, id)), 1..) = (self.instance(envelope), envelope.redrives()) {
            commit.marks.push(unit_of_work::mark(saga, id, 0, FaultMark::Clear));
        }
        Verdict::Handled(JournalOutcome::Moved)
    }

    fn failed(&self, it: &Completion, failure: &Failure, commit: &mut Commit) -> Verdict {
        let (envelope, retry) = (&it.envelope, &self.core.retry);
        let journal = self.instance(envelope).map(|(saga, id)| {
            let outcome = JournalOutcome::Faulted;
            unit_of_work::journal_line(saga, id, self.name.into(), envelope, outcome, commit.at)
        });
        let again = unit_of_work::again(envelope, failure.kind(), retry);
        let answer = if again.is_some() { None } else { self.answer(envelope, failure) };
        let failed = Failed { envelope, endpoint: self.name.into(), journal, failure: failure.clone(), answer };
        unit_of_work::fail(failed, retry, commit)
    }

    /// What the caller is told of the last failure. The application makes it: if that panics, the message is given up
    /// without an answer.
    fn answer(&self, envelope: &Envelope, failure: &Failure) -> Option<Outgoing> {
        let handler = self.handler(envelope)?;
        let answer = catch_unwind(AssertUnwindSafe(|| handler.answer(envelope, failure)));
        answer.unwrap_or_else(|panic| {
            let (id, error) = (envelope.message_id, Failure::panicked(&*panic));
            tracing::error!(endpoint = self.name, message_id = %id, %error, "the caller can not be told of the failure");
            None
        })
    }

    fn handler(&self, envelope: &Envelope) -> Option<&Arc<dyn ErasedHandler>> {
        envelope.message_type.iter().find_map(|name| self.handlers.get(&**name))
    }

    /// The saga instance on whose behalf the message was sent.
    fn instance(&self, envelope: &Envelope) -> Option<(Name, Uuid)> {
        Some((Name::Owned(envelope.saga()?.to_owned()), envelope.correlation_id?))
    }
}

/// The failure of a message that the endpoint has no handler for.
fn unknown(endpoint: &str, envelope: &Envelope) -> Failure {
    let reason = envelope.undecodable_reason();
    let reason = reason.unwrap_or_else(|| format!("endpoint {endpoint} has no handler for {}", envelope.name()));
    Failure::new(FailureKind::Undecodable, reason)
}
