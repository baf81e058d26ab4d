//! What the witness looks at: the database and the broker, past every proxy.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use order_saga::{ORDER_NOTIFIER, ORDER_PAYMENT, ORDER_SAGA, Order};
use saga_core::{PostgresStore, Saga, Store};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use test_foreign::{Peer, Received};
use uuid::Uuid;

use super::QUEUE;
use super::clients::Clients;
use crate::judge::{Evidence, Heard, Seen};

/// How many orders are read at the same time.
const READS: usize = 8;

/// Where to look.
pub(super) struct Look {
    pub(super) store: String,
    pub(super) bus: String,
}

/// What is counted as left to do, and where: in one statement, or what moves on meanwhile would be seen nowhere.
const LEFT: &str = "SELECT (SELECT count(*) FROM saga_outbox), (SELECT count(*) FROM saga_timers),
    (SELECT count(*) FROM orders WHERE status IN ('pending', 'processing')),
    (SELECT count(*) FROM orders WHERE NOT EXISTS (SELECT FROM notifications WHERE order_id = orders.id))";

impl Look {
    /// What is left to do, as far as it can be seen while hosts run; nothing, if database or broker are away.
    pub(super) async fn left(&self) -> Option<BTreeMap<String, u64>> {
        let endpoints = [ORDER_SAGA, ORDER_PAYMENT, ORDER_NOTIFIER].map(str::to_owned);
        let before = self.in_tables().await.ok()?;
        let mut left = self.in_queues(&endpoints).await.ok()?;
        // Once more: what has left a queue meanwhile may have gone into one of them.
        left.extend(
            self.in_tables().await.ok()?.into_iter().map(|(place, count)| (place.clone(), count.max(before[&place]))),
        );
        Some(left)
    }

    /// Everything, when no host runs any more.
    pub(super) async fn evidence(&self, clients: &Clients, queues: &[String]) -> anyhow::Result<Evidence> {
        let mut left = self.in_tables().await?;
        let heard = Some(self.heard().await?);
        // Its own queue among them, which is empty by now.
        ensure!(queues.iter().any(|queue| queue == QUEUE), "the witness's queue is gone: {queues:?}");
        left.extend(self.in_queues(queues).await?);
        let mut database = PgConnection::connect(&self.store).await?;
        let told = sqlx::query_as("SELECT order_id, kind FROM notifications").fetch_all(&mut database).await?;
        let letters = "SELECT endpoint || ': ' || message_type || ' ' || message_id || ', ' || reason || ', ' || error
                       FROM saga_dead_letters";
        let dead_letters = sqlx::query_scalar(letters).fetch_all(&mut database).await?;
        let orders: Vec<(Uuid, String)> =
            sqlx::query_as("SELECT id, status FROM orders").fetch_all(&mut database).await?;
        let orders = self.seen(orders).await?;
        let (accepted, answers) = (clients.accepted()?, clients.answers());
        Ok(Evidence { accepted, answers, orders, told, heard, dead_letters, left })
    }

    async fn in_tables(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut database = PgConnection::connect(&self.store).await?;
        let left: (i64, i64, i64, i64) = sqlx::query_as(LEFT).fetch_one(&mut database).await?;
        database.close().await?;
        let (outbox, timers, under_way, untold) = left;
        let left =
            [("outbox", outbox), ("timers", timers), ("orders under way", under_way), ("orders not told of", untold)];
        Ok(left.map(|(place, count)| (place.to_owned(), count.unsigned_abs())).into())
    }

    async fn in_queues(&self, queues: &[String]) -> anyhow::Result<BTreeMap<String, u64>> {
        let peer = Peer::at(&self.bus).await?;
        let mut left = BTreeMap::new();
        for queue in queues {
            left.insert(format!("the queue {queue}"), peer.waiting(queue).await?.into());
        }
        Ok(left)
    }

    /// Everything that has come to the witness's queue.
    async fn heard(&self) -> anyhow::Result<Vec<Heard>> {
        let peer = Peer::at(&self.bus).await?;
        let heard = peer.drain(QUEUE).await?;
        let heard = heard.iter().map(|it| event(it).with_context(|| String::from_utf8_lossy(&it.body).into_owned()));
        heard.collect()
    }

    async fn seen(&self, orders: Vec<(Uuid, String)>) -> anyhow::Result<BTreeMap<Uuid, Seen>> {
        let store = PostgresStore::builder(&self.store).open().await?;
        let read = async |(id, status)| {
            let instance = store.instance(Order::NAME, id).await?;
            let journal = store.journal(Order::NAME, id).await?;
            anyhow::Ok((id, Seen { status, instance, journal }))
        };
        let seen = stream::iter(orders).map(read).buffer_unordered(READS).try_collect().await?;
        store.close().await;
        Ok(seen)
    }
}

fn event(received: &Received) -> anyhow::Result<Heard> {
    let envelope: Value = serde_json::from_slice(&received.body)?;
    let id = |value: &Value| -> anyhow::Result<Uuid> { Ok(value.as_str().context("an id is missing")?.parse()?) };
    let (message_id, order) = (id(&envelope["messageId"])?, id(&envelope["message"]["orderId"])?);
    Ok(Heard { message_id, name: received.exchange.clone(), order })
}
