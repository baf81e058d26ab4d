//! `check`: whether what is stored is sound, while hosts work on it or not. Writes nothing.

mod judge;
mod look;
mod report;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use order_saga::{Order, OrderAudit};
use saga_core::{DeadLetterPage, Machine, Saga, Unreadable};
use uuid::Uuid;

use self::judge::{Finding, Judge, Kind, Messages};
use self::look::Look;
use crate::config::{BusUrl, Config};

pub use self::report::Report;

/// How many orders are looked at together: few enough that the database soon tidies up again and their histories are
/// held in memory, many enough that most of the time is not spent on the way.
const PAGE: usize = 256;

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
    let is_settled = options.at_rest || config.bus == BusUrl::Embedded;
    let judge = Judge { machine: Machine::new(), retention: config.retention, now, is_settled };
    let mut check = Check { source, judge, options, report: Report::of(&config.store) };
    check.orders().await?;
    check.outbox().await?;
    check.dead_letters().await?;
    Ok(check.report)
}

struct Check {
    source: Box<dyn OrderAudit>,
    judge: Judge,
    options: Options,
    report: Report,
}

impl Check {
    async fn orders(&mut self) -> anyhow::Result<()> {
        self.source.refresh().await?;
        let last = self.source.extent(Order::NAME).await?.last_id.max(self.source.last_order_id().await?);
        let mut next = last.map(|_| Uuid::nil());
        while let Some(from) = next.filter(|from| Some(*from) <= last) {
            self.source.refresh().await?;
            let ids = look::ids(&mut *self.source, from, PAGE).await?;
            let Some(end) = ids.last() else { return Ok(()) };
            next = end.as_u128().checked_add(1).map(Uuid::from_u128);
            self.page(&ids).await?;
        }
        Ok(())
    }

    async fn page(&mut self, ids: &[Uuid]) -> anyhow::Result<()> {
        let look = look::look(&mut *self.source, ids).await?;
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
        let look = look::look(&mut *self.source, again).await?;
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
        self.source.refresh().await?;
        let last = self.source.extent(Order::NAME).await?.last_outbox;
        let mut after = 0;
        while after < last {
            self.source.refresh().await?;
            let (read, end, found) = self.outbox_page(after).await?;
            self.report.outbox += read as u64;
            if !found.is_empty() {
                self.source.refresh().await?;
                let (_, _, still) = self.outbox_page(after).await?;
                self.tell(found, &still);
            }
            match end {
                Some(end) if read == PAGE => after = end,
                _ => break,
            }
        }
        Ok(())
    }

    /// How many rows there were, the id of the last, and what is wrong with them.
    async fn outbox_page(&mut self, after: i64) -> anyhow::Result<(usize, Option<i64>, Vec<Finding>)> {
        let page = self.source.outbox(after, PAGE).await?;
        let mut orders: Vec<Uuid> = page.rows.iter().filter_map(|(_, row)| row.envelope.correlation_id).collect();
        orders.sort_unstable();
        orders.dedup();
        // A line of history that can not be read was told of before.
        let (histories, broken) = look::journals(&mut *self.source, &orders).await?;
        let histories = if broken.is_empty() { histories } else { HashMap::new() };
        let judged = page.rows.iter().filter(|_| broken.is_empty());
        let mut found = unreadable(&page.unreadable);
        found.extend(judged.filter_map(|(_, row)| self.judge.waiting(row, &histories)));
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
