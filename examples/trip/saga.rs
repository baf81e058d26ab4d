//! A trip: flight, hotel and car are reserved at the same time. Either all three, or everything is given back.

use std::collections::BTreeSet;
use std::time::Duration;

use saga_core::{Correlation, Ctx, Effects, Join, Rule, Saga, events, ignore, reject, states};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::messages::*;

states! {
    /// Where a trip stands.
    pub enum TripState { New, Reserving, Booked, Cancelling, Cancelled }
}

events! {
    /// What a trip hears.
    pub enum TripEvent {
        BookTrip, TripOverdue,
        FlightReserved, HotelReserved, CarReserved,
        FlightRefused, HotelRefused, CarRefused,
        ReservationCancelled, CancellationFailed,
    }
}

/// What a trip knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trip {
    pub traveller: String,
    /// Which answers have come.
    pub answers: Join,
    /// What is reserved, or was.
    pub reservations: Reservations,
    /// What was given back.
    pub returned: BTreeSet<Part>,
    /// Why there will be no trip.
    pub why: Option<String>,
    /// What could not be given back until now.
    pub stuck: BTreeSet<Part>,
}

/// How long the agencies have.
pub const DEADLINE: Duration = Duration::from_secs(30 * 60);

impl Saga for Trip {
    const NAME: &'static str = "trip";
    const ENDPOINT: &'static str = "trip-saga";
    type State = TripState;
    type Event = TripEvent;
    type Row = ();

    #[rustfmt::skip]
    fn table(state: TripState, event: TripEvent) -> Rule<Self> {
        use TripEvent::*;
        use TripState::*;
        match (state, event) {
            (New, BookTrip(on)) => on.to(Reserving, reserve_everything),
            (New, TripOverdue(_) | FlightReserved(_) | HotelReserved(_) | CarReserved(_) | FlightRefused(_)
                | HotelRefused(_) | CarRefused(_) | ReservationCancelled(_) | CancellationFailed(_)) => reject("no such trip"),

            (Reserving, FlightReserved(on)) => on.to_one_of([Reserving, Booked], reserved),
            (Reserving, HotelReserved(on)) => on.to_one_of([Reserving, Booked], reserved),
            (Reserving, CarReserved(on)) => on.to_one_of([Reserving, Booked], reserved),
            (Reserving, FlightRefused(on)) => on.to(Cancelling, refused),
            (Reserving, HotelRefused(on)) => on.to(Cancelling, refused),
            (Reserving, CarRefused(on)) => on.to(Cancelling, refused),
            (Reserving, TripOverdue(on)) => on.to(Cancelling, give_up),
            (Reserving, BookTrip(_)) => ignore(),
            (Reserving, ReservationCancelled(_) | CancellationFailed(_)) => reject("nothing was given back yet"),

            (Booked, BookTrip(_) | TripOverdue(_) | FlightReserved(_) | HotelReserved(_) | CarReserved(_)) => ignore(),
            (Booked, FlightRefused(_) | HotelRefused(_) | CarRefused(_)) => reject("it was reserved before"),
            (Booked, ReservationCancelled(_) | CancellationFailed(_)) => reject("nothing was given back"),

            (Cancelling, FlightReserved(on)) => on.stay(reserved_too_late),
            (Cancelling, HotelReserved(on)) => on.stay(reserved_too_late),
            (Cancelling, CarReserved(on)) => on.stay(reserved_too_late),
            (Cancelling, FlightRefused(on)) => on.to_one_of([Cancelling, Cancelled], refused_as_well),
            (Cancelling, HotelRefused(on)) => on.to_one_of([Cancelling, Cancelled], refused_as_well),
            (Cancelling, CarRefused(on)) => on.to_one_of([Cancelling, Cancelled], refused_as_well),
            (Cancelling, ReservationCancelled(on)) => on.to_one_of([Cancelling, Cancelled], returned),
            (Cancelling, CancellationFailed(on)) => on.stay(not_returned),
            (Cancelling, BookTrip(_) | TripOverdue(_)) => ignore(),

            // An operator has redriven a reservation that had failed.
            (Cancelled, FlightReserved(on)) => on.to(Cancelling, reserved_too_late),
            (Cancelled, HotelReserved(on)) => on.to(Cancelling, reserved_too_late),
            (Cancelled, CarReserved(on)) => on.to(Cancelling, reserved_too_late),
            (Cancelled, BookTrip(_) | TripOverdue(_) | FlightRefused(_) | HotelRefused(_) | CarRefused(_)
                | ReservationCancelled(_) | CancellationFailed(_)) => ignore(),
        }
    }

    fn correlate(event: TripEvent) -> Correlation {
        use TripEvent::*;
        match event {
            BookTrip(on) => on.by(|it| it.trip_id),
            TripOverdue(on) => on.by(|it| it.trip_id),
            FlightReserved(on) => on.by(|it| it.trip_id),
            HotelReserved(on) => on.by(|it| it.trip_id),
            CarReserved(on) => on.by(|it| it.trip_id),
            FlightRefused(on) => on.by(|it| it.trip_id),
            HotelRefused(on) => on.by(|it| it.trip_id),
            CarRefused(on) => on.by(|it| it.trip_id),
            ReservationCancelled(on) => on.by(|it| it.trip_id),
            CancellationFailed(on) => on.by(|it| it.trip_id),
        }
    }
}

fn reserve_everything(trip: &mut Trip, event: &BookTrip, ctx: &Ctx<'_>) -> Effects<Trip> {
    let (trip_id, traveller) = (ctx.correlation_id, &event.traveller);
    trip.traveller.clone_from(traveller);
    Effects::none()
        .call(ReserveFlight { trip_id, traveller: traveller.clone() })
        .call(ReserveHotel { trip_id, traveller: traveller.clone() })
        .call(ReserveCar { trip_id, traveller: traveller.clone() })
        .schedule(TripOverdue { trip_id, traveller: traveller.clone() }, DEADLINE)
}

fn reserved<E: Reserved>(trip: &mut Trip, event: &E, ctx: &Ctx<'_>) -> (TripState, Effects<Trip>) {
    trip.answers.note::<E>();
    trip.reservations.insert(E::PART, event.reservation());
    if !trip.answers.all::<(FlightReserved, HotelReserved, CarReserved)>() {
        return (TripState::Reserving, Effects::none());
    }
    let booked = TripBooked { trip_id: ctx.correlation_id, reservations: trip.reservations.clone() };
    (TripState::Booked, Effects::none().unschedule::<TripOverdue>().publish(booked))
}

fn refused<E: Refused>(trip: &mut Trip, event: &E, ctx: &Ctx<'_>) -> Effects<Trip> {
    trip.answers.note::<E>();
    trip.why = Some(event.why().to_owned());
    give_back_all(trip, ctx).unschedule::<TripOverdue>()
}

fn give_up(trip: &mut Trip, _: &TripOverdue, ctx: &Ctx<'_>) -> Effects<Trip> {
    trip.why = Some("the agencies took too long".to_owned());
    give_back_all(trip, ctx)
}

fn reserved_too_late<E: Reserved>(trip: &mut Trip, event: &E, ctx: &Ctx<'_>) -> Effects<Trip> {
    trip.answers.note::<E>();
    trip.reservations.insert(E::PART, event.reservation());
    Effects::none().call(give_back(ctx, E::PART, event.reservation()))
}

fn refused_as_well<E: Refused>(trip: &mut Trip, _: &E, ctx: &Ctx<'_>) -> (TripState, Effects<Trip>) {
    trip.answers.note::<E>();
    settle(trip, ctx)
}

fn returned(trip: &mut Trip, event: &ReservationCancelled, ctx: &Ctx<'_>) -> (TripState, Effects<Trip>) {
    trip.stuck.remove(&event.part);
    trip.returned.insert(event.part);
    settle(trip, ctx)
}

fn not_returned(trip: &mut Trip, event: &CancellationFailed, _: &Ctx<'_>) -> Effects<Trip> {
    trip.stuck.insert(event.part);
    Effects::none()
}

/// Cancelled when every agency has answered, and all that was reserved is given back.
fn settle(trip: &mut Trip, ctx: &Ctx<'_>) -> (TripState, Effects<Trip>) {
    let answers = &trip.answers;
    let answered = (answers.has::<FlightReserved>() || answers.has::<FlightRefused>())
        && (answers.has::<HotelReserved>() || answers.has::<HotelRefused>())
        && (answers.has::<CarReserved>() || answers.has::<CarRefused>());
    if !answered || trip.reservations.keys().any(|part| !trip.returned.contains(part)) {
        return (TripState::Cancelling, Effects::none());
    }
    let why = trip.why.clone().unwrap_or_default();
    (TripState::Cancelled, Effects::none().publish(TripCancelled { trip_id: ctx.correlation_id, why }))
}

fn give_back_all(trip: &Trip, ctx: &Ctx<'_>) -> Effects<Trip> {
    let reservations = trip.reservations.iter();
    reservations.fold(Effects::none(), |all, (&part, &reservation)| all.call(give_back(ctx, part, reservation)))
}

fn give_back(ctx: &Ctx<'_>, part: Part, reservation: Uuid) -> CancelReservation {
    CancelReservation { trip_id: ctx.correlation_id, part, reservation }
}
