//! A saga whose own code is brittle: entries of a certain amount make its data panic when it is read or cloned.

use saga_core::{Correlation, Ctx, Effects, Message, Rule, Saga, events, states};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub const ACCOUNT: Uuid = Uuid::from_u128(0xacc);
/// The amount of an entry that no reader survives.
pub const UNREADABLE: i64 = 666;
/// The amount of an entry that can not be cloned.
pub const UNCLONABLE: i64 = 13;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    pub account: Uuid,
    pub amount: i64,
}
impl Message for Posted {
    const NAME: &'static str = "Ledger:Posted";
}
impl Posted {
    pub fn of(amount: i64) -> Self {
        Self { account: ACCOUNT, amount }
    }
}

/// An entry, as a row of the domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry(pub i64);

states! { pub enum LedgerState { Open } }
events! { pub enum LedgerEvent { Posted } }

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Ledger {
    pub entries: Vec<i64>,
}

impl Clone for Ledger {
    fn clone(&self) -> Self {
        assert!(!self.entries.contains(&UNCLONABLE), "no clone of this");
        Self { entries: self.entries.clone() }
    }
}

/// What is stored of a ledger.
#[derive(Deserialize)]
struct Stored {
    entries: Vec<i64>,
}

impl From<Stored> for Ledger {
    fn from(Stored { entries }: Stored) -> Self {
        assert!(!entries.contains(&UNREADABLE), "no reading of this");
        Self { entries }
    }
}

impl Saga for Ledger {
    const NAME: &'static str = "ledger";
    const ENDPOINT: &'static str = "ledger-saga";
    type State = LedgerState;
    type Event = LedgerEvent;
    type Row = Entry;

    fn correlate(event: LedgerEvent) -> Correlation {
        match event {
            LedgerEvent::Posted(on) => on.by(|it| it.account),
        }
    }

    fn table(state: LedgerState, event: LedgerEvent) -> Rule<Self> {
        match (state, event) {
            (LedgerState::Open, LedgerEvent::Posted(on)) => on.stay(post),
        }
    }
}

fn post(ledger: &mut Ledger, event: &Posted, _: &Ctx<'_>) -> Effects<Ledger> {
    ledger.entries.push(event.amount);
    Effects::none().write(Entry(event.amount))
}
