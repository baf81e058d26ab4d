//! Takes recorded order flows through today's table, shows each step with the data before and after, and says where
//! the table disagrees with the recording. Exit code 1 if one does, 2 if a file is no flow of an order.
//!
//! `cargo run --example replay examples/flows/*.jsonl`
//!
//! The host exports a flow: `GET /api/orders/{id}/history?format=flow`.

#![allow(missing_docs, unreachable_pub, reason = "an example: its types are for itself")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use order_saga::Order;
use saga_core::{Flow, Replay, replay};

fn main() -> ExitCode {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files.is_empty() {
        eprintln!("which flow? for example: cargo run --example replay examples/flows/completed.jsonl");
        return ExitCode::from(2);
    }
    let mut agrees = true;
    for file in files {
        match replayed(&file) {
            Ok(replay) => {
                print!("{}\n{replay}", file.display());
                agrees &= replay.agrees();
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                return ExitCode::from(2);
            }
        }
    }
    if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn replayed(file: &Path) -> Result<Replay, Box<dyn std::error::Error>> {
    let flow = Flow::read(&std::fs::read_to_string(file)?)?;
    Ok(replay::<Order>(&flow)?)
}
