//! What the order examples share: the whole order process on the memory adapters, under a clock that they move.

#![allow(dead_code, reason = "each example takes what it needs")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use order_saga::{
    Expiration, ExpiryJob, LogMailer, MemoryOrders, NewItem, NewOrder, Notification, Order, OrderProcess, OrderRow,
    Orders, PaymentGateway,
};
use saga_core::testkit::Harness;
use saga_core::{Clock, Flow, MemoryStore, Saga};
use uuid::{Uuid, uuid};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The one order of an example.
pub const ORDER: Uuid = uuid!("019a0000-0000-7000-8000-000000000001");

/// A shop with one order.
pub struct Shop {
    pub harness: Harness,
    orders: MemoryOrders,
    /// What is told about the order.
    pub story: String,
}

impl Shop {
    /// Opens a shop whose payments take `payment_delay`, and submits the order.
    pub fn with_an_order(gateway: Arc<dyn PaymentGateway>, payment_delay: Duration) -> Outcome<Self> {
        let orders = MemoryOrders::default();
        let store = MemoryStore::builder();
        let store = store.writer::<OrderRow, _>(orders.clone()).writer::<Notification, _>(orders.clone()).build();
        let process = OrderProcess { payment_delay, ..OrderProcess::new(gateway, Arc::new(LogMailer)) };
        let harness = Harness::builder().store(store).with(move |runtime| process.clone().register(runtime)).start();
        let mut shop = Self { harness, orders, story: String::new() };
        shop.harness.submit::<Order>(&an_order()?.submission(ORDER, "ada"))?;
        shop.tell("Ada orders two pounds of tea")?;
        Ok(shop)
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.harness.advance(time);
    }

    /// Lets the expiry job look once.
    pub fn expire(&mut self) {
        let (orders, sink) = (Arc::new(self.orders.clone()), Arc::new(self.harness.client()));
        let job = ExpiryJob::new(orders, sink, self.harness.clock().clone(), Expiration::default());
        self.harness.block_on(job.tick());
        self.harness.settle();
    }

    /// Tells what has happened, and how the order stands by now.
    pub fn tell(&mut self, what: &str) -> Outcome {
        let order = self.harness.block_on(self.orders.order(ORDER))?.ok_or("there is no order")?;
        let at = self.harness.clock().now().format("%H:%M:%S");
        writeln!(self.story, "{at}  {what}: the order is {}", order.status.name())?;
        Ok(())
    }

    /// Tells the order's history and notifications, and records its flow.
    pub fn close(mut self) -> Outcome<(String, String)> {
        writeln!(self.story, "history:")?;
        let journal = self.harness.journal::<Order>(ORDER);
        for row in &journal {
            let to = row.to.as_deref().map(|to| format!(" → {to}")).unwrap_or_default();
            let error = row.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            let at = row.at.format("%H:%M:%S");
            writeln!(self.story, "  {at}  {:24} {}{to}{error}", row.message_type, row.outcome.name())?;
        }
        for it in self.harness.block_on(self.orders.notifications(ORDER))? {
            writeln!(self.story, "notified: {}, {}", it.kind.name(), it.result)?;
        }
        let instance = self.harness.instance::<Order>(ORDER).ok_or("there is no saga")?;
        let flow = Flow::record(Order::NAME, &instance, journal, self.harness.clock().now()).write()?;
        Ok((self.story, flow))
    }
}

/// Two pounds of tea.
fn an_order() -> Outcome<order_saga::CheckedOrder> {
    let tea = NewItem { product_id: "tea".to_owned(), quantity: 2, price: "49.90".to_owned() };
    NewOrder { items: vec![tea] }.check().map_err(|errors| errors[0].to_string().into())
}

/// Prints the story; with a file's name as argument, writes the recorded flow there.
pub fn show((story, flow): (String, String)) -> Outcome {
    print!("{story}");
    if let Some(file) = std::env::args_os().nth(1) {
        std::fs::write(&file, flow)?;
        println!("recorded in {}", file.display());
    }
    Ok(())
}
