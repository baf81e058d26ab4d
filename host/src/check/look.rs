//! What is read of some orders, all of it at one moment.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use order_saga::{Order, OrderAudit, Told};
use saga_core::{JournalRow, PostgresAudit, Saga, SqliteAudit, StoredInstance, Unreadable};
use uuid::Uuid;

use crate::config::StoreUrl;

/// Everything that is known of some orders, at one moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) orders: BTreeMap<Uuid, Seen>,
    /// Which endpoint has handled which of their messages.
    pub(super) handled: HashSet<(Uuid, String)>,
    /// Which endpoint has given up which of their messages.
    pub(super) given_up: HashSet<(Uuid, String)>,
    /// Which of their messages wait in the store.
    pub(super) waiting: HashSet<Uuid>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Everything that is known of one order. Each part may be missing, which is what is looked for.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) instance: Option<StoredInstance>,
    pub(super) journal: Vec<JournalRow>,
    pub(super) status: Option<String>,
    pub(super) told: Vec<Told>,
    /// A row of it can not be read: nothing can be told of it.
    pub(super) is_unreadable: bool,
}

/// Opens the store for reading only; hosts may work on it.
pub(super) async fn open(url: &StoreUrl) -> anyhow::Result<Box<dyn OrderAudit>> {
    let opened = match url {
        StoreUrl::Memory => anyhow::bail!(
            "store.url = memory: expected sqlite://PATH or postgres://…, because what one process has in its memory no other \
             can look at"
        ),
        StoreUrl::Sqlite(_) => SqliteAudit::open(&url.to_string()).await.map(|it| Box::new(it) as Box<dyn OrderAudit>),
        StoreUrl::Postgres(server) => PostgresAudit::open(server.expose()).await.map(|it| Box::new(it) as _),
    };
    opened.with_context(|| format!("store.url {url} can not be looked at"))
}

/// The ids of the next orders, from `from` on, whatever there is of each.
pub(super) async fn ids(source: &mut dyn OrderAudit, from: Uuid, limit: usize) -> anyhow::Result<Vec<Uuid>> {
    let mut ids = source.ids(Order::NAME, from, limit).await?;
    ids.extend(source.order_ids(from, limit).await?);
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(limit);
    Ok(ids)
}

/// Reads all there is of these orders.
pub(super) async fn look(source: &mut dyn OrderAudit, ids: &[Uuid]) -> anyhow::Result<Look> {
    let mut look = Look { orders: ids.iter().map(|id| (*id, Seen::default())).collect(), ..Look::default() };
    let instances = source.instances(Order::NAME, ids).await?;
    for instance in instances.rows {
        let id = instance.id;
        look.orders.entry(id).or_default().instance = Some(instance);
    }
    let (histories, unreadable) = journals(source, ids).await?;
    for (id, journal) in histories {
        look.orders.entry(id).or_default().journal = journal;
    }
    if !unreadable.is_empty() {
        // Which history such a line belongs to is found by asking for each alone.
        for id in ids {
            let (_, unreadable) = journals(source, &[*id]).await?;
            look.orders.entry(*id).or_default().is_unreadable |= !unreadable.is_empty();
        }
        look.unreadable.extend(unreadable);
    }
    for (id, status) in source.statuses(ids).await? {
        look.orders.entry(id).or_default().status = Some(status);
    }
    for told in source.told(ids).await? {
        look.orders.entry(told.order_id).or_default().told.push(told);
    }
    for it in instances.unreadable {
        let id = it.key.rsplit(' ').next().and_then(|id| id.parse().ok());
        if let Some(order) = id.and_then(|id| look.orders.get_mut(&id)) {
            order.is_unreadable = true;
        }
        look.unreadable.push(it);
    }
    let messages: Vec<Uuid> = look.orders.values().flat_map(messages).collect::<HashSet<_>>().into_iter().collect();
    look.handled = source.handled(&messages).await?;
    look.given_up = source.given_up(&messages).await?;
    // Most messages have been handled: only for the others all that waits is looked through.
    let handled: HashSet<Uuid> = look.handled.iter().map(|(id, _)| *id).collect();
    let open: Vec<Uuid> = messages.into_iter().filter(|id| !handled.contains(id)).collect();
    look.waiting = if open.is_empty() { HashSet::new() } else { source.waiting(&open).await? };
    Ok(look)
}

/// The histories of these orders.
pub(super) async fn journals(
    source: &mut dyn OrderAudit,
    ids: &[Uuid],
) -> anyhow::Result<(HashMap<Uuid, Vec<JournalRow>>, Vec<Unreadable>)> {
    let page = source.journals(Order::NAME, ids).await?;
    let mut histories: HashMap<Uuid, Vec<JournalRow>> = HashMap::new();
    for row in page.rows {
        histories.entry(row.id).or_default().push(row);
    }
    Ok((histories, page.unreadable))
}

/// Everything that the order has heard, caused or waits for.
fn messages(order: &Seen) -> Vec<Uuid> {
    let heard = order.journal.iter().map(|row| row.message_id);
    let caused = order.journal.iter().flat_map(|row| &row.effects).filter_map(|effect| effect.message_id);
    heard.chain(caused).chain(order.told.iter().map(|it| it.message_id)).chain(timers(order)).collect()
}

/// The tokens of the timers that run.
pub(super) fn timers(order: &Seen) -> Vec<Uuid> {
    let timers = order.instance.as_ref().and_then(|it| it.timers.read::<BTreeMap<String, Uuid>>().ok());
    timers.unwrap_or_default().into_values().collect()
}
