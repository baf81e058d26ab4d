//! A saga that writes down what it hears, in the order in which it hears it.

use saga_core::{Correlation, Ctx, Effects, Envelope, Message, Rule, Saga, events, states};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub tally: Uuid,
    pub number: u32,
}
impl Message for Told {
    const NAME: &'static str = "Tallies:Told";
}

impl Told {
    /// The message, whose envelope does not say whose it is.
    pub fn envelope(tally: Uuid, number: u32) -> Envelope {
        let id = Uuid::from_u128(tally.as_u128() << 32 | u128::from(number));
        Envelope::new(id, &Self { tally, number })
    }
}

states! { pub enum TallyState { Open } }
events! { pub enum TallyEvent { Told } }

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub heard: Vec<u32>,
}

impl Saga for Tally {
    const NAME: &'static str = "tally";
    const ENDPOINT: &'static str = "tally-saga";
    type State = TallyState;
    type Event = TallyEvent;
    type Row = ();

    fn correlate(event: TallyEvent) -> Correlation {
        match event {
            TallyEvent::Told(on) => on.by(|it| it.tally),
        }
    }

    fn table(state: TallyState, event: TallyEvent) -> Rule<Self> {
        match (state, event) {
            (TallyState::Open, TallyEvent::Told(on)) => on.stay(note),
        }
    }
}

fn note(tally: &mut Tally, event: &Told, _: &Ctx<'_>) -> Effects<Tally> {
    tally.heard.push(event.number);
    Effects::none()
}
