//! What is outside the hosts and outlives them: the payment gateway and the mailer, by a script that the seed writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use order_saga::{Decision, Mail, Mailer, PaymentGateway, ProcessPayment, RefundPayment};
use rust_decimal::Decimal;
use saga_core::Failure;
use saga_core::testkit::sim::{Random, SimHost};
use uuid::Uuid;

/// What the gateway does with an order's payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    Approves,
    Declines,
    /// Approves after so many failures.
    Fails(u32),
    /// Fails until an operator has mended it.
    Broken,
    /// Refuses for good, until an operator has mended it.
    Refuses,
    /// Does not answer at the first call.
    Hangs,
    /// Kills the host that asks, so many times.
    Kills(u32),
    /// Approves after the order has expired.
    Late,
}

/// How long a late payment takes.
const LATE: Duration = Duration::from_secs(25);

impl Script {
    fn drawn(random: &mut Random, poison: bool) -> Self {
        match random.within(0..=99) {
            0..=39 => Self::Approves,
            40..=54 => Self::Declines,
            55..=69 => Self::Fails(random.within(1..=3) as u32),
            70..=76 => Self::Broken,
            77..=82 => Self::Refuses,
            83..=88 => Self::Hangs,
            89..=92 => Self::Kills(if poison { u32::MAX } else { 1 }),
            _ => Self::Late,
        }
    }
}

/// The bank: what it was asked, and what it did.
pub struct Bank(Mutex<Books>);

struct Books {
    scripts: Vec<Script>,
    /// Which order was made for which number.
    orders: BTreeMap<Uuid, usize>,
    calls: BTreeMap<Uuid, u32>,
    mended: BTreeSet<Uuid>,
    /// Order → keys under which it was charged, and under which it was paid back.
    charged: BTreeMap<Uuid, BTreeSet<Uuid>>,
    refunded: BTreeMap<Uuid, BTreeSet<Uuid>>,
    mailed: BTreeMap<Uuid, BTreeSet<Uuid>>,
}

impl Bank {
    /// The scripts of so many orders. Those of a poisonous seed may kill whoever asks, again and again.
    pub fn new(random: &mut Random, orders: usize, poison: bool) -> Arc<Self> {
        let scripts = (0..orders).map(|_| Script::drawn(random, poison)).collect();
        let books = Books {
            scripts,
            orders: BTreeMap::new(),
            calls: BTreeMap::new(),
            mended: BTreeSet::new(),
            charged: BTreeMap::new(),
            refunded: BTreeMap::new(),
            mailed: BTreeMap::new(),
        };
        Arc::new(Self(Mutex::new(books)))
    }

    /// An order will be submitted for the script of that number.
    pub fn expect(&self, order: Uuid, number: usize) {
        self.books().orders.insert(order, number);
    }

    pub fn script(&self, order: Uuid) -> Script {
        let books = self.books();
        books.scripts[books.orders[&order]]
    }

    /// Whoever was broken works from now on.
    pub fn mend(&self, order: Uuid) {
        self.books().mended.insert(order);
    }

    /// Under how many keys the order was charged, paid back and mailed.
    pub fn keys(&self, order: Uuid) -> [usize; 3] {
        let books = self.books();
        [&books.charged, &books.refunded, &books.mailed].map(|it| it.get(&order).map_or(0, BTreeSet::len))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap()
    }

    /// Which call of this order it is, and what the script says.
    fn call(&self, order: Uuid) -> (u32, Script) {
        let mut books = self.books();
        let script = books.scripts[books.orders[&order]];
        let script = if books.mended.contains(&order) { Script::Approves } else { script };
        let calls = books.calls.entry(order).or_default();
        *calls += 1;
        (*calls, script)
    }
}

/// A host's way to the bank and to the mail.
pub struct Branch {
    pub bank: Arc<Bank>,
    pub host: SimHost,
    pub random: Mutex<Random>,
}

impl Branch {
    async fn way(&self) {
        let time = self.random.lock().unwrap().millis(0..=300);
        self.host.clock().sleep(time).await;
        self.host.gate().await;
    }
}

#[async_trait]
impl PaymentGateway for Branch {
    async fn charge(&self, payment: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure> {
        self.way().await;
        let order = payment.order_id;
        match self.bank.call(order) {
            (_, Script::Declines) => return Ok(Decision::Declined { reason: "no funds".to_owned() }),
            (call, Script::Fails(times)) if call <= times => return Err(Failure::retry("gateway away")),
            (_, Script::Broken) => return Err(Failure::retry("gateway broken")),
            (_, Script::Refuses) => return Err(Failure::permanent("gateway refuses")),
            (1, Script::Hangs) => std::future::pending().await,
            (call, Script::Kills(times)) if call <= times => {
                self.host.kill();
                self.host.gate().await;
            }
            (_, Script::Late) => self.host.clock().sleep(LATE).await,
            _ => {}
        }
        self.host.gate().await;
        self.bank.books().charged.entry(order).or_default().insert(idempotency_key);
        self.way().await;
        Ok(Decision::Approved { reference: format!("charge-{order}") })
    }

    async fn refund(&self, refund: &RefundPayment, idempotency_key: Uuid) -> Result<(), Failure> {
        self.way().await;
        if self.random.lock().unwrap().happens(200) {
            return Err(Failure::retry("no money there"));
        }
        self.bank.books().refunded.entry(refund.order_id).or_default().insert(idempotency_key);
        self.way().await;
        Ok(())
    }
}

#[async_trait]
impl Mailer for Branch {
    async fn send(&self, mail: &Mail, idempotency_key: Uuid) -> Result<(), Failure> {
        self.way().await;
        if self.random.lock().unwrap().happens(100) {
            return Err(Failure::retry("no mail"));
        }
        assert_ne!(mail.total, Decimal::ZERO);
        self.bank.books().mailed.entry(mail.order_id).or_default().insert(idempotency_key);
        Ok(())
    }
}
