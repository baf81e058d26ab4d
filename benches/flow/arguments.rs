//! What may be asked of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use host::config::Config;

use crate::entry::Entry;
use crate::orders::Flow;
use crate::place::Pairing;

/// Measures the whole flow: on SQLite (WAL, synchronous=FULL) and the embedded bus, if nothing else is said.
///
/// Every run begins on a new, empty store and bus. Runs of what is compared are interleaved, and medians are told: the
/// speed of a machine drifts from minute to minute, so only ratios from one call are to be compared. Client, hosts,
/// database and broker share the machine; say `taskset` to give them fewer cores.
///
/// `cargo bench --bench flow -- --workload order --store postgres: --bus rabbitmq: --baseline PATH --plots DIR --json`
#[derive(Parser)]
pub(crate) struct Arguments {
    /// What is measured.
    #[arg(long, value_enum, default_value = "order")]
    pub(crate) workload: Workload,
    /// How many orders, messages or timers a run has; as many as the workload needs if not said: 10,000 mostly, 100,000 for
    /// `timers`, `cold` and `waiting`, 1,000,000 for `memory`.
    #[arg(long)]
    orders: Option<usize>,
    /// How many runs; the median is told.
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    /// How many orders or messages are under way at the same time, at the most.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) backlog: usize,
    /// How orders come in; every way, one after the other, if not said.
    #[arg(long, value_enum)]
    entry: Option<Entry>,
    /// The store: `sqlite:` or `postgres:` for a new one at each run, or a URL.
    #[arg(long, default_value = "sqlite:")]
    store: String,
    /// The bus: `embedded:`, `rabbitmq:` for a new virtual host at each run, or a URL.
    #[arg(long, default_value = "embedded:")]
    bus: String,
    /// How many hosts share the work; more than one needs PostgreSQL and RabbitMQ.
    #[arg(long, default_value_t = 1)]
    pub(crate) hosts: usize,
    /// The `baseline_sqlite` binary, or `baseline` where there are servers, to measure beside, run by run (`order`).
    #[arg(long)]
    pub(crate) baseline: Option<PathBuf>,
    /// Leaves out the raw ceilings of database and broker, which are measured beside, run by run (`order`).
    #[arg(long)]
    pub(crate) no_ceilings: bool,
    /// How long the latency is measured at half and at nine tenths of the top rate; `0s`: not at all (`order`).
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) load: Duration,
    /// How many finished instances, and as many lines of history, a large database holds (`large`).
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) finished: usize,
    /// How many handled messages the inbox remembers (`large`), or how many old ones there are to purge (`purge`).
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) inbox: usize,
    /// Over how long a time the timers are due (`timers`).
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) within: Duration,
    /// Which disturbance; every one, one after the other, if not said (`cliff`).
    #[arg(long, value_enum)]
    pub(crate) beside: Option<Disturbance>,
    /// Measures the rate against the batch size and against the number of hosts, and the latency against the load, and
    /// writes SVG plots of them to this folder (`order`).
    #[arg(long)]
    pub(crate) plots: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Workload {
    /// Orders per second at a backlog, from each entry, and their latency alone, at half and at nine tenths of that rate;
    /// CPU, memory and average batch; beside, the raw ceilings and the hand-written baseline.
    Order,
    /// One message through a minimal saga and its answer back: requests per second, and the latency of one.
    Trip,
    /// All messages on one instance: messages per second.
    Hot,
    /// Timers that are due within a minute: how late they are, and how many a second where all are due at once.
    Timers,
    /// From start to ready, and to the end, with a backlog of orders that wait in the store.
    Cold,
    /// The order rate on a database that holds millions of finished instances, against an empty one; the plans of the
    /// queries.
    Large,
    /// Resident memory as orders pass.
    Memory,
    /// The order rate while old rows are purged, against the rate without, and the longest pause.
    Purge,
    /// The rate of the others beside a disturbance, against the rate without.
    Cliff,
    /// Memory while all orders wait in their payment.
    Waiting,
    /// CPU of a service that has nothing to do.
    Idle,
}

/// What goes wrong beside the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Disturbance {
    /// One order that messages come in for all the time.
    HotInstance,
    /// A consumer of the orders' events that takes a second for each.
    SlowConsumer,
    /// One order in 256 that the database refuses with the whole batch it is in.
    PoisonMessage,
    /// A database that answers after 50 ms.
    SlowDatabase,
    /// A payment provider that never answers for one order in a hundred.
    HangingPayment,
}

impl Disturbance {
    pub(crate) const ALL: [Self; 5] =
        [Self::HotInstance, Self::SlowConsumer, Self::PoisonMessage, Self::SlowDatabase, Self::HangingPayment];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HotInstance => "hot instance",
            Self::SlowConsumer => "slow consumer",
            Self::PoisonMessage => "poison message in every 256",
            Self::SlowDatabase => "database answers in 50 ms",
            Self::HangingPayment => "payment hangs for 1 %",
        }
    }
}

impl Arguments {
    /// How many orders, messages or timers a run has.
    pub(crate) fn orders(&self) -> usize {
        self.orders.unwrap_or(match self.workload {
            Workload::Timers | Workload::Cold | Workload::Waiting => 100_000,
            Workload::Memory => 1_000_000,
            _ => 10_000,
        })
    }

    /// The ways in that are measured.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let has_broker = self.pairing().has_broker();
        let all = || Entry::ALL.into_iter().filter(|it| has_broker || *it != Entry::Broker).collect();
        self.entry.map_or_else(all, |one| vec![one])
    }

    pub(crate) fn pairing(&self) -> Pairing {
        Pairing { store: self.store.clone(), bus: self.bus.clone() }
    }

    /// Starts the service on a new place.
    pub(crate) async fn start(&self, payment: Duration) -> Flow {
        Flow::start(self.pairing().place(), self.hosts, payment).await
    }

    /// The same, as an entry needs it, whose payments are approved at once.
    pub(crate) async fn start_for(&self, entry: Entry) -> Flow {
        let set = |config: &mut Config| config.rabbitmq.local = entry != Entry::Broker;
        Flow::start_with(self.pairing().place(), self.hosts, set).await
    }

    /// What every report begins with.
    pub(crate) fn heading(&self, workload: &str) -> serde_json::Value {
        serde_json::json!({
            "workload": workload, "store": self.kind(&self.store), "bus": self.kind(&self.bus), "hosts": self.hosts,
            "orders": self.orders(), "runs": self.runs, "backlog": self.backlog,
        })
    }

    /// A kind of store or bus, without what may be secret in its URL.
    fn kind<'a>(&self, url: &'a str) -> &'a str {
        url.split_inclusive(':').next().unwrap_or(url)
    }
}
