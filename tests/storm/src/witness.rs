//! The process that orders, records what was accepted, and judges what became of it. It knows of no fault.
//!
//! It is told what to do by lines of JSON on its standard input, [`Order`], and answers with lines of JSON on its standard
//! output, [`Word`].

mod clients;
mod evidence;
mod words;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Duration;

use anyhow::{Context, bail};
use test_foreign::Peer;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::judge::judge;
use clients::Clients;
use evidence::Look;

pub(crate) use words::{Begin, Order, Verdict, Word};

/// The witness's own queue, at the exchanges of what the order saga publishes.
const QUEUE: &str = "witness";
/// What another service can hear of an order.
const EVENTS: [&str; 3] = ["Orders:OrderCreated", "Orders:OrderCompleted", "Orders:OrderExpired"];
/// How often it is looked whether everything is at rest.
const LOOK: Duration = Duration::from_millis(200);
/// So many findings of each kind are told word by word; the others are counted.
const FINDINGS: usize = 20;

/// Does as it is told, until it has judged.
///
/// # Errors
/// When whoever started it is gone, or what it has to look at can not be looked at.
pub async fn witness() -> anyhow::Result<()> {
    let mut orders = orders();
    let Order::Begin(begin) = next(&mut orders).await? else { bail!("to begin was expected") };
    let peer = Peer::at(&begin.bus).await?;
    for event in EVENTS {
        peer.listen(QUEUE, event).await?;
    }
    drop(peer);
    words::say(&Word::Listening)?;

    let Order::Submit = next(&mut orders).await? else { bail!("to submit was expected") };
    let clients = Clients::new(&begin)?;
    let submitting = tokio::spawn(clients.clone().submit());

    let Order::Calm = next(&mut orders).await? else { bail!("that it is calm was expected") };
    let calm = Instant::now();
    let look = Look { store: begin.store.clone(), bus: begin.bus.clone() };
    let rest = timeout(begin.within, async {
        submitting.await?;
        while look.left().await.is_none_or(|left| left.values().sum::<u64>() > 0) {
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(())
    });
    match rest.await {
        Ok(rested) => {
            rested?;
            words::say(&Word::AtRest { after: calm.elapsed() })?;
        }
        Err(_) => {
            let left = look.left().await.unwrap_or_default();
            words::say(&Word::Restless { accepted: clients.accepted()?.len() as u64, left })?;
        }
    }

    let Order::Judge { queues } = next(&mut orders).await? else { bail!("to judge was expected") };
    let evidence = look.evidence(&clients, &queues).await?;
    let (summary, findings) = judge(&evidence);
    let mut kinds = BTreeMap::new();
    let told = findings.iter().filter(|it| {
        let count: &mut usize = kinds.entry(it.rule).or_default();
        *count += 1;
        *count <= FINDINGS
    });
    let told = told.map(ToString::to_string).collect();
    let (repeated, found) = clients.repeated();
    words::say(&Word::Verdict(Verdict { summary, wrong: findings.len() as u64, findings: told, repeated, found }))
}

/// What it is told, until the input ends. Read by a thread, for which the end of the process needs not wait.
fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let order = serde_json::from_str(&line);
            if order.map_or(true, |order| sender.send(order).is_err()) {
                return;
            }
        }
    });
    receiver
}

async fn next(orders: &mut mpsc::UnboundedReceiver<Order>) -> anyhow::Result<Order> {
    orders.recv().await.context("nobody tells what to do any more")
}
