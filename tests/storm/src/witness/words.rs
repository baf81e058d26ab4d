//! What the storm and its witness say to each other: one line of JSON each.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::judge::Summary;

/// What the witness is told, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// To make its queue.
    Begin(Begin),
    /// To submit orders.
    Submit,
    /// That the last fault is over.
    Calm,
    /// To judge, when nothing runs any more but the servers, at whose broker there are these queues.
    Judge { queues: Vec<String> },
}

/// What the witness has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) store: String,
    pub(crate) bus: String,
    pub(crate) hosts: Vec<SocketAddr>,
    /// How many orders, and over what time they are spread.
    pub(crate) orders: u64,
    pub(crate) over: Duration,
    /// How long everything may take to come to its end.
    pub(crate) within: Duration,
    /// Where it writes what was accepted.
    pub(crate) record: PathBuf,
}

/// What the witness says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Its queue is there: whatever is published from now on is heard.
    Listening,
    /// Everything was accepted, and nothing is left to do.
    AtRest { after: Duration },
    /// It did not come to rest in time.
    Restless { accepted: u64, left: BTreeMap<String, u64> },
    /// What it has found.
    Verdict(Verdict),
}

/// What the witness has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) summary: Summary,
    /// How many things are wrong, and the first of them.
    pub(crate) wrong: u64,
    pub(crate) findings: Vec<String>,
    /// Requests that were sent again, and those of them whose order was there already.
    pub(crate) repeated: u64,
    pub(crate) found: u64,
}

/// Says it to whoever has started this process.
pub(crate) fn say(word: &Word) -> anyhow::Result<()> {
    let line = serde_json::to_string(word)?;
    writeln!(std::io::stdout(), "{line}").context("nobody listens any more")
}
