//! A payment gateway that is away: three retries, `PaymentFailed`, a dead letter; an operator mends the gateway and
//! redrives, and the order completes.
//!
//! `cargo run --example retry_then_redrive [RECORD_TO.jsonl]`

#![allow(missing_docs, unreachable_pub, reason = "an example: its types are for itself")]

mod shop;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use order_saga::{Decision, ScriptedGateway};
use saga_core::Failure;
use shop::{Outcome, Shop};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> Outcome {
    shop::show(story()?)
}

/// The story, and the flow that was recorded.
pub fn story() -> Outcome<(String, String)> {
    let gateway = Arc::new(ScriptedGateway::new([Err(Failure::retry("the gateway is away"))]));
    let mut shop = Shop::with_an_order(gateway.clone(), 5 * SECOND)?;
    shop.wait(60 * SECOND);
    shop.tell("the gateway was away four times")?;

    let letters = shop.harness.dead_letters();
    let letter = letters.first().ok_or("there is no dead letter")?;
    let (attempts, name) = (letter.attempts, letter.envelope.name());
    writeln!(shop.story, "dead letter: {name} after {attempts} attempts, {}: {}", letter.reason, letter.error)?;

    let approved = Decision::Approved { reference: "charge-1".to_owned() };
    gateway.charges_from_now([Ok(approved)]);
    shop.harness.redrive(letter.id)?;
    shop.wait(10 * SECOND);
    shop.tell("the gateway is back, and the dead letter is redriven")?;
    let mut keys = gateway.charge_calls();
    let calls = keys.len();
    keys.dedup();
    writeln!(shop.story, "the gateway was called {calls} times, under {} idempotency key", keys.len())?;
    shop.close()
}
