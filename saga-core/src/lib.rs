//! Business processes that outlive a crash: a persisted, MassTransit-like saga state machine.
//!
//! A transition is a plain function of data, event and context that returns [`Effects`]; the table of all
//! transitions is a total `match`, so rustc names every pair that was forgotten.
//!
//! Layout
//! - the pure heart, without features: [`Saga`], [`Machine`], [`Effects`], [`Envelope`], [`RetryPolicy`], [`Commit`]
//! - the ports (feature `runtime`): [`Store`], [`Bus`], [`Clock`], [`ActivityHandler`], [`Consumer`]

mod activity;
mod alphabet;
#[cfg(feature = "runtime")]
mod bus;
#[cfg(feature = "runtime")]
mod clock;
mod commit;
mod effect;
mod failure;
mod flow;
mod graph;
#[cfg(feature = "runtime")]
mod handler;
mod join;
mod machine;
mod message;
#[cfg(feature = "runtime")]
mod probe;
mod replay;
mod retry;
#[cfg(feature = "runtime")]
mod runtime;
mod saga;
#[cfg(feature = "runtime")]
mod store;
mod table;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg_attr(not(feature = "runtime"), allow(dead_code, reason = "without the runtime, replay alone lives by it"))]
mod unit_of_work;

#[doc(hidden)]
pub use activity::read_json;
pub use activity::{AcceptedBy, Activity, Outcome};
pub use alphabet::{Accepts, Alphabet, Column, Decoded, Finite};
#[cfg(feature = "runtime")]
pub use bus::{Bus, BusError, Confirm, Delivery, EmbeddedBus, Endpoint, Receipt, SendError};
#[cfg(feature = "runtime")]
pub use clock::{Clock, SystemClock};
pub use commit::{
    Commit, DeadLetterRow, FaultMark, InboxRow, InstanceRow, JournalEffect, JournalOutcome, JournalRow, Mark, Name,
    OutboxId, OutboxRow, StoredInstance, TimerKind, TimerRow,
};
pub use effect::{Effect, Effects, Outgoing};
pub use failure::{Failure, FailureKind};
pub use flow::{FLOW_FORMAT, Flow, FlowEnd, FlowError, FlowHeader, FlowLine};
#[cfg(feature = "runtime")]
pub use handler::{ActivityHandler, Consumer, HandlerContext, Output};
pub use join::{Join, MessageSet};
pub use machine::{Event, Machine, Step};
pub use message::{Body, Envelope, Headers, Message, derive_id, header};
#[cfg(feature = "runtime")]
pub use probe::{Point, Probe};
pub use replay::{Disagreement, Replay, ReplayError, ReplayStep, replay};
pub use retry::RetryPolicy;
#[cfg(feature = "runtime")]
pub use runtime::{
    Client, HandlerOptions, RedriveError, Runtime, RuntimeBuilder, RuntimeError, SubmitError, Submitted,
};
pub use saga::{Ctx, Instance, Row, Saga};
#[doc(hidden)]
pub use serde_json::Error as JsonError;
#[cfg(feature = "runtime")]
pub use store::{
    Backlog, DeadLetterPage, LoadQuery, Loaded, MemoryStore, MemoryStoreBuilder, MemoryWriter, Store, StoreError,
};
#[cfg(feature = "sqlite")]
pub use store::{SqliteStore, SqliteStoreBuilder, SqliteWriter};
pub use table::{Correlation, On, Rule, defer, ignore, reject};
