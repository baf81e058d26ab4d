//! The whole service, wired: store, bus, runtime, expiry job, REST.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use order_saga::{
    Expiration, ExpiryJob, LogMailer, Mailer, ORDER_SAGA, OrderProcess, Orders, PaymentGateway, RandomGateway,
    SuccessRate,
};
use saga_core::{Bus, Client, Clock, Probe, Runtime, Store, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Ids, State};
use crate::auth::Auth;
use crate::config::Config;
use crate::stores::{self, Opened};
use crate::{bus, server, telemetry};

pub use crate::server::HttpLimits;

/// What stands behind the service; what is not said comes from the configuration.
#[derive(Default, Clone)]
pub struct Parts {
    /// The time; the machine's clock if not said.
    pub clock: Option<Arc<dyn Clock>>,
    /// Who decides about payments; by chance if not said.
    pub gateway: Option<Arc<dyn PaymentGateway>>,
    /// Who sends mails; nobody, a line in the log says so, if not said.
    pub mailer: Option<Arc<dyn Mailer>>,
    /// Who is told of named points, in crash tests.
    pub probe: Option<Arc<dyn Probe>>,
    /// What stands before the store, in benchmarks and tests that watch it or make it fail.
    pub decorate: Option<Decorate>,
    /// How long the HTTP server waits for what.
    pub http: HttpLimits,
}

/// Puts something before a store.
pub type Decorate = Arc<dyn Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync>;

/// A service that runs. Dropping it stops it as a crash would.
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    /// Orders and notifications, to be read.
    pub orders: Arc<dyn Orders>,
    /// Journals and dead letters, to be read.
    pub store: Arc<dyn Store>,
    /// The way into its runtime.
    pub client: Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// Starts the service; it answers when this returns.
    ///
    /// # Errors
    /// When the address is taken or the store can not be opened.
    pub async fn start(config: &Config, parts: Parts) -> anyhow::Result<Self> {
        let bound = server::bind(&config.http, parts.http)?;
        let address = bound.address;
        let metrics = telemetry::metrics()?;
        let mut opened = stores::open(config, parts.probe.clone()).await?;
        if let Some(decorate) = &parts.decorate {
            opened.store = decorate(opened.store);
        }
        let clock = parts.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
        let bus = bus::open(config)?;
        let runtime = runtime(config, &parts, &opened, bus.bus.clone(), clock.clone())?;
        let client = runtime.client();
        let expiration = Expiration { interval: config.expiration.interval, after: config.expiration.after };
        let job = ExpiryJob::new(opened.orders.clone(), Arc::new(client.clone()), clock.clone(), expiration);
        let state = Arc::new(State {
            orders: opened.orders.clone(),
            store: opened.store.clone(),
            client: client.clone(),
            auth: Auth::new(&config.auth),
            clock,
            ids: Ids::default(),
            metrics,
            migrations: opened.migrations.clone(),
            takes_orders: config.roles.api,
            probe: parts.probe,
        });
        let stop = CancellationToken::new();
        let (orders, store) = (opened.orders.clone(), opened.store.clone());
        let job = config.roles.expiry.then_some(job);
        let running = Running { bound, state, runtime, job, opened, bus, stop: stop.clone(), drain: config.drain };
        let task = tokio::spawn(running.run());
        tracing::info!(%address, store = %config.store, bus = %config.bus, "ready on http://{address}");
        Ok(Self { address, orders, store, client, stop, task })
    }

    /// Stops the service at once, as a crash would, and returns when nothing of it runs any more.
    pub async fn crash(mut self) {
        self.task.abort();
        // The abort is an error by its nature.
        let _ = (&mut self.task).await;
    }

    /// Begins to stop; [`Service::ended`] tells when that is done.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// What stops the service when it is cancelled, for somebody who does not hold the service.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns when the service has ended, after [`Service::stop`] or by itself.
    ///
    /// # Errors
    /// When it ended by itself.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        (&mut self.task).await.context("the service ended unexpectedly")?
    }
}

fn runtime(
    config: &Config,
    parts: &Parts,
    opened: &Opened,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Runtime> {
    let process = OrderProcess {
        gateway: parts.gateway.clone().map_or_else(|| by_chance(config), Ok)?,
        mailer: parts.mailer.clone().unwrap_or_else(|| Arc::new(LogMailer)),
        payment_delay: config.payment.delay,
        payment_concurrency: config.payment.concurrency,
    };
    let roles = config.roles;
    let mut builder = Runtime::builder(opened.store.clone(), bus)
        .clock(clock)
        .retry(config.retry)
        .drain(shares(config.drain).1)
        .retention(config.retention)
        .delivery_limit(config.rabbitmq.delivery_limit)
        .shards(ORDER_SAGA, config.rabbitmq.shards)
        .roles(saga_core::Roles { sagas: roles.saga, handlers: roles.activities, relay: roles.relay });
    if let Some(probe) = &parts.probe {
        builder = builder.probe(probe.clone());
    }
    process.register(builder).build().context("the runtime can not be built")
}

/// The gateway that decides by chance, as the configuration says.
///
/// # Errors
/// When the success rate is none.
pub(crate) fn by_chance(config: &Config) -> anyhow::Result<Arc<dyn PaymentGateway>> {
    let rate = SuccessRate::new(config.payment.success_rate)?;
    Ok(Arc::new(match config.payment.seed {
        Some(seed) => RandomGateway::seeded(rate, seed),
        None => RandomGateway::new(rate),
    }))
}

/// How a shutdown's time is shared: at the most half of it for requests in hand, at the most three eighths for messages
/// in hand, and the rest to close the store. What is not used is left over.
fn shares(drain: Duration) -> (Duration, Duration) {
    (drain / 2, drain * 3 / 8)
}

/// Everything that runs.
struct Running {
    bound: server::Bound,
    state: Arc<State>,
    runtime: Runtime,
    job: Option<ExpiryJob>,
    opened: Opened,
    bus: bus::Opened,
    stop: CancellationToken,
    drain: Duration,
}

impl Running {
    async fn run(self) -> anyhow::Result<()> {
        let Self { bound, state, runtime, job, opened, bus, stop, drain } = self;
        let (http_share, _) = shares(drain);
        let (http_stop, runtime_stop) = (CancellationToken::new(), CancellationToken::new());
        let (endpoint, clock) = (api::endpoint(state.clone()), state.clock.clone());
        let mut http = Owned(tokio::spawn(server::run(bound, endpoint, clock, http_stop.clone(), http_share)));
        let mut flow = Owned(tokio::spawn(runtime.run(runtime_stop.clone().cancelled_owned())));
        let job_stop = stop.clone().cancelled_owned();
        let _job = job.map(|job| Owned(tokio::spawn(async move { job.run(job_stop).await })));
        let _upkeep = Owned(tokio::spawn(async move {
            loop {
                tokio::time::sleep(telemetry::UPKEEP).await;
                state.metrics.run_upkeep();
            }
        }));
        tokio::select! {
            () = stop.cancelled() => {}
            ended = &mut http.0 => {
                ended?;
                anyhow::bail!("the HTTP server ended");
            }
            ended = &mut flow.0 => return ended?.map_err(Into::into).and_then(|()| anyhow::bail!("the runtime ended")),
        }
        tracing::info!(limit = ?drain, "stopping: no more requests; what is in hand is finished");
        let finish = async {
            http_stop.cancel();
            (&mut http.0).await?;
            runtime_stop.cancel();
            (&mut flow.0).await??;
            bus.close().await;
            opened.close().await;
            anyhow::Ok(())
        };
        match tokio::time::timeout(drain, finish).await {
            Ok(finished) => finished?,
            Err(_) => {
                tracing::warn!(limit = ?drain, "not everything was finished; the rest is stored, and goes on at the next start")
            }
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// A task that ends when its owner is dropped.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
