//! A crash at each named point, each time it is reached, on SQLite and on PostgreSQL: the end is the same as without.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use order_saga::*;
use saga_core::testkit::CrashAt;
use saga_core::{
    Ctx, EmbeddedBus, Envelope, Failure, Instance, JournalOutcome, JournalRow, Machine, Point, PostgresStore, Probe,
    RetryPolicy, Runtime, Saga, SqliteStore, Step, Store, SystemClock,
};
use tempfile::TempDir;
use test_servers::Postgres;
use tokio::sync::watch;
use uuid::Uuid;

use crate::fixture::id;
use crate::shop::order;

/// Two of each kind, so that batches have more than one message.
const ORDERS: u128 = 8;
/// How many of them are paid late.
const LATE: u64 = 2;
/// One life takes a fraction of a second; what takes so long never happens.
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of an order's payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Approved,
    Declined,
    /// Approved at the second call.
    Flaky,
    /// Approved when the order has expired.
    Late,
}

fn kind(order: Uuid) -> Kind {
    [Kind::Approved, Kind::Declined, Kind::Flaky, Kind::Late][(order.as_u128() % 4) as usize]
}

/// A gateway that outlives every crash, as a real one does.
struct Bank {
    /// The keys under which it was called, by order.
    charges: Mutex<BTreeMap<Uuid, Vec<Uuid>>>,
    refunds: Mutex<BTreeMap<Uuid, Vec<Uuid>>>,
    /// Late payments that wait; of a life that has ended, none does.
    waiting: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

#[async_trait]
impl PaymentGateway for Bank {
    async fn charge(&self, payment: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure> {
        let order = payment.order_id;
        let calls = {
            let mut charges = self.charges.lock().unwrap();
            let keys = charges.entry(order).or_default();
            keys.push(idempotency_key);
            keys.len()
        };
        match kind(order) {
            Kind::Declined => return Ok(Decision::Declined { reason: "no funds".to_owned() }),
            Kind::Flaky if calls == 1 => return Err(Failure::retry("gateway away")),
            Kind::Late => {
                self.waiting.send_modify(|waiting| *waiting += 1);
                let _ = self.open.subscribe().wait_for(|open| *open).await;
            }
            Kind::Approved | Kind::Flaky => {}
        }
        Ok(Decision::Approved { reference: format!("charge-{order}") })
    }

    async fn refund(&self, refund: &RefundPayment, idempotency_key: Uuid) -> Result<(), Failure> {
        self.refunds.lock().unwrap().entry(refund.order_id).or_default().push(idempotency_key);
        Ok(())
    }
}

/// Which store is crashed.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Sqlite,
    Postgres,
}

/// Where the database is.
enum Database {
    Sqlite(TempDir),
    Postgres(String),
}

impl Database {
    fn new(kept: Kept) -> Self {
        match kept {
            Kept::Sqlite => Self::Sqlite(TempDir::new().unwrap()),
            Kept::Postgres => Self::Postgres(Postgres::shared().database()),
        }
    }

    async fn open(&self, probe: &Arc<CrashAt>) -> (Arc<dyn Store>, Arc<dyn Orders>) {
        match self {
            Self::Sqlite(folder) => {
                let store = SqliteStore::builder(&format!("sqlite://{}/orders.db", folder.path().display()));
                let store = store.writer::<OrderRow, _>(SqliteOrderRows).writer::<Notification, _>(SqliteOrderRows);
                let store = store.probe(probe.clone()).open().await.unwrap();
                store.migrate(&sqlx::migrate!("migrations/sqlite")).await.unwrap();
                let orders = SqliteOrders::new(store.reader());
                (Arc::new(store), Arc::new(orders))
            }
            Self::Postgres(url) => {
                // The host keeps its id, so that what it left is its own again without a wait for its lease.
                let store = PostgresStore::builder(url).host(id(1));
                let store = store.writer::<OrderRow, _>(PostgresOrderRows).writer::<Notification, _>(PostgresOrderRows);
                let store = store.probe(probe.clone()).open().await.unwrap();
                store.migrate(&sqlx::migrate!("migrations/postgres")).await.unwrap();
                let orders = PostgresOrders::new(store.reader());
                (Arc::new(store), Arc::new(orders))
            }
        }
    }
}

/// What outlives a crash: the database, and the bank.
struct World {
    database: Database,
    bank: Arc<Bank>,
}

/// What runs until it crashes.
struct Life {
    store: Arc<dyn Store>,
    orders: Arc<dyn Orders>,
    client: saga_core::Client,
    probe: Arc<CrashAt>,
}

impl World {
    fn new(kept: Kept) -> Self {
        let bank = Bank {
            charges: Mutex::default(),
            refunds: Mutex::default(),
            waiting: watch::Sender::default(),
            open: watch::Sender::default(),
        };
        Self { database: Database::new(kept), bank: Arc::new(bank) }
    }

    /// Runs the story from wherever it is to its end, or to the crash; `None`: it crashed, and everything that ran is
    /// dropped.
    fn live(&self, probe: &Arc<CrashAt>) -> Option<End> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.bank.waiting.send_replace(0);
        executor.block_on(async {
            let story = async {
                let life = self.start(probe).await;
                if self.story(&life).await { Some(end(&life).await) } else { None }
            };
            tokio::time::timeout(PATIENCE, story).await.expect("it stands still")
        })
    }

    async fn start(&self, probe: &Arc<CrashAt>) -> Life {
        let (store, orders) = self.database.open(probe).await;
        let process =
            OrderProcess { payment_delay: Duration::ZERO, ..OrderProcess::new(self.bank.clone(), Arc::new(LogMailer)) };
        let retry = RetryPolicy { initial: Duration::from_millis(1), ..RetryPolicy::default() };
        let builder = Runtime::builder(store.clone(), Arc::new(EmbeddedBus::new())).retry(retry).probe(probe.clone());
        let runtime = process.register(builder).build().unwrap();
        let client = runtime.client();
        tokio::spawn(runtime.run(std::future::pending()));
        Life { orders, store, client, probe: probe.clone() }
    }

    /// Everybody submits, under the same message ids in each life; what is not paid expires; then the late payments
    /// come. `false`: it crashed before the end.
    async fn story(&self, life: &Life) -> bool {
        let submissions = join_all((1..=ORDERS).map(|n| life.submit(n)));
        let late = if *self.bank.open.borrow() { 0 } else { LATE };
        let mut waiting = self.bank.waiting.subscribe();
        life.or_crash(submissions).await
            && life.or_crash(waiting.wait_for(|waiting| *waiting >= late)).await
            && life.until_left(late).await
            && life.or_crash(life.expire()).await
            && life.until_left(late).await
            && {
                self.bank.open.send_replace(true);
                life.until_left(0).await
            }
    }
}

impl Life {
    /// Submits as the host does: H1 lies between the commit and the answer.
    async fn submit(&self, n: u128) {
        let envelope = Envelope::new(id(n + 1_000_000), &order(n)).for_user("ann");
        self.client.submit::<Order>(envelope).await.unwrap();
        self.probe.reached(Point::Submitted).await;
    }

    async fn expire(&self) {
        let expiration = Expiration { after: Duration::ZERO, ..Expiration::default() };
        let sink = Arc::new(self.client.clone());
        let tick = ExpiryJob::new(self.orders.clone(), sink, Arc::new(SystemClock), expiration).tick().await;
        assert_eq!(tick.refused, 0);
    }

    async fn or_crash<T>(&self, work: impl Future<Output = T>) -> bool {
        tokio::select! {
            _ = work => true,
            _ = self.probe.until(async || false) => false,
        }
    }

    /// Waits until nothing is left to do but the payments that wait; a message is always in the outbox, or a timer.
    async fn until_left(&self, payments: u64) -> bool {
        let left = async || {
            let backlog = self.store.backlog().await.unwrap();
            (backlog.outbox, backlog.timers) == (payments, 0)
        };
        self.probe.until(left).await
    }
}

/// What is left of an order when everything is over.
#[derive(Debug, PartialEq)]
struct OrderEnd {
    status: OrderStatus,
    payment: &'static str,
    fault: Option<String>,
    told: Vec<NotificationKind>,
    moves: Vec<(u64, String, String, String)>,
}

#[derive(Debug, PartialEq)]
struct End {
    orders: BTreeMap<u128, OrderEnd>,
    outbox: u64,
    timers: u64,
    dead_letters: u64,
}

async fn end(life: &Life) -> End {
    let mut orders = BTreeMap::new();
    for n in 1..=ORDERS {
        let instance = life.store.instance(Order::NAME, id(n)).await.unwrap().unwrap();
        let status = life.orders.order(id(n)).await.unwrap().unwrap().status;
        assert_eq!(status.name(), instance.state.to_lowercase(), "the order and its saga disagree");
        let journal = life.store.journal(Order::NAME, id(n)).await.unwrap();
        let data: Order = instance.data.read().unwrap();
        let moves = legal_moves(n, &journal);
        assert_eq!(moves.last().map(|it| it.0), Some(instance.version));
        let payment = match data.payment {
            Payment::Approved { .. } => "approved",
            Payment::Refunded => "refunded",
            Payment::Declined { .. } => "declined",
            other => panic!("order {n} ended with {other:?}"),
        };
        let told = life.orders.notifications(id(n)).await.unwrap().into_iter().map(|row| row.kind).collect();
        orders.insert(n, OrderEnd { status, payment, fault: instance.fault, told, moves });
    }
    let backlog = life.store.backlog().await.unwrap();
    End { orders, outbox: backlog.outbox, timers: backlog.timers, dead_letters: backlog.dead_letters }
}

/// The moves of a history, each made again by the table: no message was handled twice, the versions have no gap, and
/// each move is legal.
fn legal_moves(n: u128, journal: &[JournalRow]) -> Vec<(u64, String, String, String)> {
    let machine = Machine::<Order>::new();
    let handled = journal.iter().filter(|row| matches!(row.outcome, JournalOutcome::Moved | JournalOutcome::Ignored));
    let mut seen = BTreeSet::new();
    for row in handled {
        assert!(seen.insert((&row.endpoint, row.message_id)), "order {n}: {row:?} was handled before");
    }
    let mut replayed = Instance::<Order>::new(id(n));
    let moved = journal.iter().filter(|row| row.outcome == JournalOutcome::Moved);
    let mut moves = Vec::new();
    for row in moved {
        let envelope = Envelope::raw(row.message_id, row.message_type.clone(), row.message.clone()).correlated(row.id);
        let ctx = Ctx {
            now: row.at,
            message_id: row.message_id,
            correlation_id: row.id,
            conversation_id: row.conversation_id,
            initiator_id: row.initiator_id,
            attempt: row.attempt,
            user: row.user.as_deref(),
        };
        let from = format!("{:?}", replayed.state);
        let step = machine.step_event(&mut replayed, &machine.read(&envelope).unwrap(), &ctx);
        assert!(matches!(step, Step::Moved(_)), "order {n}: {row:?} is not legal from {from}");
        let to = format!("{:?}", replayed.state);
        assert_eq!(
            (row.version, row.from.as_deref(), row.to.as_deref()),
            (Some(replayed.version), Some(&*from), Some(&*to))
        );
        moves.push((replayed.version, row.message_type.to_string(), from, to));
    }
    moves
}

/// What a crash may not change at the bank: each payment has one key, and money goes back only where it came late.
fn assert_bank(bank: &Bank) {
    let keys = |calls: &Vec<Uuid>| calls.iter().collect::<BTreeSet<_>>().len();
    let (charges, refunds) = (bank.charges.lock().unwrap(), bank.refunds.lock().unwrap());
    assert_eq!(charges.values().map(keys).collect::<Vec<_>>(), vec![1; ORDERS as usize], "keys of each order's charge");
    let refunded: Vec<_> = refunds.iter().map(|(order, calls)| (kind(*order), keys(calls))).collect();
    assert_eq!(refunded, vec![(Kind::Late, 1); LATE as usize], "keys of each refund");
}

fn without_crash(kept: Kept) {
    let world = World::new(kept);
    let end = world.live(&CrashAt::never()).unwrap();
    assert_bank(&world.bank);
    assert_eq!((end.outbox, end.timers, end.dead_letters), (0, 0, 0));
    for (n, order) in end.orders {
        let expected = match kind(id(n)) {
            Kind::Approved | Kind::Flaky => (OrderStatus::Completed, "approved", vec![NotificationKind::Completed]),
            Kind::Declined => (OrderStatus::Expired, "declined", vec![NotificationKind::Expired]),
            Kind::Late => (OrderStatus::Expired, "refunded", vec![NotificationKind::Expired]),
        };
        assert_eq!((order.status, order.payment, order.told), expected, "order {n}");
    }
}

fn crash_at_each(point: Point, kept: Kept) {
    let expected = World::new(kept).live(&CrashAt::never()).unwrap();
    for nth in 1.. {
        let world = World::new(kept);
        let probe = CrashAt::new(point, nth);
        match world.live(&probe) {
            Some(end) => {
                // The point is not reached so often.
                assert_eq!(end, expected);
                assert!(nth > 1, "{} is never reached", point.name());
                println!("{}: {} crashes", point.name(), nth - 1);
                return;
            }
            None => {
                let end = world.live(&CrashAt::never()).unwrap();
                assert_eq!(end, expected, "after a crash at {} the {nth}. time", point.name());
                assert_bank(&world.bank);
            }
        }
    }
}

macro_rules! crashes {
    ($kept:expr; $($name:ident = $point:ident)+) => {
        use super::*;

        #[test]
        fn given_no_crash_when_all_is_over_then_every_order_is_final_and_told_once() {
            without_crash($kept);
        }

        $(#[test]
        fn $name() {
            crash_at_each(Point::$point, $kept);
        })+

        #[test]
        fn every_point_is_crashed_at() {
            assert_eq!([$(Point::$point),+], Point::ALL);
        }
    };
    ($kept:expr) => {
        crashes! { $kept;
            given_a_crash_at_p1_received_when_it_starts_again_then_the_end_is_the_same = Received
            given_a_crash_at_p2_inbox_written_when_it_starts_again_then_the_end_is_the_same = InboxWritten
            given_a_crash_at_p3_instance_written_when_it_starts_again_then_the_end_is_the_same = InstanceWritten
            given_a_crash_at_p4_committed_when_it_starts_again_then_the_end_is_the_same = Committed
            given_a_crash_at_p5_sent_when_it_starts_again_then_the_end_is_the_same = Sent
            given_a_crash_at_p6_confirmed_when_it_starts_again_then_the_end_is_the_same = Confirmed
            given_a_crash_at_p7_settled_when_it_starts_again_then_the_end_is_the_same = Settled
            given_a_crash_at_p8_acknowledged_when_it_starts_again_then_the_end_is_the_same = Acknowledged
            given_a_crash_at_h1_submitted_when_it_starts_again_then_the_end_is_the_same = Submitted
            given_a_crash_at_t1_timer_read_when_it_starts_again_then_the_end_is_the_same = TimerRead
            given_a_crash_at_t2_timer_stored_when_it_starts_again_then_the_end_is_the_same = TimerStored
            given_a_crash_at_e1_performed_when_it_starts_again_then_the_end_is_the_same = Performed
        }
    };
}

mod sqlite {
    crashes! { Kept::Sqlite }
}

mod postgres {
    crashes! { Kept::Postgres }
}
