//! The saga endpoint's loop: gather a batch, load, step, commit, acknowledge.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use uuid::Uuid;

use crate::bus::{Delivery, Receipt};
use crate::commit::{Commit, JournalOutcome};
use crate::failure::{Failure, FailureKind};
use crate::machine::{Event, Machine};
use crate::message::Envelope;
use crate::mutation::{Mutation, is_out};
use crate::probe::Point;
use crate::runtime::client::{SubmitError, Submitted};
use crate::runtime::core::{BATCH, Core, Suspects};
use crate::runtime::intake::{Intake, Keyed};
use crate::runtime::patience::{Conflicts, PutOff};
use crate::runtime::report::Report;
use crate::saga::Saga;
use crate::store::{LoadQuery, Loaded, StoreError};
use crate::unit_of_work::{self, Live, Verdict};

/// A message brought by a caller of this process, who waits for its commit.
pub(crate) struct Submission {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) reply: oneshot::Sender<Result<Submitted, SubmitError>>,
}

/// The loop of one saga's endpoint.
pub(crate) struct SagaEndpoint<S: Saga> {
    batches: Batches<S>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    submissions: mpsc::Receiver<Submission>,
}

/// Takes batches through load, step, commit and acknowledgement.
struct Batches<S: Saga> {
    core: Arc<Core>,
    machine: Machine<S>,
}

/// A message on its way through a batch.
struct Item {
    envelope: Arc<Envelope>,
    origin: Origin,
    /// What it says; or why it can not be handled, and the instance that it belongs to as far as that is known.
    event: Result<Event, (Option<Uuid>, Failure)>,
    /// The store refuses even to note that it failed.
    refused: bool,
}

/// How many batches of one saga may be under way: while one is committed, the next is loaded and stepped.
const IN_FLIGHT: usize = 2;
/// So many messages are worth a second batch beside the first. With fewer, what is saved in waiting is lost again in the
/// statements of two small transactions.
const WORTH_A_SECOND: usize = 128;

/// Who waits for the message's commit.
enum Origin {
    Bus(Receipt),
    Caller(Option<oneshot::Sender<Result<Submitted, SubmitError>>>),
}

/// What became of one message of a batch.
enum Fate {
    Verdict(Verdict),
    Duplicate,
}

impl Keyed for Item {
    fn keys(&self) -> [Option<Uuid>; 2] {
        let instance = self.event.as_ref().map_or_else(|(id, _)| *id, |event| Some(event.id));
        [Some(self.envelope.message_id), instance]
    }
}

impl<S: Saga> SagaEndpoint<S> {
    pub(crate) fn new(
        core: Arc<Core>,
        deliveries: mpsc::UnboundedReceiver<Delivery>,
        submissions: mpsc::Receiver<Submission>,
    ) -> Self {
        Self { batches: Batches { core, machine: Machine::new() }, deliveries, submissions }
    }

    /// Runs until the runtime stops; the batches in hand are finished.
    pub(crate) async fn run(mut self) {
        let (core, batches) = (self.batches.core.clone(), &self.batches);
        let (mut intake, mut suspects, mut put_off) =
            (Intake::<Item>::default(), Suspects::default(), PutOff::default());
        let (mut delivered, mut submitted) = (Vec::new(), Vec::new());
        let mut in_flight = FuturesUnordered::new();
        let mut has_callers = true;
        loop {
            while in_flight.len() < IN_FLIGHT
                && let Some(batch) = batches.next(&mut intake, &mut suspects, in_flight.is_empty())
            {
                in_flight.push(batches.handle(batch));
            }
            // One side is waited for; what the other has brought is taken along with it.
            tokio::select! {
                biased;
                () = core.stopping.cancelled() => break,
                Some(batch) = in_flight.next() => {
                    intake.ended(&batch);
                    let refused = batch.into_iter().filter(|it| it.refused);
                    put_off.add(refused.map(|it| Item { refused: false, ..it }), &core.clock);
                    continue;
                }
                // Before what is new: deliveries that never end must not keep it from its turn.
                () = put_off.due() => intake.failed_before.put_first(put_off.take()),
                n = self.deliveries.recv_many(&mut delivered, room(intake.of_bus())), if intake.of_bus() < BATCH => {
                    if n == 0 { break }
                }
                n = self.submissions.recv_many(&mut submitted, room(intake.from_callers.len())),
                    if has_callers && intake.from_callers.len() < BATCH =>
                {
                    // With none, nobody can submit any more; the bus still delivers.
                    has_callers = n > 0;
                }
            }
            let mut gathered = 0;
            // Ends with the first turn that brings nothing, and with `BATCH` at the latest.
            while delivered.len() + submitted.len() > gathered {
                gathered = delivered.len() + submitted.len();
                // Whoever brought the first may be about to bring more, and has its turn.
                yield_now().await;
                while delivered.len() + intake.of_bus() < BATCH
                    && let Ok(delivery) = self.deliveries.try_recv()
                {
                    delivered.push(delivery);
                }
                while submitted.len() + intake.from_callers.len() < BATCH
                    && let Ok(submission) = self.submissions.try_recv()
                {
                    submitted.push(submission);
                }
            }
            core.probes.reached(Point::Received).await;
            batches.take_in(&mut intake, &mut delivered, &mut submitted);
        }
        while in_flight.next().await.is_some() {}
        // Who still waits is told for sure that nothing is stored.
        self.submissions.close();
        while let Ok(submission) = self.submissions.try_recv() {
            let _ = submission.reply.send(Err(SubmitError::Stopped));
        }
        for item in intake.from_callers.drain() {
            if let Origin::Caller(Some(reply)) = item.origin {
                let _ = reply.send(Err(SubmitError::Stopped));
            }
        }
    }
}

impl<S: Saga> Batches<S> {
    /// Reads what has come, and lets it wait for its batch.
    fn take_in(&self, intake: &mut Intake<Item>, delivered: &mut Vec<Delivery>, submitted: &mut Vec<Submission>) {
        if is_out(Mutation::AckAfterSagaCommit) {
            self.core.bus.acknowledge(&delivered.iter().map(|it| it.receipt).collect::<Vec<_>>());
        }
        intake.suspects.extend(Suspects::among(&self.core, delivered));
        for it in delivered.drain(..) {
            let waiting = if it.envelope.attempt() > 1 { &mut intake.failed_before } else { &mut intake.from_bus };
            waiting.extend([self.item(it.envelope, Origin::Bus(it.receipt), None)].into_iter());
        }
        let from_callers = submitted.drain(..).map(|it| self.item(it.envelope, Origin::Caller(Some(it.reply)), None));
        intake.from_callers.extend(from_callers);
    }

    /// The next batch, if it is worth it: with nothing under way whatever waits, else so many messages that another
    /// transaction beside the first pays.
    fn next(&self, intake: &mut Intake<Item>, suspects: &mut Suspects, is_idle: bool) -> Option<Vec<Item>> {
        let mut batch = Vec::new();
        if intake.is_alone {
            return None;
        }
        if !intake.suspects.is_empty() {
            let delivery = if is_idle { intake.suspects.pop_front() } else { None }?;
            let refusal = suspects.refusal(&self.core, &delivery);
            batch.push(self.item(delivery.envelope, Origin::Bus(delivery.receipt), refusal));
            intake.is_alone = true;
        } else if is_idle || intake.waiting() >= intake.passed_over + WORTH_A_SECOND {
            let mut were_there = true;
            while batch.is_empty() && were_there {
                batch = intake.take(BATCH);
                were_there = !batch.is_empty();
                // A caller who has gone already is not waited on: nothing of it is stored.
                batch.retain(|it| !matches!(&it.origin, Origin::Caller(Some(reply)) if reply.is_closed()));
            }
            intake.passed_over = intake.waiting();
        }
        if batch.is_empty() {
            return None;
        }
        intake.under_way.begin(&batch);
        metrics::histogram!("saga_batch_size", "endpoint" => S::ENDPOINT).record(batch.len() as f64);
        Some(batch)
    }

    async fn handle(&self, mut batch: Vec<Item>) -> Vec<Item> {
        self.settle(&mut batch).await;
        batch
    }

    fn item(&self, envelope: Arc<Envelope>, origin: Origin, refusal: Option<Failure>) -> Item {
        let read = refusal.map_or_else(|| self.machine.read(&envelope), Err);
        let event = read.map_err(|failure| (envelope.correlation_id, failure));
        Item { envelope, origin, event, refused: false }
    }

    /// Commits the batch, or, if one message spoils it, its halves, down to the culprit.
    fn settle<'a>(&'a self, batch: &'a mut [Item]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let mut conflicts = Conflicts::of(S::ENDPOINT);
            loop {
                match self.attempt(batch).await {
                    Ok((fates, at)) => return self.done(batch, fates, at).await,
                    Err(StoreError::Conflict(reason)) => conflicts.met(&reason, &*self.core.clock).await,
                    Err(_) if batch.len() > 1 => {
                        let (first, second) = batch.split_at_mut(batch.len() / 2);
                        self.settle(first).await;
                        self.settle(second).await;
                        return;
                    }
                    Err(error) => match &batch[0].event {
                        // The culprit is alone: what spoils the commit counts as its failure.
                        Ok(event) => batch[0].event = Err((Some(event.id), Failure::retry(error))),
                        Err(_) => return refuse(&mut batch[0], &error, S::ENDPOINT),
                    },
                }
            }
        })
    }

    async fn attempt(&self, batch: &[Item]) -> Result<(Vec<Fate>, DateTime<Utc>), StoreError> {
        let messages: Vec<Uuid> = batch.iter().map(|item| item.envelope.message_id).collect();
        let mut instances: Vec<Uuid> = batch.iter().filter_map(|item| item.event.as_ref().ok()).map(|e| e.id).collect();
        instances.sort_unstable();
        instances.dedup();
        let query = LoadQuery { endpoint: S::ENDPOINT, messages: &messages, saga: S::NAME, instances: &instances };
        let loaded = self.core.load(query).await?;
        let mut commit = Commit::of(batch.len(), self.core.clock.now());
        let (fates, at) = (self.step(batch, loaded, &mut commit), commit.at);
        self.core.commit(commit).await?;
        Ok((fates, at))
    }

    fn step(&self, batch: &[Item], loaded: Loaded, commit: &mut Commit) -> Vec<Fate> {
        let Loaded { handled: mut seen, instances } = loaded;
        let mut live: HashMap<Uuid, Result<Live<S>, Failure>> = HashMap::new();
        // Failed, to be tried again: a second delivery of the same is told nothing new, a caller gets a try of its own.
        let mut again = HashSet::new();
        let mut order = Vec::new();
        let mut fates = Vec::with_capacity(batch.len());
        for item in batch {
            let (id, is_caller) = (item.envelope.message_id, matches!(item.origin, Origin::Caller(_)));
            if seen.contains(&id) || (!is_caller && again.contains(&id)) {
                fates.push(Fate::Duplicate);
                continue;
            }
            let before = commit.lengths();
            let retry = &self.core.retry;
            let verdict = match &item.event {
                Err((id, failure)) => unit_of_work::refuse::<S>(*id, failure.clone(), &item.envelope, retry, commit),
                Ok(event) => {
                    let slot = live.entry(event.id).or_insert_with(|| {
                        order.push(event.id);
                        Live::load(event.id, instances.get(&event.id))
                    });
                    match slot {
                        Ok(it) => unit_of_work::step(&self.machine, it, event, &item.envelope, retry, commit),
                        Err(failure) => {
                            let failure = failure.clone();
                            unit_of_work::refuse::<S>(Some(event.id), failure, &item.envelope, retry, commit)
                        }
                    }
                }
            };
            match &verdict {
                // The caller is told; nothing of the attempt stays.
                Verdict::Again(_) | Verdict::Dead(_) if is_caller => commit.truncate(before),
                Verdict::Again(_) => drop(again.insert(id)),
                Verdict::Handled(_) | Verdict::Dead(_) => drop(seen.insert(id)),
            }
            fates.push(Fate::Verdict(verdict));
        }
        for id in order {
            if let Some(Ok(it)) = live.get(&id) {
                it.write(commit);
            }
        }
        fates
    }

    /// Tells everybody who waits for these messages.
    async fn done(&self, batch: &mut [Item], fates: Vec<Fate>, at: DateTime<Utc>) {
        let (mut receipts, mut report) = (Vec::new(), Report::of(S::ENDPOINT));
        for (item, fate) in batch.iter_mut().zip(fates) {
            match &mut item.origin {
                Origin::Bus(receipt) => {
                    receipts.push(*receipt);
                    if let Fate::Verdict(verdict) = &fate {
                        report.verdict(&item.envelope, verdict);
                    }
                }
                Origin::Caller(reply) => {
                    if let Some(reply) = reply.take() {
                        // A caller who has stopped waiting loses nothing but the answer.
                        let _ = reply.send(answer(&mut report, &item.envelope, fate, at));
                    }
                }
            }
        }
        report.count();
        if !receipts.is_empty() {
            self.core.bus.acknowledge(&receipts);
            self.core.probes.reached(Point::Acknowledged).await;
        }
    }
}

/// How many more may wait for a batch.
fn room(waiting: usize) -> usize {
    BATCH.saturating_sub(waiting)
}

/// A message whose failure can not be stored: a caller is told, what the bus delivered is put off.
fn refuse(item: &mut Item, error: &StoreError, endpoint: &'static str) {
    match &mut item.origin {
        Origin::Bus(_) => {
            let id = item.envelope.message_id;
            tracing::error!(endpoint, message_id = %id, %error, "a failure can not be stored; trying again");
            item.refused = true;
        }
        Origin::Caller(reply) => {
            if let Some(reply) = reply.take() {
                // A caller who has stopped waiting loses nothing but the answer.
                let _ = reply.send(Err(SubmitError::Refused(error.to_string())));
            }
        }
    }
}

fn answer(
    report: &mut Report<'_>,
    envelope: &Envelope,
    fate: Fate,
    at: DateTime<Utc>,
) -> Result<Submitted, SubmitError> {
    match fate {
        Fate::Duplicate => Ok(Submitted::Duplicate),
        Fate::Verdict(Verdict::Handled(outcome)) => {
            report.verdict(envelope, &Verdict::Handled(outcome));
            Ok(Submitted::Handled { outcome, at })
        }
        Fate::Verdict(Verdict::Again(failure) | Verdict::Dead(failure)) => {
            Err(SubmitError::Refused(failure.message().to_owned()))
        }
    }
}

/// Which of an endpoint's messages were handled before.
pub(crate) async fn handled_before(
    core: &Core,
    endpoint: &str,
    messages: &[Uuid],
) -> Result<HashSet<Uuid>, StoreError> {
    let query = LoadQuery { endpoint, messages, saga: "", instances: &[] };
    Ok(core.load(query).await?.handled)
}

impl Verdict {
    /// How the metrics name it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Handled(outcome) => outcome.name(),
            Self::Again(failure) if failure.kind() == FailureKind::Deferred => JournalOutcome::Deferred.name(),
            Self::Again(_) => JournalOutcome::Retried.name(),
            Self::Dead(failure) if failure.kind() == FailureKind::Rejected => JournalOutcome::Rejected.name(),
            Self::Dead(_) => JournalOutcome::Faulted.name(),
        }
    }
}
