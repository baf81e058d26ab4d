//! The whole flow, from submission to notification, and what it rests on: `cargo bench --bench flow -- --help`.

mod arguments;
mod broker;
mod ceilings;
mod cliff;
mod cold;
mod drive;
mod entry;
mod filled;
mod hot;
mod http;
mod idle;
mod large;
mod machine;
mod memory;
mod order;
mod orders;
mod place;
mod plans;
mod plots;
mod purge;
mod report;
mod rig;
mod sagas;
mod sweep;
mod timers;
mod trip;
mod waiting;
mod watched;
mod yardstick;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Workload};

/// What the service warns of belongs beside its numbers, but for each message that is made to fail and each statement that
/// fills a large database; what it tells at `info` is not measured. `RUST_LOG` says otherwise.
const LOGGED: &str = "warn,sqlx=error,saga_core::runtime::report=error";

fn main() {
    // What goes wrong in a task would leave everybody else waiting for it.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::exit(1);
    }));
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("an executor");
    let report = executor.block_on(async {
        match arguments.workload {
            Workload::Order => order::run(&arguments).await,
            Workload::Trip => trip::run(&arguments).await,
            Workload::Hot => hot::run(&arguments).await,
            Workload::Timers => timers::run(&arguments).await,
            Workload::Cold => cold::run(&arguments).await,
            Workload::Large => large::run(&arguments).await,
            Workload::Memory => memory::run(&arguments).await,
            Workload::Purge => purge::run(&arguments).await,
            Workload::Cliff => cliff::run(&arguments).await,
            Workload::Waiting => waiting::run(&arguments).await,
            Workload::Idle => idle::run(&arguments).await,
        }
    });
    report::print(&report, arguments.json);
}
