//! The connection that consumes and acknowledges: a channel for each endpoint.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::backoff::Backoff;
use super::connection::{Cause, Connected, Loss};
use super::endpoint::{End, Line};
use super::health::Side;
use super::link::Watch;
use super::partition;
use super::supervisor::{STABLE, Session};
use super::topology::Plan;
use crate::bus::Delivery;

/// So many connections must break soon after they began, and without a word, before one is suspected that amqprs can not
/// read: it breaks every connection over which it is delivered.
const FRAGILE: u32 = 3;
/// How long messages are then taken one at a time, so that the broker counts the deliveries of that one alone.
const CAREFUL_FOR: Duration = Duration::from_secs(10);

/// What consumes, connection after connection.
pub(super) struct Consumer {
    pub(super) shared: Arc<Shared>,
    pub(super) plans: Arc<Mutex<Plans>>,
    pub(super) deliveries: Arc<[mpsc::UnboundedSender<Delivery>]>,
    pub(super) stop: CancellationToken,
    /// Where deliveries are decoded: the runtime of whoever started the bus.
    pub(super) decoders: Handle,
    /// How many connections in a row broke soon and without a word.
    pub(super) fragile: AtomicU32,
}

/// What is consumed.
pub(super) enum Plans {
    /// What was declared.
    Declared(Arc<[Plan]>),
    /// That, and what another number of shards has left at the broker.
    Complete(Arc<[Plan]>),
}

impl Session for Consumer {
    const SIDE: Side = Side::Consuming;

    fn run(&self, watch: Arc<Watch>) -> impl Future<Output = Loss> + Send + 'static {
        let is_careful = self.fragile.load(Ordering::Relaxed) >= FRAGILE;
        let careful_until = is_careful.then(|| Instant::now() + CAREFUL_FOR);
        if is_careful {
            tracing::warn!("connections break as soon as they consume; messages are taken one at a time for a while");
        }
        let (shared, plans, stop) = (self.shared.clone(), self.plans.clone(), self.stop.clone());
        let (deliveries, decoders) = (self.deliveries.clone(), self.decoders.clone());
        let of = shared.clone();
        let line = move |plans| Line { shared: of, plans, deliveries, decoders, stop, careful_until };
        async move {
            match run(&shared, &plans, line, watch).await {
                Ok(()) => Loss::stopped(),
                Err(loss) => loss,
            }
        }
    }

    fn overdue(&self, watch: &Watch) -> Option<String> {
        watch.overdue(Instant::now())
    }

    fn ended(&self, loss: &Loss, lived: Duration) {
        self.shared.receipts.end_all();
        if loss.cause == Cause::Broke && lived < STABLE {
            self.fragile.fetch_add(1, Ordering::Relaxed);
        } else {
            self.fragile.store(0, Ordering::Relaxed);
        }
    }
}

/// One connection, from its opening to its loss; `Ok` when it was asked to end.
async fn run(
    shared: &Shared,
    plans: &Mutex<Plans>,
    line: impl FnOnce(Arc<[Plan]>) -> Line,
    watch: Arc<Watch>,
) -> Result<(), Loss> {
    let mut connection = Connected::open(&shared.settings, Side::Consuming.name(), watch).await?;
    let line = line(complete(plans, &mut connection).await?);
    let (first, longest) = line.shared.settings.backoff;
    let backoff = |index: usize| Backoff::new(first, longest, line.shared.settings.seed.wrapping_add(index as u64));
    let (told, tellings) = mpsc::unbounded_channel();
    let mut endpoints = Endpoints {
        connection,
        backoffs: (0..line.plans.len()).map(backoff).collect(),
        due: (0..line.plans.len()).map(|index| (index, Instant::now())).collect(),
        untried: (0..line.plans.len()).collect(),
        running: JoinSet::new(),
        told,
        line,
    };
    endpoints.run(tellings).await?;
    endpoints.connection.close().await;
    Ok(())
}

/// What is to be consumed. What is left over at the broker is looked for once.
async fn complete(plans: &Mutex<Plans>, connection: &mut Connected) -> Result<Arc<[Plan]>, Loss> {
    let declared = match &*plans.lock().unwrap_or_else(PoisonError::into_inner) {
        Plans::Complete(plans) => return Ok(plans.clone()),
        Plans::Declared(plans) => plans.clone(),
    };
    let left_over = partition::left_over(connection, &declared).await?;
    let complete: Arc<[Plan]> = declared.iter().cloned().chain(left_over).collect();
    *plans.lock().unwrap_or_else(PoisonError::into_inner) = Plans::Complete(complete.clone());
    Ok(complete)
}

/// The endpoints of one connection.
struct Endpoints {
    line: Line,
    connection: Connected,
    running: JoinSet<(usize, Instant, End)>,
    /// Endpoints to open a channel for, and when.
    due: BTreeMap<usize, Instant>,
    backoffs: Vec<Backoff>,
    /// Endpoints that have not worked nor failed yet.
    untried: HashSet<usize>,
    /// What each tells when it works.
    told: mpsc::UnboundedSender<usize>,
}

impl Endpoints {
    async fn run(&mut self, mut tellings: mpsc::UnboundedReceiver<usize>) -> Result<(), Loss> {
        let stop = self.line.stop.clone();
        loop {
            self.open_due().await?;
            if self.untried.is_empty() {
                self.line.shared.up(Side::Consuming);
            }
            let next = self.due.values().min().copied();
            tokio::select! {
                loss = self.connection.gone() => return Err(loss),
                Some(ended) = self.running.join_next() => {
                    let Ok((index, since, end)) = ended else { return Err(Loss::new(Cause::Away, "a defect: an endpoint's task ended early")) };
                    self.ended(index, since, end).await?;
                }
                Some(index) = tellings.recv() => self.works(index),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
                () = stop.cancelled() => break,
            }
        }
        while self.running.join_next().await.is_some() {}
        Ok(())
    }

    async fn open_due(&mut self) -> Result<(), Loss> {
        let now = Instant::now();
        let due: Vec<_> = self.due.iter().filter(|(_, at)| **at <= now).map(|(index, _)| *index).collect();
        for index in due {
            let channel = self.connection.channel().await?;
            self.due.remove(&index);
            let (line, told) = (self.line.clone(), self.told.clone());
            self.running.spawn(async move { (index, Instant::now(), line.run(index, channel, told).await) });
        }
        Ok(())
    }

    fn works(&mut self, index: usize) {
        self.untried.remove(&index);
        let name = &self.line.plans[index].queue;
        if self.line.shared.health.endpoint_up(name) {
            tracing::info!(endpoint = name, "the endpoint is well again");
        }
    }

    async fn ended(&mut self, index: usize, since: Instant, end: End) -> Result<(), Loss> {
        let loss = match end {
            End::Declared => return Ok(()),
            End::Careful | End::GaveUp => {
                self.due.insert(index, Instant::now());
                return Ok(());
            }
            End::Lost(loss) => loss,
        };
        if !self.connection.is_open() {
            return Err(self.connection.gone().await);
        }
        self.connection.count_error(&loss)?;
        self.untried.remove(&index);
        if since.elapsed() >= STABLE {
            self.backoffs[index].reset();
        }
        let pause = self.backoffs[index].pause();
        self.due.insert(index, Instant::now() + pause);
        let (endpoint, reason) = (self.line.plans[index].queue.as_str(), loss.why.as_str());
        if !self.line.shared.health.endpoint_down(endpoint, &loss) {
            tracing::debug!(endpoint, reason, ?pause, "the endpoint is still not well");
        } else if loss.cause == Cause::Topology {
            tracing::error!(endpoint, reason, ?pause, "the endpoint is not as declared; trying again, for ever");
        } else {
            tracing::warn!(endpoint, reason, ?pause, "the endpoint lost its channel; consuming again");
        }
        Ok(())
    }
}
