//! A call of a message that nobody answers.

use saga_core::{Correlation, Ctx, Effects, Message, Rule, Saga, events, ignore, states};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
pub struct ParcelSent {
    pub parcel: Uuid,
}
impl Message for ParcelSent {
    const NAME: &'static str = "Parcels:ParcelSent";
}

#[derive(Serialize, Deserialize)]
pub struct ParcelArrived {
    pub parcel: Uuid,
}
impl Message for ParcelArrived {
    const NAME: &'static str = "Parcels:ParcelArrived";
}

#[derive(Serialize, Deserialize)]
pub struct PayPostage {
    pub parcel: Uuid,
}
impl Message for PayPostage {
    const NAME: &'static str = "Parcels:PayPostage";
}

#[derive(Serialize, Deserialize)]
pub struct Paid {
    pub parcel: Uuid,
}
impl Message for Paid {
    const NAME: &'static str = "Parcels:Paid";
}

states! { pub enum ParcelState { New, Travelling, Arrived } }
events! { pub enum ParcelEvent { ParcelSent, ParcelArrived } }

#[derive(Default, Clone, Serialize, Deserialize)]
pub struct Parcel;

impl Saga for Parcel {
    const NAME: &'static str = "parcel";
    const ENDPOINT: &'static str = "parcel-saga";
    type State = ParcelState;
    type Event = ParcelEvent;
    type Row = ();

    fn correlate(event: ParcelEvent) -> Correlation {
        match event {
            ParcelEvent::ParcelSent(on) => on.by(|it| it.parcel),
            ParcelEvent::ParcelArrived(on) => on.by(|it| it.parcel),
        }
    }

    fn table(state: ParcelState, event: ParcelEvent) -> Rule<Self> {
        use ParcelEvent::*;
        use ParcelState::*;
        match (state, event) {
            (New, ParcelSent(on)) => on.to(Travelling, send),
            (New, ParcelArrived(_)) => ignore(),
            (Travelling, ParcelSent(_)) => ignore(),
            (Travelling, ParcelArrived(on)) => on.to(Arrived, arrive),
            (Arrived, ParcelSent(_) | ParcelArrived(_)) => ignore(),
        }
    }
}

fn send(_: &mut Parcel, _sent: &ParcelSent, _: &Ctx<'_>) -> Effects<Parcel> {
    Effects::none().call(PayPostage { parcel: _sent.parcel })
}

fn arrive(_: &mut Parcel, _: &ParcelArrived, _: &Ctx<'_>) -> Effects<Parcel> {
    Effects::none()
}

fn main() {}
