//! What is read of some orders, all of it at one moment.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use order_saga::{ORDER_PAYMENT, Order, OrderAudit, OrderCompleted, OrderExpired, ProcessPayment, RefundPayment, Told};
use saga_core::{
    JournalOutcome, JournalRow, Message, PostgresAudit, Saga, SqliteAudit, StoredInstance, Unreadable, produced_id,
};
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
    /// Those of the messages that anybody has given up.
    pub(super) given_up_by_any: HashSet<Uuid>,
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

/// Reads all there is of these orders; what waits in the store is only looked through if that tells something.
pub(super) async fn look(source: &mut dyn OrderAudit, ids: &[Uuid], is_settled: bool) -> anyhow::Result<Look> {
    let mut look = Look { orders: ids.iter().map(|id| (*id, Seen::default())).collect(), ..Look::default() };
    let instances = source.instances(Order::NAME, ids).await?;
    for instance in instances.rows {
        let id = instance.id;
        look.orders.entry(id).or_default().instance = Some(instance);
    }
    let histories = journals(source, ids).await?;
    for (id, journal) in histories.whole {
        look.orders.entry(id).or_default().journal = journal;
    }
    for id in histories.broken {
        look.orders.entry(id).or_default().is_unreadable = true;
    }
    look.unreadable.extend(histories.unreadable);
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
    // Neither all that was given up nor all that waits is indexed by the message. Most messages have been handled, and
    // leave what shows that they were not given up: only for the others each is looked through.
    let handled: HashSet<Uuid> = look.handled.iter().map(|(id, _)| *id).collect();
    let open: Vec<Uuid> = messages.iter().copied().filter(|id| !handled.contains(id)).collect();
    if !open.is_empty() || look.orders.values().any(|it| may_have_given_up(it, &handled)) {
        look.given_up = source.given_up(&messages).await?;
        look.given_up_by_any = look.given_up.iter().map(|(id, _)| *id).collect();
    }
    if is_settled && !open.is_empty() {
        look.waiting = source.waiting(&open).await?;
    }
    Ok(look)
}

/// Whether an endpoint may have given up a message that the order has heard or caused. One that was given up is in the
/// inbox, as those that were handled.
fn may_have_given_up(order: &Seen, handled: &HashSet<Uuid>) -> bool {
    let is_heard = |id| order.journal.iter().any(|row| row.message_id == id);
    let effects = order.journal.iter().flat_map(|row| &row.effects);
    let mut caused = effects.filter_map(|effect| Some((effect.message_id?, effect.name.as_deref()?)));
    let given_up = |it: &JournalRow| matches!(it.outcome, JournalOutcome::Rejected | JournalOutcome::Faulted);
    order.journal.iter().any(given_up)
        || timers(order).iter().any(|token| handled.contains(token))
        || caused.any(|(id, name)| match name {
            // What the payment has done is answered, and what has failed otherwise.
            ProcessPayment::NAME | RefundPayment::NAME => !is_heard(produced_id(id, 0, ORDER_PAYMENT, 0)),
            OrderCompleted::NAME | OrderExpired::NAME => !order.told.iter().any(|it| it.message_id == id),
            _ => false,
        })
}

/// The histories of some orders.
#[derive(Debug, Default)]
pub(super) struct Histories {
    pub(super) whole: HashMap<Uuid, Vec<JournalRow>>,
    /// The orders of which a line can not be read.
    pub(super) broken: HashSet<Uuid>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Reads the histories of these orders.
pub(super) async fn journals(source: &mut dyn OrderAudit, ids: &[Uuid]) -> anyhow::Result<Histories> {
    let page = source.journals(Order::NAME, ids).await?;
    let mut histories = Histories { unreadable: page.unreadable, ..Histories::default() };
    for row in page.rows {
        histories.whole.entry(row.id).or_default().push(row);
    }
    if !histories.unreadable.is_empty() {
        // Which history such a line belongs to is found by asking for each alone.
        for id in ids {
            if !source.journals(Order::NAME, &[*id]).await?.unreadable.is_empty() {
                histories.whole.remove(id);
                histories.broken.insert(*id);
            }
        }
    }
    Ok(histories)
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
