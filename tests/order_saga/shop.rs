//! The whole order process on memory under a manual clock, as the flows need it.

use std::sync::Arc;
use std::time::Duration;

use order_saga::*;
use saga_core::testkit::Harness;
use saga_core::{Envelope, Failure, JournalRow, MemoryStore, SubmitError, Submitted};
use uuid::Uuid;

use crate::fixture::{id, item, money};

/// What the gateway does with a charge.
pub type Charge = Result<Decision, Failure>;

pub fn approved() -> Charge {
    Ok(Decision::Approved { reference: "charge-1".to_owned() })
}

pub fn declined() -> Charge {
    Ok(Decision::Declined { reason: "no funds".to_owned() })
}

pub fn away() -> Failure {
    Failure::retry("gateway away")
}

/// The submission of order `n`.
pub fn order(n: u128) -> OrderSubmitted {
    OrderSubmitted {
        order_id: id(n),
        user_id: "ann".to_owned(),
        items: vec![item("tea", 2, "49.90")],
        total: money("99.80"),
        fingerprint: "f".to_owned(),
    }
}

/// The order process, its gateway, and its rows.
pub struct Shop {
    pub harness: Harness,
    pub gateway: Arc<ScriptedGateway>,
    pub orders: MemoryOrders,
}

impl Shop {
    pub fn new(gateway: ScriptedGateway) -> Self {
        let gateway = Arc::new(gateway);
        Self { gateway: gateway.clone(), ..Self::with(gateway) }
    }

    /// A shop with a gateway that knows no script.
    pub fn with(gateway: Arc<dyn PaymentGateway>) -> Self {
        let orders = MemoryOrders::default();
        let store = MemoryStore::builder();
        let store = store.writer::<OrderRow, _>(orders.clone()).writer::<Notification, _>(orders.clone()).build();
        let process = OrderProcess::new(gateway, Arc::new(LogMailer));
        let harness = Harness::builder().store(store).with(move |runtime| process.clone().register(runtime)).start();
        Self { harness, gateway: Arc::new(ScriptedGateway::new([])), orders }
    }

    /// Submits order `n` under a message id of its own.
    pub fn submit(&mut self, n: u128) -> Result<Submitted, SubmitError> {
        self.harness.submit_envelope::<Order>(Envelope::new(id(n + 1_000_000), &order(n)).for_user("ann"))
    }

    pub fn advance(&mut self, by: Duration) {
        self.harness.advance(by);
    }

    /// An expiry job, as one of the hosts runs it.
    pub fn expiry_job(&self) -> ExpiryJob {
        let sink = Arc::new(self.harness.client());
        ExpiryJob::new(Arc::new(self.orders.clone()), sink, self.harness.clock().clone(), Expiration::default())
    }

    /// The expiry job looks once, and everything settles.
    pub fn expire(&self) -> Tick {
        let tick = self.harness.block_on(self.expiry_job().tick());
        self.harness.settle();
        tick
    }

    /// The status that the user sees; it is the saga's state in another word.
    #[track_caller]
    pub fn status(&self, n: u128) -> OrderStatus {
        let status = self.harness.block_on(self.orders.order(id(n))).unwrap().unwrap().status;
        let state = self.harness.state::<Order>(id(n)).unwrap();
        assert_eq!(status.name(), state.to_lowercase(), "the order and its saga disagree");
        status
    }

    pub fn payment(&self, n: u128) -> Payment {
        self.harness.data::<Order>(id(n)).payment
    }

    /// What the user of order `n` was told.
    pub fn told(&self, n: u128) -> Vec<NotificationKind> {
        let rows = self.harness.block_on(self.orders.notifications(id(n))).unwrap();
        rows.into_iter().map(|row| row.kind).collect()
    }

    pub fn journal(&self, n: u128) -> Vec<JournalRow> {
        self.harness.journal::<Order>(id(n))
    }

    /// The ids of the dead letters.
    pub fn dead_letters(&self) -> Vec<Uuid> {
        self.harness.dead_letters().into_iter().map(|row| row.id).collect()
    }

    /// Nothing waits, and nothing was given up.
    #[track_caller]
    pub fn assert_at_rest(&self) {
        let backlog = self.harness.backlog();
        assert_eq!((backlog.outbox, backlog.timers, backlog.dead_letters), (0, 0, 0));
    }
}
