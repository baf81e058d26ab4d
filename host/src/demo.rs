//! `demo`: orders through a service of its own, in a temporary folder, with short delays.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table, presets};
use fake::Fake;
use fake::faker::lorem::en::Word;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use order_saga::OrderStatus;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::{Config, LogConfig, StoreUrl};
use crate::rest::Rest;
use crate::serve::{Parts, Service};
use crate::telemetry;

/// How many requests are under way at the same time: enough to fill the batches, few enough for any machine.
const CLIENTS: usize = 32;

/// How often the progress is read.
const LOOK: Duration = Duration::from_millis(100);

/// How long a payment takes here.
const PAYMENT: Duration = Duration::from_millis(200);

/// How often the expiry job looks here.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// An order expires after this long, and `EXPIRY_SHARE` for each order that was asked for: an order that waits for its
/// turn behind the others must not expire for it.
const EXPIRY: Duration = Duration::from_secs(2);
const EXPIRY_SHARE: Duration = Duration::from_millis(2);

/// All is final after the expiry and this long, or something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long orders took, from submission to their last status.
struct Percentiles {
    p50: Duration,
    p95: Duration,
}

/// What became of one order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    id: Uuid,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Seen>,
    next_cursor: Option<String>,
}

/// Runs the demo, and prints what became of the orders.
///
/// # Errors
/// When an order is refused, lost, not final in time, or not notified exactly once.
pub(crate) async fn run(orders: usize) -> anyhow::Result<()> {
    telemetry::start_logging(&LogConfig { format: None, filter: "warn".to_owned() })?;
    let folder = tempfile::tempdir().context("a temporary folder can not be made")?;
    let mut config = Config { store: StoreUrl::Sqlite(folder.path().join("orders.db")), ..Config::default() };
    config.http.listen.set_port(0);
    config.payment.delay = PAYMENT;
    config.expiration.interval = EXPIRY_INTERVAL;
    config.expiration.after = EXPIRY + EXPIRY_SHARE * u32::try_from(orders).unwrap_or(u32::MAX);
    let service = Service::start(&config, Parts::default()).await?;
    let rest = Rest::new(service.address);
    let bars = Bars::new(orders);
    let work = async {
        let submit = submit(&rest, orders, &bars);
        let limit = config.expiration.after + PATIENCE;
        let watch = async {
            let settled = tokio::time::timeout(limit, settle(&service, orders, &bars)).await;
            settled.with_context(|| format!("not every order was final after {}", humantime::format_duration(limit)))?
        };
        tokio::try_join!(submit, watch)?;
        report(&rest, orders).await
    };
    let outcome = work.await;
    bars.clear();
    service.stop();
    service.ended().await?;
    println!("{}", outcome?);
    Ok(())
}

async fn submit(rest: &Rest, orders: usize, bars: &Bars) -> anyhow::Result<()> {
    let submissions = stream::iter((0..orders).map(|_| random_order())).map(|order| async move {
        let answer = rest.post("/api/orders", &order.to_string(), &[]).await?;
        ensure!(answer.status == 201, "an order was refused: {} {}", answer.status, answer.text());
        bars.submitted.inc(1);
        Ok(())
    });
    submissions.buffer_unordered(CLIENTS).try_collect::<Vec<()>>().await.map(drop)
}

fn random_order() -> Value {
    let item = || {
        let cents: u32 = (100..20_000).fake();
        json!({
            "productId": format!("{}-{}", Word().fake::<String>(), (100..1000).fake::<u32>()),
            "quantity": (1..=5).fake::<u32>(),
            "price": format!("{}.{:02}", cents / 100, cents % 100),
        })
    };
    let items: Vec<Value> = (0..(1..=4).fake::<usize>()).map(|_| item()).collect();
    json!({ "items": items })
}

/// Returns when every order is final and notified.
async fn settle(service: &Service, orders: usize, bars: &Bars) -> anyhow::Result<()> {
    loop {
        let by_status: HashMap<_, _> = service.orders.count().await?.into_iter().collect();
        let of = |status| by_status.get(&status).copied().unwrap_or(0);
        let (completed, expired) = (of(OrderStatus::Completed), of(OrderStatus::Expired));
        let notified: u64 = service.orders.count_notifications().await?.into_iter().map(|(_, count)| count).sum();
        bars.show(completed, expired, notified);
        if completed + expired >= orders as u64 && notified >= orders as u64 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What became of the orders, as REST tells it.
async fn report(rest: &Rest, orders: usize) -> anyhow::Result<Table> {
    let mut seen: Vec<Seen> = Vec::with_capacity(orders);
    let mut path = "/api/orders?limit=100".to_owned();
    // A page holds a hundred: more pages than that hold orders that nobody submitted.
    for _ in 0..=orders / 100 {
        let page: Page = rest.get(&path).await?.json()?;
        seen.extend(page.items);
        let Some(cursor) = page.next_cursor else { break };
        path = format!("/api/orders?limit=100&cursor={cursor}");
    }
    ensure!(seen.len() == orders, "{orders} orders were submitted, {} are there", seen.len());
    let notifications = stream::iter(&seen).map(|order| notification(rest, order)).buffer_unordered(CLIENTS);
    let notified: Vec<String> = notifications.try_collect().await?;
    let mut states: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for order in &seen {
        states
            .entry(&order.status)
            .or_default()
            .push((order.updated_at - order.created_at).to_std().unwrap_or_default());
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["status", "orders", "notifications", "p50", "p95"]);
    for (status, durations) in states {
        let count = durations.len();
        let told = notified.iter().filter(|kind| *kind == status).count();
        let Percentiles { p50, p95 } = percentiles(durations);
        let milliseconds = |it: Duration| format!("{} ms", it.as_millis());
        table.add_row([status.to_owned(), count.to_string(), told.to_string(), milliseconds(p50), milliseconds(p95)]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(table)
}

/// The kind of the one notification that an order must have.
async fn notification(rest: &Rest, order: &Seen) -> anyhow::Result<String> {
    let list: Value = rest.get(&format!("/api/orders/{}/notifications", order.id)).await?.json()?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    match items {
        [one] if one["kind"] == order.status.as_str() => Ok(order.status.clone()),
        _ => bail!("order {} is {}, and has these notifications: {}", order.id, order.status, list["items"]),
    }
}

/// The nearest-rank percentiles.
fn percentiles(mut durations: Vec<Duration>) -> Percentiles {
    durations.sort_unstable();
    let at = |percent: usize| {
        let rank = (durations.len() * percent).div_ceil(100).max(1);
        durations.get(rank - 1).copied().unwrap_or_default()
    };
    Percentiles { p50: at(50), p95: at(95) }
}

/// The progress; it hides itself when nobody looks.
struct Bars {
    submitted: ProgressBar,
    completed: ProgressBar,
    expired: ProgressBar,
    notified: ProgressBar,
}

impl Bars {
    fn new(orders: usize) -> Self {
        let all = MultiProgress::new();
        let bar = |name: &'static str| {
            let bar = all.add(ProgressBar::new(orders as u64));
            if let Ok(style) = ProgressStyle::with_template("{prefix:>10} {bar:40} {pos}/{len}") {
                bar.set_style(style);
            }
            bar.with_prefix(name)
        };
        let (submitted, completed) = (bar("submitted"), bar("completed"));
        Self { submitted, completed, expired: bar("expired"), notified: bar("notified") }
    }

    fn show(&self, completed: u64, expired: u64, notified: u64) {
        self.completed.set_position(completed);
        self.expired.set_position(expired);
        self.notified.set_position(notified);
    }

    fn clear(&self) {
        for bar in [&self.submitted, &self.completed, &self.expired, &self.notified] {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_durations_when_ranked_then_the_nearest_rank_is_taken() {
        let all = percentiles((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((all.p50, all.p95), (Duration::from_millis(50), Duration::from_millis(95)));
        let one = percentiles(vec![Duration::from_millis(7)]);
        assert_eq!((one.p50, one.p95), (Duration::from_millis(7), Duration::from_millis(7)));
    }
}
