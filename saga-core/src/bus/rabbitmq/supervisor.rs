//! What keeps a connection: opens it, watches it, and opens another one, for ever.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::backoff::Backoff;
use super::connection::{Cause, Loss};
use super::health::Side;
use super::link::{Link, Watch};

/// How often a connection is looked at from outside.
const LOOK: Duration = Duration::from_millis(500);
/// How long a connection must have lived for the next pause to be a short one again.
pub(super) const STABLE: Duration = Duration::from_secs(10);
/// How long a connection may take to end in good order.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What owns a connection while it lives.
pub(super) trait Session: Send + Sync + 'static {
    /// Which of the two it is.
    const SIDE: Side;

    /// Opens a connection and works over it until it is lost, or the bus is closed.
    fn run(&self, watch: Arc<Watch>) -> impl Future<Output = Loss> + Send + 'static;

    /// Why the connection is to be given up, if it is.
    fn overdue(&self, watch: &Watch) -> Option<String>;

    /// It was lost after so long; nothing of it runs any more.
    fn ended(&self, loss: &Loss, lived: Duration);
}

/// Keeps a connection until `stop`; then lets it end in good order.
pub(super) async fn supervise<S: Session>(session: S, shared: Arc<Shared>, stop: CancellationToken) {
    let (first, longest) = shared.settings.backoff;
    let mut backoff = Backoff::new(first, longest, shared.settings.seed ^ S::SIDE as u64);
    loop {
        let began = Instant::now();
        let loss = live(&session, &stop).await;
        let lived = began.elapsed();
        session.ended(&loss, lived);
        if stop.is_cancelled() {
            return;
        }
        if lived >= STABLE {
            backoff.reset();
        }
        let pause = backoff.pause();
        report(&shared, S::SIDE, &loss, pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        metrics::counter!("saga_bus_reconnects_total", "connection" => S::SIDE.name()).increment(1);
    }
}

/// One connection's life.
async fn live<S: Session>(session: &S, stop: &CancellationToken) -> Loss {
    let away = |why: String| Loss::new(Cause::Away, why);
    let link = match Link::new(S::SIDE.name()) {
        Ok(link) => link,
        Err(error) => return away(format!("no thread can be started for the connection: {error}")),
    };
    let watch = Arc::new(Watch::default());
    let Some(mut running) = link.spawn(session.run(watch.clone())) else { return Loss::stopped() };
    loop {
        tokio::select! {
            ended = &mut running => return ended.unwrap_or_else(|error| away(format!("a defect: {error}"))),
            () = stop.cancelled() => return closing(running).await,
            () = tokio::time::sleep(LOOK) => if let Some(what) = session.overdue(&watch) {
                return away(format!("no answer in time: {what}"));
            }
        }
    }
}

async fn closing(running: JoinHandle<Loss>) -> Loss {
    match tokio::time::timeout(CLOSE_LIMIT, running).await {
        Ok(Ok(loss)) => loss,
        Ok(Err(_)) | Err(_) => Loss::stopped(),
    }
}

fn report(shared: &Shared, side: Side, loss: &Loss, pause: Duration) {
    let (connection, reason) = (side.name(), loss.why.as_str());
    if !shared.health.down(side, loss) {
        tracing::debug!(connection, reason, ?pause, "the broker is still not there");
    } else if loss.cause == Cause::Topology {
        tracing::error!(connection, reason, ?pause, "the broker is not as it should be; trying again, for ever");
    } else {
        tracing::warn!(connection, reason, ?pause, "no connection to the broker; connecting again, for ever");
    }
}
