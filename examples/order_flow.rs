//! An order from its submission to its notification, in this process, on SQLite in a temporary folder.
//!
//! `cargo run --example order_flow`

#![allow(missing_docs, unreachable_pub, reason = "an example: its types are for itself")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use order_saga::{
    Decision, Mail, Mailer, NewItem, NewOrder, Notification, Order, OrderProcess, OrderRow, Orders, ScriptedGateway,
    SqliteOrderRows, SqliteOrders,
};
use saga_core::{EmbeddedBus, Envelope, Failure, Runtime, Saga, SqliteStore, Store};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    print!("{}", story().await?);
    Ok(())
}

pub async fn story() -> Outcome<String> {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::builder(&format!("sqlite://{}/orders.db", folder.path().display()))
        .writer::<OrderRow, _>(SqliteOrderRows)
        .writer::<Notification, _>(SqliteOrderRows)
        .open()
        .await?;
    store.migrate(&sqlx::migrate!("migrations/sqlite")).await?;
    let orders = SqliteOrders::new(store.reader());

    let gateway = ScriptedGateway::new([Ok(Decision::Approved { reference: "charge-1".to_owned() })]);
    let (postbox, mut mails) = mpsc::unbounded_channel();
    let process = OrderProcess::new(Arc::new(gateway), Arc::new(Postbox(postbox)));
    let process = OrderProcess { payment_delay: Duration::ZERO, ..process };
    let runtime = process.register(Runtime::builder(Arc::new(store.clone()), Arc::new(EmbeddedBus::new()))).build()?;
    let client = runtime.client();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run(async move {
        let _ = stopped.await;
    }));

    let tea = NewItem { product_id: "tea".to_owned(), quantity: 2, price: "49.90".to_owned() };
    let order = NewOrder { items: vec![tea] }.check().map_err(|errors| errors[0].to_string())?;
    let id = Uuid::now_v7();
    let submission = Envelope::new(id, &order.submission(id, "ada")).for_user("ada");
    let mut story = String::new();
    // The message id is the idempotency key: the second submission changes nothing.
    for _ in 0..2 {
        writeln!(story, "submitted: {:?}", client.submit::<Order>(submission.clone()).await?)?;
    }
    let mail = mails.recv().await.ok_or("the runtime has ended")?;
    writeln!(story, "mail to {}: paid {}", mail.user_id, mail.total)?;
    // A shutdown finishes what is in hand: here the notification that goes with the mail.
    let _ = stop.send(());
    running.await??;

    let status = orders.order(id).await?.ok_or("there is no order")?.status;
    writeln!(story, "the order is {}", status.name())?;
    for line in store.journal(Order::NAME, id).await? {
        let (from, to) = (line.from.unwrap_or_default(), line.to.unwrap_or_default());
        let effects: Vec<_> = line.effects.iter().map(|it| it.name.as_deref().unwrap_or("a row")).collect();
        writeln!(story, "  {:24} {from:10} → {to:10} causes {}", line.message_type, effects.join(", "))?;
    }
    for it in orders.notifications(id).await? {
        writeln!(story, "notified: {}, {}", it.kind.name(), it.result)?;
    }
    store.close().await;
    Ok(story)
}

/// Shows the mails.
struct Postbox(mpsc::UnboundedSender<Mail>);

#[async_trait]
impl Mailer for Postbox {
    async fn send(&self, mail: &Mail, _: Uuid) -> Result<(), Failure> {
        self.0.send(mail.clone()).map_err(Failure::permanent)
    }
}
