//! A crash storm: real hosts on a real PostgreSQL and a real RabbitMQ, all of which are killed, stopped, paused and cut
//! off under load, by a seed; and a witness in a process of its own that orders, records what was accepted, and judges
//! what became of it.
//!
//! Layout
//! - [`Options`]: how much of what; [`storm`]: one run of it, which gives a [`Report`]
//! - `plan`: what happens when, by the seed; `cluster` and `hosts`: what it happens to; [`Tally`]: what really happened
//! - [`witness`]: the other process; `witness/` its clients and what it looks at
//! - [`judge`]: whether what was seen is sound: a pure function of the [`Evidence`]

mod chance;
mod cluster;
mod fault;
mod hosts;
mod judge;
mod options;
mod plan;
mod report;
mod storm;
mod witness;

pub use fault::{Fault, Shortfall, Tally};
pub use judge::{Evidence, Finding, Heard, Rule, Seen, Summary, judge};
pub use options::Options;
pub use report::Report;
pub use storm::storm;
pub use witness::witness;
