//! An order whose payment takes too long: it expires, then it is paid after all, and the money goes back.
//!
//! A quarter of an hour passes in no time, because the clock is the testkit's.
//! `cargo run --example expired_then_paid [RECORD_TO.jsonl]`

#![allow(missing_docs, unreachable_pub, reason = "an example: its types are for itself")]

mod shop;

use std::sync::Arc;
use std::time::Duration;

use order_saga::{Decision, ScriptedGateway};
use shop::{Outcome, Shop};

const MINUTE: Duration = Duration::from_secs(60);

fn main() -> Outcome {
    shop::show(story()?)
}

/// The story, and the flow that was recorded.
pub fn story() -> Outcome<(String, String)> {
    let approved = Decision::Approved { reference: "charge-1".to_owned() };
    let gateway = Arc::new(ScriptedGateway::new([Ok(approved)]));
    let mut shop = Shop::with_an_order(gateway.clone(), 15 * MINUTE)?;
    shop.wait(11 * MINUTE);
    shop.tell("the bank thinks about it")?;
    shop.expire();
    shop.tell("the expiry job looks")?;
    shop.wait(4 * MINUTE);
    shop.tell("the bank approves after all")?;
    let (charged, refunded) = (gateway.approved(), gateway.refunded());
    shop.story.push_str(&format!("the gateway has charged {charged} and refunded {refunded}\n"));
    shop.close()
}
