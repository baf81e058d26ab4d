//! What a saga is: its names, its alphabets, its table; one instance of it; and what a handler may know.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::alphabet::{Alphabet, Finite};
use crate::message::derive_id;
use crate::table::{Correlation, Rule};

/// A row of the domain that is written in the transaction that moves a saga, or by a consumer in its own.
///
/// The library never looks inside; the store gives all rows of a batch to the writer registered for their type.
pub trait Row: Any + Debug + Send + Sync {}
impl<T: Any + Debug + Send + Sync> Row for T {}

/// A long-running business process, written as data, a table and plain functions.
///
/// The value itself is the instance's data: stored as JSON, started from `Default`. A field that is added needs
/// `#[serde(default)]`, because instances written before it are read back.
pub trait Saga: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The saga's stored name: part of the durable contract.
    const NAME: &'static str;
    /// The endpoint (queue) on which the saga hears its events.
    const ENDPOINT: &'static str;
    /// Its states, made by [`states!`](crate::states).
    type State: Finite + PartialEq;
    /// Its events, made by [`events!`](crate::events).
    type Event: Alphabet;
    /// Its own rows, written in the transaction that moves it; `()` if it has none.
    type Row: Row + Clone + PartialEq;

    /// How each event finds its instance.
    fn correlate(event: Self::Event) -> Correlation;

    /// The transition table: total, so rustc names every pair that was forgotten.
    fn table(state: Self::State, event: Self::Event) -> Rule<Self>;
}

/// One instance of a saga, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance<S: Saga> {
    /// The id by which events find it.
    pub id: Uuid,
    /// Where it stands.
    pub state: S::State,
    /// What it knows.
    pub data: S,
    /// How many steps it has taken; 0 before the first.
    pub version: u64,
    /// The running timers: message name → the token that the firing timer must carry.
    pub timers: BTreeMap<String, Uuid>,
}

impl<S: Saga> Instance<S> {
    /// An instance that nothing has happened to.
    pub fn new(id: Uuid) -> Self {
        Self { id, state: S::State::ALL[0], data: S::default(), version: 0, timers: BTreeMap::new() }
    }
}

/// What a handler may know of the message it handles. There is no other source of time, ids or identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ctx<'a> {
    /// The time at which the message is handled; one value for a whole batch.
    pub now: DateTime<Utc>,
    /// The handled message's id.
    pub message_id: Uuid,
    /// The instance's id.
    pub correlation_id: Uuid,
    /// The conversation that the message belongs to.
    pub conversation_id: Uuid,
    /// What caused the message, if it was caused by another saga or consumer.
    pub initiator_id: Option<Uuid>,
    /// 1 on the first delivery, one more for each retry.
    pub attempt: u32,
    /// The user on whose behalf the conversation began, if there is one.
    pub user: Option<&'a str>,
}

impl Ctx<'_> {
    /// An id derived from the handled message and `name`: the same whenever the message is handled again.
    pub fn derive_id(&self, name: &str) -> Uuid {
        derive_id(self.message_id, name)
    }
}
