//! The example saga `trip`: whatever happens, it is booked, or everything is given back.

#[path = "../../examples/trip/agency.rs"]
mod agency;
#[path = "../../examples/trip/messages.rs"]
mod messages;
#[path = "../../examples/trip/saga.rs"]
mod saga;

use std::collections::BTreeSet;

use saga_core::testkit::{End, Explore, Explored, Harness, given};
use saga_core::{Failure, HandlerOptions, Join, Machine, derive_id};
use uuid::Uuid;

use agency::Agency;
use messages::*;
use saga::{DEADLINE, Trip, TripState};

const TRIP: Uuid = Uuid::from_u128(1);

fn book() -> BookTrip {
    BookTrip { trip_id: TRIP, traveller: "Ada".to_owned() }
}

fn reservation(part: Part) -> Uuid {
    derive_id(TRIP, &format!("{part:?}"))
}

/// Every agency may reserve or refuse.
fn agencies(explore: Explore<Trip>) -> Explore<Trip> {
    let no = || Failure::permanent("sold out");
    explore
        .activity::<ReserveFlight>(move |it| {
            vec![Ok(FlightReserved { trip_id: it.trip_id, reservation: reservation(Part::Flight) }), Err(no())]
        })
        .activity::<ReserveHotel>(move |it| {
            vec![Ok(HotelReserved { trip_id: it.trip_id, reservation: reservation(Part::Hotel) }), Err(no())]
        })
        .activity::<ReserveCar>(move |it| {
            vec![Ok(CarReserved { trip_id: it.trip_id, reservation: reservation(Part::Car) }), Err(no())]
        })
}

fn cancellations(explore: Explore<Trip>) -> Explore<Trip> {
    explore.activity::<CancelReservation>(|it| vec![Ok(ReservationCancelled { trip_id: it.trip_id, part: it.part })])
}

/// What the agencies hold for the trip when everything is over.
fn held(end: &End<'_, Trip>) -> BTreeSet<Part> {
    let mut held = BTreeSet::new();
    held.extend(end.all::<FlightReserved>().iter().map(|_| Part::Flight));
    held.extend(end.all::<HotelReserved>().iter().map(|_| Part::Hotel));
    held.extend(end.all::<CarReserved>().iter().map(|_| Part::Car));
    for returned in end.all::<ReservationCancelled>() {
        held.remove(&returned.part);
    }
    held
}

/// Booked, and everything is held; or cancelled, and nothing is.
fn all_or_nothing(end: &End<'_, Trip>) -> Result<(), String> {
    let trip = end.instance(TRIP).ok_or("there is no trip")?;
    let (held, booked, cancelled) = (held(end).len(), end.count::<TripBooked>(), end.count::<TripCancelled>());
    let cancellations = end.count::<CancelReservation>();
    match trip.state {
        TripState::Booked if (held, booked, cancelled, cancellations) == (3, 1, 0, 0) => Ok(()),
        TripState::Cancelled if (held, booked, cancelled) == (0, 0, 1) => Ok(()),
        state => Err(format!("{state:?} with {held} parts held, {booked} times booked, {cancelled} times cancelled")),
    }
}

#[test]
fn given_a_trip_when_everything_is_tried_then_it_is_booked_or_everything_is_given_back() {
    let explore = cancellations(agencies(Explore::new().message(&book()).copies()));
    let explored = explore.run(all_or_nothing).unwrap();
    let Explored { states, ends, duplicates, .. } = explored;
    assert!(states > 1_000 && ends > 1 && duplicates > 1_000, "{explored:?}");
}

#[test]
fn given_agencies_that_may_not_take_back_when_everything_is_tried_then_a_held_part_is_shown() {
    let explore = agencies(Explore::new().message(&book())).activity::<CancelReservation>(|it| {
        vec![Ok(ReservationCancelled { trip_id: it.trip_id, part: it.part }), Err(Failure::permanent("away"))]
    });
    let explored = explore.run(|end| {
        let trip = end.instance(TRIP).ok_or("there is no trip")?;
        let stuck = trip.state == TripState::Cancelling;
        let shown = !trip.data.stuck.is_empty() && end.dead_letters.iter().any(|it| it.error == "away");
        if stuck != shown { Err(format!("{:?}, but {:?}", trip.state, trip.data.stuck)) } else { Ok(()) }
    });
    assert!(explored.unwrap().ends > 1);
}

#[test]
fn given_two_parts_when_the_third_is_reserved_then_the_trip_is_booked() {
    let reservation = Uuid::from_u128(9);
    let reserved = given::<Trip>()
        .id(TRIP)
        .after(&book())
        .after(&HotelReserved { trip_id: TRIP, reservation })
        .after(&CarReserved { trip_id: TRIP, reservation })
        .when(&FlightReserved { trip_id: TRIP, reservation });
    let all = [Part::Flight, Part::Hotel, Part::Car].map(|part| (part, reservation)).into();
    reserved
        .then_state(TripState::Booked)
        .then_unschedules::<TripOverdue>()
        .then_publishes(&TripBooked { trip_id: TRIP, reservations: all })
        .then_nothing_else();
}

#[test]
fn given_a_trip_that_is_given_up_when_a_part_is_reserved_too_late_then_it_is_given_back() {
    let reservation = Uuid::from_u128(9);
    let mut answers = Join::default();
    answers.note::<HotelRefused>();
    given::<Trip>()
        .id(TRIP)
        .in_state(TripState::Cancelling)
        .with(Trip { answers, ..Trip::default() })
        .when(&CarReserved { trip_id: TRIP, reservation })
        .then_state(TripState::Cancelling)
        .then_calls(&CancelReservation { trip_id: TRIP, part: Part::Car, reservation })
        .then_nothing_else();
}

#[test]
fn given_the_tables_pictures_then_they_are_as_committed() {
    let machine = Machine::<Trip>::new();
    assert!(machine.unreachable().is_empty(), "{:?}", machine.unreachable());
    assert_eq!(machine.dead_ends(), [TripState::Booked]);
    insta::assert_snapshot!("trip.mermaid", machine.mermaid());
    insta::assert_snapshot!("trip.table", machine.table());
}

#[test]
fn given_a_sold_out_hotel_when_the_runtime_runs_the_trip_then_the_rest_is_given_back() {
    let mut harness = running(Agency { sold_out: BTreeSet::from([Part::Hotel]) });
    harness.submit::<Trip>(&book()).unwrap();
    harness.advance(DEADLINE * 2);
    assert_eq!(harness.state::<Trip>(TRIP).as_deref(), Some("Cancelled"));
    assert_eq!(harness.called::<CancelReservation>().len(), 2);
    assert_eq!(harness.published::<TripCancelled>()[0].why, "Hotel: sold out");
    assert!(harness.published::<TripBooked>().is_empty());
}

#[test]
fn given_all_parts_when_the_runtime_runs_the_trip_then_it_is_booked_and_the_deadline_never_comes() {
    let mut harness = running(Agency::default());
    harness.submit::<Trip>(&book()).unwrap();
    harness.advance(DEADLINE * 2);
    assert_eq!(harness.state::<Trip>(TRIP).as_deref(), Some("Booked"));
    assert_eq!(harness.journal::<Trip>(TRIP).len(), 4, "four messages, and no timer");
    assert_eq!(harness.published::<TripBooked>().len(), 1);
}

fn running(agency: Agency) -> Harness {
    let agency = move |runtime: saga_core::RuntimeBuilder| {
        runtime
            .activity::<ReserveFlight>(agency.clone(), HandlerOptions::default())
            .activity::<ReserveHotel>(agency.clone(), HandlerOptions::default())
            .activity::<ReserveCar>(agency.clone(), HandlerOptions::default())
            .activity::<CancelReservation>(agency.clone(), HandlerOptions::default())
    };
    Harness::builder().saga::<Trip>().with(agency).start()
}
