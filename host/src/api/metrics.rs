//! What was measured, as Prometheus reads it.

use std::fmt::{Display, Write};
use std::time::Duration;

use chrono::{DateTime, Utc};
use order_saga::OrderStatus;
use saga_core::Backlog;
use tokio::sync::Mutex;

use super::State;

/// A query that takes longer costs its own lines: whoever scrapes waits not much longer itself.
const QUERY_LIMIT: Duration = Duration::from_secs(2);

/// What was counted is told again for so long: counting reads every order, and anybody may scrape.
const FRESH: Duration = Duration::from_secs(1);

type Counts = Vec<(OrderStatus, u64)>;

/// Tells what was measured.
#[derive(Default)]
pub(super) struct Metrics {
    backlog: Kept<Backlog>,
    orders: Kept<Counts>,
}

/// What was read last, and when. Who asks while it is read waits for the same answer.
struct Kept<T>(Mutex<Option<(DateTime<Utc>, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Kept<T> {
    /// What was read last, if it is fresh; else what is read now, if that succeeds in time.
    async fn get<E: Display>(&self, state: &State, read: impl Future<Output = Result<T, E>>) -> Option<T> {
        let get = async {
            let mut kept = self.0.lock().await;
            let now = state.now();
            let age = |at: DateTime<Utc>| (now - at).to_std().ok();
            if let Some((at, value)) = &*kept
                && age(*at).is_some_and(|age| age < FRESH)
            {
                return Some(value.clone());
            }
            match read.await {
                Ok(value) => Some(kept.insert((now, value)).1.clone()),
                Err(error) => {
                    tracing::warn!(%error, "the metrics lack what waits in the store");
                    None
                }
            }
        };
        let answer = state.within(QUERY_LIMIT, get).await;
        answer.unwrap_or_else(|| {
            tracing::warn!(limit = ?QUERY_LIMIT, "the metrics lack what takes too long to read");
            None
        })
    }
}

impl Metrics {
    /// Everything that was recorded, and what waits in the store at this moment, or a second before.
    ///
    /// A query that fails or takes too long costs its own lines only: `saga_store_up` is then 0.
    pub(super) async fn render(&self, state: &State) -> String {
        let mut text = state.metrics.render();
        let (backlog, orders) =
            tokio::join!(self.backlog.get(state, state.store.backlog()), self.orders.get(state, state.orders.count()));
        let up = backlog.is_some() && orders.is_some();
        gauge(&mut text, "saga_store_up", "Whether the store answers.", f64::from(u8::from(up)));
        if let Some(backlog) = backlog {
            waiting(&mut text, &backlog, state.now());
        }
        if let Some(counts) = orders {
            head(&mut text, "orders", "Orders, by status.");
            for status in OrderStatus::ALL {
                let count = counts.iter().find(|(it, _)| *it == status).map_or(0, |(_, count)| *count);
                let _ = writeln!(text, "orders{{status=\"{}\"}} {count}", status.name());
            }
        }
        text
    }
}

fn waiting(text: &mut String, backlog: &Backlog, now: DateTime<Utc>) {
    let since = |at: Option<DateTime<Utc>>| at.map_or(0.0, |at| (now - at).num_milliseconds().max(0) as f64 / 1000.0);
    for (name, help, value) in [
        ("saga_outbox_rows", "Messages that wait to be sent, or are in hand the short way.", backlog.outbox as f64),
        ("saga_outbox_lag_seconds", "How long the oldest of them has waited.", since(backlog.oldest_outbox)),
        ("saga_timers", "Timers and redeliveries that wait.", backlog.timers as f64),
        ("saga_timer_lag_seconds", "How long the earliest of them has been due.", since(backlog.next_due)),
        ("saga_dead_letters", "Dead letters that were not redriven.", backlog.dead_letters as f64),
    ] {
        gauge(text, name, help, value);
    }
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    head(text, name, help);
    let _ = writeln!(text, "{name} {value}");
}

fn head(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}
