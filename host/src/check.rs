//! `check`: whether what is stored is sound, while hosts work on it or not. Writes nothing.

mod judge;
mod look;
mod report;

use std::time::Duration;

use chrono::{DateTime, Utc};
use order_saga::{Order, OrderAudit};
use saga_core::{DeadLetterPage, Machine, Saga, Unreadable};
use uuid::Uuid;

use self::judge::{Finding, Judge, Kind, Messages};
use self::look::Look;
use crate::config::{BusUrl, Config, StoreUrl};

pub use self::report::Report;

/// How many orders are looked at together: few enough that the database soon tidies up again and their histories are
/// held in memory, many enough that most of the time is not spent on the way.
const PAGE: usize = 256;

/// The longest that one page may take, whose ten statements the server ends after half a minute each: a connection that
/// is dead on the other side does not say so.
const PAGE_LIMIT: Duration = Duration::from_secs(300);

/// How to look.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// No broker holds a message, so what is neither waiting nor handled is lost.
    pub at_rest: bool,
    /// How many violations, and how many dead letters, are listed.
    pub limit: usize,
}

/// Looks at everything that is stored. What hosts add meanwhile may be looked at or not; no part of it is taken for a
/// violation, because what one commit has written is seen as a whole.
///
/// # Errors
/// When the store can not be looked at.
pub async fn check(config: &Config, options: Options, now: DateTime<Utc>) -> anyhow::Result<Report> {
    let source = look::open(&config.store).await?;
    let (is_settled, assumed) = assumed(config, options.at_rest);
    let judge = Judge { machine: Machine::new(), retention: config.retention, now, is_settled };
    let mut check = Check { source, judge, options, report: Report::of(&config.store, assumed) };
    check.orders().await?;
    check.outbox().await?;
    in_time(check.dead_letters()).await?;
    Ok(check.report)
}

/// Whether what is neither waiting nor handled is lost, and why. The bus of other hosts on the same database is not known
/// here, and the setting may have been left out: it alone settles nothing.
fn assumed(config: &Config, at_rest: bool) -> (bool, &'static str) {
    match (&config.store, &config.bus) {
        _ if at_rest => (true, "--at-rest: no broker holds a message; what is neither waiting nor handled is lost"),
        (StoreUrl::Sqlite(_), BusUrl::Embedded) => {
            (true, "SQLite with bus.url embedded: — what is neither waiting nor handled is lost")
        }
        (_, BusUrl::Embedded) => (
            false,
            "bus.url embedded:, but other hosts on this store may use a broker: messages may be there; --at-rest says that \
             none is",
        ),
        (_, BusUrl::RabbitMq(_)) => (false, "bus.url is a broker: messages may be there; --at-rest says that none is"),
    }
}

/// Waits for a page, or for as long as one may take.
async fn in_time<T>(page: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(PAGE_LIMIT, page).await {
        Ok(page) => page,
        Err(_) => anyhow::bail!("the database has not answered for {PAGE_LIMIT:?}: is it still there?"),
    }
}

struct Check {
    source: Box<dyn OrderAudit>,
    judge: Judge,
    options: Options,
    report: Report,
}

impl Check {
    async fn orders(&mut self) -> anyhow::Result<()> {
        let last = in_time(async {
            self.source.refresh().await?;
            Ok(self.source.extent(Order::NAME).await?.last_id.max(self.source.last_order_id().await?))
        });
        let last = last.await?;
        let mut next = last.map(|_| Uuid::nil());
        while let Some(from) = next.filter(|from| Some(*from) <= last) {
            next = in_time(self.orders_from(from)).await?;
        }
        Ok(())
    }

    /// Where the next page begins, if there is one.
    async fn orders_from(&mut self, from: Uuid) -> anyhow::Result<Option<Uuid>> {
        self.source.refresh().await?;
        let ids = look::ids(&mut *self.source, from, PAGE).await?;
        let Some(end) = ids.last() else { return Ok(None) };
        self.page(&ids).await?;
        Ok(end.as_u128().checked_add(1).map(Uuid::from_u128))
    }

    async fn page(&mut self, ids: &[Uuid]) -> anyhow::Result<()> {
        let look = look::look(&mut *self.source, ids, self.judge.is_settled).await?;
        self.report.orders +=
            look.orders.values().filter(|it| it.status.is_some() || it.instance.is_some()).count() as u64;
        self.report.journal += look.orders.values().map(|it| it.journal.len() as u64).sum::<u64>();
        self.report.notifications += look.orders.values().map(|it| it.told.len() as u64).sum::<u64>();
        let mut messages = self.report.messages;
        let suspected = self.judge_all(&look, &mut messages);
        self.report.messages = messages;
        if suspected.is_empty() {
            return Ok(());
        }
        // Looked at once more before it is told: a moment later it must still be so.
        let mut suspects: Vec<Uuid> = suspected.iter().filter_map(|it| it.order).collect();
        suspects.dedup();
        let again = if suspected.iter().any(|it| it.order.is_none()) { ids } else { &suspects };
        self.source.refresh().await?;
        let look = look::look(&mut *self.source, again, self.judge.is_settled).await?;
        let still = self.judge_all(&look, &mut Messages::default());
        self.tell(suspected, &still);
        Ok(())
    }

    fn judge_all(&self, look: &Look, messages: &mut Messages) -> Vec<Finding> {
        let mut found = unreadable(&look.unreadable);
        for id in look.orders.keys() {
            found.extend(self.judge.order(*id, look, messages));
        }
        found
    }

    async fn outbox(&mut self) -> anyhow::Result<()> {
        let last = in_time(async {
            self.source.refresh().await?;
            Ok(self.source.extent(Order::NAME).await?.last_outbox)
        });
        let last = last.await?;
        let mut next = Some(0);
        while let Some(after) = next.filter(|after| *after < last) {
            next = in_time(self.outbox_after(after)).await?;
        }
        Ok(())
    }

    /// The last row of this page, if there may be more.
    async fn outbox_after(&mut self, after: i64) -> anyhow::Result<Option<i64>> {
        self.source.refresh().await?;
        let (read, end, found) = self.outbox_page(after).await?;
        self.report.outbox += read as u64;
        if !found.is_empty() {
            self.source.refresh().await?;
            let (_, _, still) = self.outbox_page(after).await?;
            self.tell(found, &still);
        }
        Ok(end.filter(|_| read == PAGE))
    }

    /// How many rows there were, the id of the last, and what is wrong with them.
    async fn outbox_page(&mut self, after: i64) -> anyhow::Result<(usize, Option<i64>, Vec<Finding>)> {
        let page = self.source.outbox(after, PAGE).await?;
        let mut orders: Vec<Uuid> = page.rows.iter().filter_map(|(_, row)| row.envelope.correlation_id).collect();
        orders.sort_unstable();
        orders.dedup();
        // A line of history that can not be read was told of before.
        let histories = look::journals(&mut *self.source, &orders).await?;
        let is_told = |order| histories.broken.contains(&order);
        let judged = page.rows.iter().filter(|(_, row)| !row.envelope.correlation_id.is_some_and(is_told));
        let mut found = unreadable(&page.unreadable);
        found.extend(judged.filter_map(|(_, row)| self.judge.waiting(row, &histories.whole)));
        let keys = page.unreadable.iter().filter_map(|it| it.key.rsplit(' ').next()?.parse().ok());
        let end = page.rows.iter().map(|(id, _)| *id).chain(keys).max();
        Ok((page.rows.len() + page.unreadable.len(), end, found))
    }

    async fn dead_letters(&mut self) -> anyhow::Result<()> {
        self.source.refresh().await?;
        self.report.dead_letters.total = self.source.extent(Order::NAME).await?.dead_letters;
        let page = self.source.dead_letters(&DeadLetterPage { before: None, limit: self.options.limit }).await?;
        let found = unreadable(&page.unreadable);
        self.tell(found.clone(), &found);
        self.report.dead_letters.listed = page.rows.into_iter().map(Into::into).collect();
        Ok(())
    }

    /// Tells what was found, if it still is so.
    fn tell(&mut self, found: Vec<Finding>, still: &[Finding]) {
        for finding in found.into_iter().filter(|it| still.contains(it)) {
            self.report.add(finding, self.options.limit);
        }
    }
}

fn unreadable(rows: &[Unreadable]) -> Vec<Finding> {
    let finding =
        |it: &Unreadable| Finding { kind: Kind::Unreadable, order: None, what: format!("{}: {}", it.key, it.reason) };
    rows.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn given_a_database_that_is_silent_when_a_page_is_read_then_it_is_an_error_in_the_end() {
        let error = in_time(pending::<anyhow::Result<()>>()).await.unwrap_err();
        assert!(error.to_string().contains("has not answered"), "{error}");
        assert_eq!(in_time(async { Ok(7) }).await.unwrap(), 7);
    }

    #[test]
    fn given_a_bus_that_others_may_not_use_when_assumed_then_only_sqlite_or_the_option_settles_it() {
        let settled = |store: &str, bus: &str, at_rest| {
            let config = Config { store: store.parse().unwrap(), bus: bus.parse().unwrap(), ..Config::default() };
            assumed(&config, at_rest).0
        };
        let (postgres, rabbit) = ("postgres://saga@localhost/orders", "amqp://saga@localhost/orders");
        assert!(settled("sqlite://orders.db", "embedded:", false));
        assert!(!settled(postgres, "embedded:", false));
        assert!(!settled("sqlite://orders.db", rabbit, false) && !settled(postgres, rabbit, false));
        assert!(settled(postgres, "embedded:", true) && settled(postgres, rabbit, true));
    }
}
