//! Business processes that outlive a crash: a persisted, MassTransit-like saga state machine.
//!
//! A transition is a plain function of data, event and context that returns [`Effects`]; the table of all
//! transitions is a total `match`, so rustc names every pair that was forgotten.
//!
//! ```
//! use saga_core::{Correlation, Ctx, Effects, Instance, Machine, Message, Rule, Saga, Step, events, ignore, states};
//! use serde::{Deserialize, Serialize};
//! # use uuid::Uuid;
//! #[derive(Serialize, Deserialize)] struct Sent { parcel: Uuid }
//! impl Message for Sent { const NAME: &'static str = "Parcels:Sent"; }
//! states! { enum ParcelState { New, Travelling } }
//! events! { enum ParcelEvent { Sent } }
//!
//! #[derive(Default, Clone, Serialize, Deserialize)] struct Parcel;
//! impl Saga for Parcel {
//!     const NAME: &'static str = "parcel";
//!     const ENDPOINT: &'static str = "parcel-saga";
//!     type State = ParcelState;
//!     type Event = ParcelEvent;
//!     type Row = ();
//!     fn correlate(event: ParcelEvent) -> Correlation {
//!         match event { ParcelEvent::Sent(on) => on.by(|it| it.parcel) }
//!     }
//!     fn table(state: ParcelState, event: ParcelEvent) -> Rule<Self> {
//!         match (state, event) {
//!             (ParcelState::New, ParcelEvent::Sent(on)) => on.to(ParcelState::Travelling, |_, _, _| Effects::none()),
//!             (ParcelState::Travelling, ParcelEvent::Sent(_)) => ignore(),
//!         }
//!     }
//! }
//!
//! let id = Uuid::from_u128(7);
//! let mut parcel = Instance::<Parcel>::new(id);
//! # let ctx = Ctx { now: Default::default(), message_id: id, correlation_id: id, conversation_id: id, initiator_id: None,
//! #     attempt: 1, user: None };
//! let step = Machine::new().step(&mut parcel, &Sent { parcel: id }, &ctx);
//! assert!(matches!(step, Step::Moved(_)));
//! assert_eq!(parcel.state, ParcelState::Travelling);
//! ```
//!
//! Layout
//! - the pure heart, without features: [`Saga`] and its [`Machine`], [`Effects`], [`Activity`], [`Envelope`]
//! - what is written of a message, as plain data: [`Commit`], [`Failure`], [`RetryPolicy`]
//! - a recorded history, and today's table beside it: [`Flow`], [`replay`](replay())
//! - MassTransit's format on a broker: [`wire`]
//! - feature `runtime`: the `Runtime` and its ports `Store`, `Bus`, `Clock`, `ActivityHandler`, `Consumer`,
//!   with the adapters `MemoryStore` and `EmbeddedBus`
//! - feature `rabbitmq`: the adapter `RabbitMqBus`
//! - feature `sqlite`: the adapter `SqliteStore`; feature `postgres`: the adapter `PostgresStore`
//! - feature `testkit`: given/when/then, a harness under a manual clock, an explorer, a simulation, conformance suites
//! - feature `mutations`: takes a protection out, to see that the tests miss it; never on in a build that ships

mod activity;
mod alphabet;
#[cfg(feature = "runtime")]
mod bus;
#[cfg(feature = "runtime")]
mod clock;
mod commit;
mod effect;
mod failure;
mod fault;
mod flow;
mod graph;
#[cfg(feature = "runtime")]
mod handler;
mod history;
mod join;
mod machine;
mod message;
mod mutation;
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
pub mod wire;

#[doc(hidden)]
pub use activity::read_json;
pub use activity::{AcceptedBy, Activity, Outcome};
pub use alphabet::{Accepts, Alphabet, Column, Decoded, Finite};
#[cfg(feature = "runtime")]
pub use bus::{
    BUCKETS, Bus, BusError, Confirm, Delivery, EmbeddedBus, Endpoint, Receipt, SendError, Shard, ShardKey, bucket,
};
#[cfg(feature = "rabbitmq")]
pub use bus::{QueueType, RabbitMqBuildError, RabbitMqBus, RabbitMqBusBuilder};
#[cfg(feature = "runtime")]
pub use clock::{Clock, SystemClock};
pub use commit::{
    Commit, DeadLetterRow, FaultMark, InboxRow, InstanceRow, JournalEffect, JournalOutcome, JournalRow, Lane, Mark,
    Name, OutboxId, OutboxRow, StoredInstance, TimerKind, TimerRow,
};
pub use effect::{Effect, Effects, Outgoing};
pub use failure::{Failure, FailureKind};
pub use fault::{ExceptionInfo, Fault, ReceiveFault};
pub use flow::{FLOW_FORMAT, Flow, FlowEnd, FlowError, FlowHeader, FlowLine};
#[cfg(feature = "runtime")]
pub use handler::{ActivityHandler, Consumer, HandlerContext, Output};
pub use history::{MAX_REDRIVES, Violation};
pub use join::{Join, MessageSet};
pub use machine::{Event, Machine, Step};
pub use message::{Body, Envelope, Headers, Message, derive_id, header, produced_id};
#[cfg(feature = "mutations")]
pub use mutation::Mutation;
#[cfg(feature = "runtime")]
pub use probe::{Point, Probe};
pub use replay::{Disagreement, Replay, ReplayError, ReplayStep, replay};
pub use retry::RetryPolicy;
#[cfg(feature = "runtime")]
pub use runtime::{
    Client, HandlerOptions, RedriveError, Request, RequestError, Response, Retention, Roles, Runtime, RuntimeBuilder,
    RuntimeError, SubmitError, Submitted,
};
pub use saga::{Ctx, Instance, Row, Saga};
#[doc(hidden)]
pub use serde_json::Error as JsonError;
#[cfg(feature = "runtime")]
pub use store::{
    Audit, Backlog, Change, DeadLetterPage, Extent, LoadQuery, Loaded, MemoryStore, MemoryStoreBuilder, MemoryWriter,
    Old, Page, Store, StoreError, Unreadable,
};
#[cfg(feature = "postgres")]
pub use store::{PostgresAudit, PostgresStore, PostgresStoreBuilder, PostgresWriter};
#[cfg(feature = "sqlite")]
pub use store::{SqliteAudit, SqliteStore, SqliteStoreBuilder, SqliteWriter};
pub use table::{Correlation, On, Rule, defer, ignore, reject};
