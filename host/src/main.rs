//! The order service: see `saga-host --help`.

use std::process::ExitCode;

use clap::Parser;
use host::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
