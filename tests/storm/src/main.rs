//! `crash-storm`: see `crash-storm --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use host::cli::Cli;
use test_storm::{Options, storm, witness};

const EXAMPLES: &str = "Examples:
  crash-storm                       500 orders, about a minute
  crash-storm --seed 7 --orders 10000 --host-kills 100 --broker-stops 5 --broker-kills 2 --database-stops 5 --cuts 20
  crash-storm --host target/release/saga-host --commit $(git rev-parse --short HEAD) --json >report.json";

/// Kills, stops, pauses and cuts off hosts, broker and database under load, and has a witness judge what became of the
/// orders: exit code 0 if nothing was lost and nothing came twice, else 1.
#[derive(Debug, Parser)]
#[command(name = "crash-storm", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that the storm starts as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// The witness; it is told what to do on its standard input
    #[command(hide = true)]
    Witness,
    /// A host, as `saga-host serve`
    #[command(hide = true)]
    Host,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = || tokio::runtime::Runtime::new();
    match arguments.part {
        Some(Part::Witness) => runtime()?.block_on(witness()).map(|()| ExitCode::SUCCESS),
        Some(Part::Host) => Ok(runtime()?.block_on(Cli::parse_from(["saga-host", "serve"]).run())),
        None => run(&arguments.options),
    }
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let report = storm(options)?;
    eprintln!("{}", report.table());
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
