//! The scenario: orders and errands, their users, an operator, and what must be true of them in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use order_saga::*;
use saga_core::testkit::sim::{Random, Scenario, Sim, SimHost};
use saga_core::{
    Client, DeadLetterPage, DeadLetterRow, Envelope, HandlerOptions, Machine, MemoryStoreBuilder, MemoryWriter,
    Request, RequestError, RetryPolicy, RuntimeBuilder, Store, derive_id,
};
use uuid::Uuid;

use crate::bank::{Bank, Branch, Script};
use crate::errand::{Asked, DESK, Desk, Done, Errand, Fetch, Here, Listener, Runner, WhereIs};

/// More failures in a row than a script and the database's refusals come to together.
const RETRY: RetryPolicy = RetryPolicy { limit: 12, initial: Duration::from_millis(200), max: Duration::from_secs(2) };
/// Orders expire soon, so that payments are late in a few minutes.
const EXPIRATION: Expiration = Expiration { interval: Duration::from_secs(10), after: Duration::from_secs(60) };
/// How often a message may be delivered where one kills whoever handles it; else as often as it must be.
const DELIVERIES: u32 = 12;

/// Everything that one seed simulates.
pub struct Shop {
    orders: MemoryOrders,
    bank: Arc<Bank>,
    /// How often each kind of notification was written for each order.
    notified: Arc<Mutex<BTreeMap<(Uuid, NotificationKind), u32>>>,
    listener: Listener,
    /// Whether a message kills whoever handles it.
    poison: bool,
    order_count: usize,
    errand_count: u128,
    /// Order number → the order that was accepted.
    accepted: Mutex<BTreeMap<usize, Uuid>>,
}

impl Shop {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, "shop");
        let poison = random.happens(150);
        let order_count = random.within(4..=16) as usize;
        let errand_count = u128::from(random.within(0..=5));
        Self {
            orders: MemoryOrders::default(),
            bank: Bank::new(&mut random, order_count, poison),
            notified: Arc::default(),
            listener: Listener::default(),
            poison,
            order_count,
            errand_count,
            accepted: Mutex::default(),
        }
    }

    /// A user orders, asking again until there is an answer; now and then a browser sends everything once more.
    async fn order(&self, sim: &Sim, number: usize) {
        let mut random = sim.random(&format!("user/{number}"));
        sim.sleep(random.millis(0..=sim.safety().as_millis() as u64 * 6 / 10)).await;
        let submission = submission_id("ann", &format!("order/{number}"));
        for again in 0..=u32::from(random.happens(200)) {
            sim.submit::<Order>(&mut random, |attempt| {
                // Whoever asks again gets another order, unless the first was accepted: that is what the key is for.
                let order = derive_id(submission, &format!("order/{again}/{attempt}"));
                self.bank.expect(order, number);
                Envelope::new(submission, &submitted(order)).for_user("ann")
            })
            .await;
            match self.orders.submitted(submission).await.unwrap() {
                Some(order) => drop(self.accepted.lock().unwrap().insert(number, order.id)),
                None => sim.violated(format!("order {number} was accepted and is not there")),
            }
            sim.sleep(random.millis(0..=20_000)).await;
        }
    }

    /// Somebody asks for an errand, and asks again; one way or the other.
    async fn ask(&self, sim: &Sim, errand: Uuid) {
        let mut random = sim.random(&format!("errand/{errand}"));
        for n in 0..random.within(1..=5) {
            sim.sleep(random.millis(0..=15_000)).await;
            self.question(sim, errand, n, &mut random).await;
            let id = derive_id(errand, &format!("asked/{n}"));
            let asked = || Envelope::new(id, &Asked { errand });
            if random.happens(500) {
                sim.submit::<Errand>(&mut random, |_| asked()).await;
                continue;
            }
            // Published: it is heard when it has been stored.
            loop {
                if let Some(client) = sim.client(&mut random)
                    && tokio::time::timeout(Duration::from_secs(5), client.publish(asked()))
                        .await
                        .is_ok_and(|it| it.is_ok())
                {
                    break;
                }
                sim.sleep(random.millis(200..=2_000)).await;
            }
        }
    }

    /// Asks where an errand is. There may be no answer in time, but no wrong one.
    async fn question(&self, sim: &Sim, errand: Uuid, n: u64, random: &mut Random) {
        let Some(client) = sim.client(random) else { return };
        let request = Request::<Here>::new(derive_id(errand, &format!("where/{n}")), &WhereIs { errand });
        let answer = client.request(request.to(DESK).timeout(Duration::from_secs(6)));
        match tokio::time::timeout(Duration::from_secs(10), answer).await {
            Ok(Ok(answer)) if answer.message.errand != errand => sim.violated(format!("{errand} has another's answer")),
            Ok(Err(RequestError::Unreadable(error))) => {
                sim.violated(format!("{errand} has an answer that is none: {error}"))
            }
            _ => {}
        }
    }

    /// Redrives what was given up, when it is mended.
    async fn operate(&self, sim: &Sim) {
        let mut random = sim.random("operator");
        loop {
            sim.sleep(random.millis(5_000..=40_000)).await;
            for letter in dead_letters(sim).await {
                let Some(order) = letter.envelope.correlation_id else { continue };
                let is_broken = letter.reason == "transient" || letter.reason == "permanent";
                let killed = letter.reason == "crashing" && letter.envelope.name() == "Orders:ProcessPayment";
                let is_mended = if is_broken { random.happens(500) } else { killed };
                if is_mended {
                    self.bank.mend(order);
                } else if is_broken {
                    continue;
                }
                if let Some(client) = sim.client(&mut random) {
                    // An answer that does not come is looked for at the next round.
                    let _ = tokio::time::timeout(Duration::from_secs(5), client.redrive(letter.id)).await;
                }
            }
        }
    }

    fn errands(&self) -> impl Iterator<Item = Uuid> {
        (1..=self.errand_count).map(|n| Uuid::from_u128(0xe000 + n))
    }

    async fn judge_order(&self, sim: &Sim, machine: &Machine<Order>, number: usize, order: Uuid) -> Vec<String> {
        let mut wrong = sim.check(machine, order).await;
        let mut say = |text: String| wrong.push(format!("order {number} {order}: {text}"));
        let (instance, _) = sim.history::<Order>(order).await;
        let (Some(instance), Some(stored)) = (instance, self.orders.order(order).await.unwrap()) else {
            say("it is not there".to_owned());
            return wrong;
        };
        if instance.state.to_lowercase() != stored.status.name() {
            say(format!("its saga is {}, and its status {}", instance.state, stored.status.name()));
        }
        let payment = instance.data.read::<Order>().unwrap().payment;
        let told = |kind| self.notified.lock().unwrap().get(&(order, kind)).copied().unwrap_or(0);
        let told = [told(NotificationKind::Completed), told(NotificationKind::Expired)];
        let keys = self.bank.keys(order);
        let (told_right, paid_right) = match stored.status {
            OrderStatus::Completed => (told == [1, 0], keys == [1, 0, 1]),
            // A redrive that meets a commit whose answer was lost may be undone by its repetition: the dead letter is there
            // again, to be redriven again, although the bank has charged.
            OrderStatus::Expired if keys == [1, 0, 0] && self.is_given_up(sim, order).await => (told == [0, 1], true),
            OrderStatus::Expired if keys[0] > 0 => (told == [0, 1], keys == [1, 1, 0] && payment == Payment::Refunded),
            OrderStatus::Expired => (told == [0, 1], keys == [0, 0, 0]),
            _ => (false, false),
        };
        if !told_right {
            say(format!(
                "{:?}, and told {} times that it is completed and {} times that it expired",
                stored.status, told[0], told[1]
            ));
        }
        if !paid_right {
            let [charged, refunded, mailed] = keys;
            let status = stored.status;
            say(format!("{status:?}, {payment:?}, and charged {charged} times, paid back {refunded}, mailed {mailed}"));
        }
        wrong
    }
}

#[async_trait]
impl Scenario for Shop {
    fn database(&self, tables: MemoryStoreBuilder) -> MemoryStoreBuilder {
        let notifications = Counted(self.orders.clone(), self.notified.clone());
        tables.writer::<OrderRow, _>(self.orders.clone()).writer::<Notification, _>(notifications)
    }

    fn host(&self, host: &SimHost, runtime: RuntimeBuilder) -> RuntimeBuilder {
        let branch = |name| {
            Arc::new(Branch { bank: self.bank.clone(), host: host.clone(), random: Mutex::new(host.random(name)) })
        };
        let process = OrderProcess {
            payment_delay: Duration::from_secs(1),
            payment_concurrency: 4,
            ..OrderProcess::new(branch("gateway"), branch("mailer"))
        };
        let runner = Runner(host.clone(), Mutex::new(host.random("runner")));
        let quick = HandlerOptions { timeout: Duration::from_secs(10), ..HandlerOptions::default() };
        process
            .register(runtime.retry(RETRY).delivery_limit(if self.poison { DELIVERIES } else { u32::MAX }))
            .saga::<Errand>()
            .activity::<Fetch>(runner, quick)
            .consumer::<Done>("errand-listener", self.listener.clone(), quick)
            .consumer::<WhereIs>(DESK, Desk, quick)
    }

    async fn beside(&self, host: SimHost, client: Client) {
        let orders = Arc::new(Remote(self.orders.clone(), host.clone()));
        ExpiryJob::new(orders, Arc::new(client), host.clock(), EXPIRATION).run(std::future::pending()).await;
    }

    async fn outside(&self, sim: Sim) {
        let orders = join_all((0..self.order_count).map(|number| self.order(&sim, number)));
        let errands = join_all(self.errands().map(|errand| {
            let sim = &sim;
            async move { self.ask(sim, errand).await }
        }));
        let all = futures_util::future::join(orders, errands);
        // The operator goes on until all is over, and nothing is left for him then.
        let (_, operating) = (all.await, self.operate(&sim));
        let done = async {
            while sim.rests().await.is_err() || self.over(&sim).await.is_err() || !self.mendable(&sim).await.is_empty()
            {
                sim.sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            biased;
            () = done => {}
            () = operating => {}
        }
    }

    fn expects(&self, letter: &DeadLetterRow) -> bool {
        let order = letter.envelope.correlation_id.unwrap_or_default();
        letter.envelope.name() == "Orders:ProcessPayment"
            && matches!(self.bank.script(order), Script::Broken | Script::Refuses)
            && matches!(&*letter.reason, "transient" | "permanent")
    }

    async fn over(&self, sim: &Sim) -> Result<(), String> {
        let accepted = self.accepted.lock().unwrap().clone();
        if accepted.len() < self.order_count {
            return Err(format!("{} of {} orders are accepted", accepted.len(), self.order_count));
        }
        for (number, id) in accepted {
            let status = self.orders.order(id).await.unwrap().map(|order| order.status);
            if !matches!(status, Some(OrderStatus::Completed | OrderStatus::Expired)) {
                return Err(format!("order {number} {id} is {status:?}; the bank {:?}", self.bank.script(id)));
            }
        }
        for errand in self.errands() {
            let (instance, _) = sim.history::<Errand>(errand).await;
            let state = instance.map(|it| it.state);
            if state.as_deref() != Some("Over") {
                return Err(format!("errand {errand} is {state:?}"));
            }
        }
        Ok(())
    }

    async fn judge(&self, sim: &Sim) -> Vec<String> {
        let mut wrong = Vec::new();
        let accepted = self.accepted.lock().unwrap().clone();
        let machine = Machine::new();
        for (number, order) in &accepted {
            wrong.extend(self.judge_order(sim, &machine, *number, *order).await);
        }
        let counted: u64 = self.orders.count().await.unwrap().into_iter().map(|(_, n)| n).sum();
        if counted != accepted.len() as u64 {
            wrong.push(format!("{} orders were accepted, and there are {counted}", accepted.len()));
        }
        let machine = Machine::<Errand>::new();
        let heard = self.listener.0.lock().unwrap().clone();
        for errand in self.errands() {
            wrong.extend(sim.check(&machine, errand).await);
            let keys: std::collections::BTreeSet<_> = heard.iter().filter(|(it, _)| *it == errand).collect();
            if keys.len() != 1 {
                wrong.push(format!("that errand {errand} is over was heard under {} keys", keys.len()));
            }
        }
        wrong
    }
}

impl Shop {
    async fn is_given_up(&self, sim: &Sim, order: Uuid) -> bool {
        dead_letters(sim)
            .await
            .iter()
            .any(|letter| letter.envelope.correlation_id == Some(order) && self.expects(letter))
    }

    /// Dead letters that must not stay.
    async fn mendable(&self, sim: &Sim) -> Vec<DeadLetterRow> {
        let mut letters = dead_letters(sim).await;
        letters.retain(|letter| !self.expects(letter));
        letters
    }
}

async fn dead_letters(sim: &Sim) -> Vec<DeadLetterRow> {
    sim.tables().dead_letters(&DeadLetterPage { before: None, limit: usize::MAX }).await.unwrap()
}

fn submitted(order_id: Uuid) -> OrderSubmitted {
    let item = OrderItem { product_id: "tea".to_owned(), quantity: 2, price: "49.90".parse().unwrap() };
    let total = "99.80".parse().unwrap();
    OrderSubmitted { order_id, user_id: "ann".to_owned(), items: vec![item], total, fingerprint: "f".to_owned() }
}

/// Writes notifications, and counts how often each was written.
struct Counted(MemoryOrders, Arc<Mutex<BTreeMap<(Uuid, NotificationKind), u32>>>);

impl MemoryWriter<Notification> for Counted {
    fn check(&self, rows: &[&Notification]) -> Result<(), String> {
        MemoryWriter::<Notification>::check(&self.0, rows)
    }
    fn write(&self, rows: &[&Notification]) {
        for row in rows {
            *self.1.lock().unwrap().entry((row.order_id, row.kind)).or_default() += 1;
        }
        self.0.write(rows);
    }
}

/// The orders, over the host's way to the database.
struct Remote(MemoryOrders, SimHost);

#[async_trait]
impl Orders for Remote {
    async fn overdue(
        &self,
        before: DateTime<Utc>,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, OrdersError> {
        self.1.ask_database().await.map_err(|error| OrdersError(error.to_string()))?;
        self.0.overdue(before, after, limit).await
    }
    async fn order(&self, id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        self.0.order(id).await
    }
    async fn submitted(&self, submission_id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        self.0.submitted(submission_id).await
    }
    async fn page(&self, page: &OrderPage<'_>) -> Result<Vec<StoredOrder>, OrdersError> {
        self.0.page(page).await
    }
    async fn notifications(&self, order_id: Uuid) -> Result<Vec<Notification>, OrdersError> {
        self.0.notifications(order_id).await
    }
    async fn count(&self) -> Result<Vec<(OrderStatus, u64)>, OrdersError> {
        self.0.count().await
    }
    async fn count_notifications(&self) -> Result<Vec<(NotificationKind, u64)>, OrdersError> {
        self.0.count_notifications().await
    }
}

/// A failure of the scenario itself would look like one of the library.
#[test]
fn given_the_scripts_when_many_seeds_draw_them_then_each_comes() {
    let mut seen: Vec<String> = Vec::new();
    for seed in 0..200 {
        let shop = Shop::of(seed);
        for number in 0..shop.order_count {
            let order = Uuid::from_u128(number as u128);
            shop.bank.expect(order, number);
            let script = format!("{:?}", shop.bank.script(order));
            if !seen.contains(&script) {
                seen.push(script);
            }
        }
    }
    seen.sort();
    let all = [
        "Approves",
        "Broken",
        "Declines",
        "Fails(1)",
        "Fails(2)",
        "Fails(3)",
        "Hangs",
        "Kills(1)",
        "Kills(4294967295)",
        "Late",
        "Refuses",
    ];
    assert_eq!(seen, all);
}
