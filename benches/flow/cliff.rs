//! What becomes of the others when something goes wrong beside them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use order_saga::{
    Decision, LogMailer, Order, OrderCompleted, OrderOverdue, OrderProcess, PaymentGateway, ProcessPayment,
    RefundPayment,
};
use saga_core::{Client, Consumer, Envelope, Failure, HandlerContext, HandlerOptions, Output, RuntimeBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::arguments::{Arguments, Disturbance};
use crate::drive;
use crate::entry::{order, order_of, submit};
use crate::filled::Filled;
use crate::machine::median;
use crate::orders::notified;
use crate::report;
use crate::rig::Rig;
use crate::watched::Seen;

/// One order in so many is refused by the database: one in each full batch.
const POISONED: usize = 256;
/// One order in so many has a payment that nobody answers.
const HANGING: usize = 100;
/// How long the slow database takes for each answer, and the slow consumer for each message.
const SLOW_DATABASE: Duration = Duration::from_millis(50);
const SLOW_CONSUMER: Duration = Duration::from_secs(1);
/// How often a message comes for the hot instance: 500 times a second.
const HOT: Duration = Duration::from_millis(2);
/// Which part of the orders goes before, unmeasured.
const WARM_UP: usize = 10;
/// The slow consumer and the hanging payments are not waited for at the end.
const DRAIN: Duration = Duration::from_millis(500);

pub(crate) async fn run(arguments: &Arguments) -> Value {
    let disturbances = arguments.beside.map_or_else(|| Disturbance::ALL.to_vec(), |one| vec![one]);
    let mut without = Vec::new();
    let mut with: Vec<(Disturbance, Vec<f64>)> = disturbances.into_iter().map(|it| (it, Vec::new())).collect();
    for _ in 0..arguments.runs {
        without.push(measure(arguments, None).await);
        for (disturbance, rates) in &mut with {
            rates.push(measure(arguments, Some(*disturbance)).await);
        }
    }
    let beside = |(disturbance, rates): &(Disturbance, Vec<f64>)| {
        json!({
            "beside": disturbance.name(), "orders_per_second": median(rates),
            "ratio": median(rates) / median(&without), "all_runs": rates,
        })
    };
    let mut told = arguments.heading("cliff");
    report::merge(
        &mut told,
        json!({
            "orders_per_second": median(&without), "all_runs": without,
            "cliff": with.iter().map(beside).collect::<Vec<_>>(),
        }),
    );
    told
}

/// Orders per second of those that nothing is wrong with.
async fn measure(arguments: &Arguments, beside: Option<Disturbance>) -> f64 {
    let (place, seen) = (arguments.pairing().place(), Seen::new(notified, ""));
    let gateway = Arc::new(Gateway::default());
    let delay = if beside == Some(Disturbance::SlowDatabase) { SLOW_DATABASE } else { Duration::ZERO };
    let rig = Rig::start(&place, arguments.hosts, &seen, delay, |it| registered(it, &gateway, beside)).await;
    let trouble = Trouble { beside, client: rig.clients[0].clone(), gateway, poison: Mutex::default() };
    trouble.prepare(arguments.orders(), &Filled::open(&place).await).await;
    let trouble = Arc::new(trouble);
    let hot = tokio::spawn(keep_hot(trouble.clone()));

    let way = |number: usize| {
        let (client, trouble) = (rig.clients[number % rig.clients.len()].clone(), trouble.clone());
        async move {
            trouble.make(number).await;
            let (id, submission) = order();
            submit::<Order>(&client, id, &submission).await;
            id
        }
    };
    drive::backlog(&seen, arguments.orders().div_ceil(WARM_UP), arguments.backlog, way).await;
    let rate = drive::backlog(&seen, arguments.orders(), arguments.backlog, way).await;
    hot.abort();
    // The abort is an error by its nature.
    let _ = hot.await;
    drop(trouble);
    rig.stop().await;
    rate
}

fn registered(builder: RuntimeBuilder, gateway: &Arc<Gateway>, beside: Option<Disturbance>) -> RuntimeBuilder {
    let mut process = OrderProcess::new(gateway.clone(), Arc::new(LogMailer));
    process.payment_delay = Duration::ZERO;
    let builder = process.register(builder.drain(DRAIN));
    match beside {
        Some(Disturbance::SlowConsumer) => {
            builder.consumer::<OrderCompleted>("bench-slow-consumer", Slow, HandlerOptions::default())
        }
        _ => builder,
    }
}

/// What goes wrong, and what it needs for that.
struct Trouble {
    beside: Option<Disturbance>,
    client: Client,
    gateway: Arc<Gateway>,
    /// Orders that the database will refuse.
    poison: Mutex<Vec<Uuid>>,
}

impl Trouble {
    async fn prepare(&self, orders: usize, database: &Filled) {
        if self.beside == Some(Disturbance::PoisonMessage) {
            let count = orders.div_ceil(POISONED) + orders.div_ceil(WARM_UP).div_ceil(POISONED);
            let ids: Vec<_> = (0..count).map(|_| Uuid::now_v7()).collect();
            database.occupy(&ids).await;
            *self.poison.lock().unwrap_or_else(PoisonError::into_inner) = ids;
        }
    }

    /// What goes wrong beside the order of that number.
    async fn make(&self, number: usize) {
        match self.beside {
            Some(Disturbance::PoisonMessage) if number.is_multiple_of(POISONED) => {
                let poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let id = poison.expect("one for every batch");
                let envelope = Envelope::new(Uuid::now_v7(), &order_of(id)).for_user("local").correlated(id);
                self.client.publish(envelope).await.expect("a store that answers");
            }
            Some(Disturbance::HangingPayment) if number.is_multiple_of(HANGING) => {
                let (id, submission) = order();
                self.gateway.hang(id);
                submit::<Order>(&self.client, id, &submission).await;
            }
            _ => {}
        }
    }
}

/// Sends messages for one order for ever, if that is the trouble.
async fn keep_hot(trouble: Arc<Trouble>) {
    if trouble.beside != Some(Disturbance::HotInstance) {
        return;
    }
    let (order_id, submission) = order();
    trouble.gateway.hang(order_id);
    submit::<Order>(&trouble.client, order_id, &submission).await;
    // A step that moves nothing: the order has changed since.
    let overdue = OrderOverdue { order_id, since: DateTime::UNIX_EPOCH };
    // Nobody waits for the one before; with this task they all end.
    let (mut ticks, mut sending) = (tokio::time::interval(HOT), JoinSet::new());
    loop {
        ticks.tick().await;
        let (client, overdue) = (trouble.client.clone(), overdue.clone());
        sending.spawn(async move { submit::<Order>(&client, order_id, &overdue).await });
        while let Some(sent) = sending.try_join_next() {
            sent.expect("a message");
        }
    }
}

/// Approves every payment at once, and never answers for some.
#[derive(Default)]
struct Gateway(Mutex<HashSet<Uuid>>);

impl Gateway {
    fn hang(&self, order: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(order);
    }
}

#[async_trait]
impl PaymentGateway for Gateway {
    async fn charge(&self, payment: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure> {
        let hangs = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&payment.order_id);
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(Decision::Approved { reference: format!("charge-{idempotency_key}") })
    }

    async fn refund(&self, _: &RefundPayment, _: Uuid) -> Result<(), Failure> {
        Ok(())
    }
}

/// Takes a second for each message.
struct Slow;

#[async_trait]
impl Consumer<OrderCompleted> for Slow {
    type Row = ();

    async fn consume(&self, _: &OrderCompleted, context: &HandlerContext) -> Result<Output<()>, Failure> {
        context.sleep(SLOW_CONSUMER).await;
        Ok(Output::none())
    }
}
