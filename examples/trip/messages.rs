//! What the trip saga hears and says.

use std::collections::BTreeMap;

use saga_core::{Activity, Failure, Message};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What belongs to a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Flight,
    Hotel,
    Car,
}

/// Reservations by part.
pub type Reservations = BTreeMap<Part, Uuid>;

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $ty:ty),+ })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name { pub trip_id: Uuid, $(pub $field: $ty),+ }
        impl Message for $name { const NAME: &'static str = concat!("Trips:", stringify!($name)); }
    )+};
}

messages! {
    /// A traveller wants a trip.
    BookTrip { traveller: String }
    /// The trip was not complete in time: a timer.
    TripOverdue { traveller: String }
    /// All parts are reserved.
    TripBooked { reservations: Reservations }
    /// There will be no trip, and everything is given back.
    TripCancelled { why: String }

    ReserveFlight { traveller: String }
    FlightReserved { reservation: Uuid }
    FlightRefused { why: String }
    ReserveHotel { traveller: String }
    HotelReserved { reservation: Uuid }
    HotelRefused { why: String }
    ReserveCar { traveller: String }
    CarReserved { reservation: Uuid }
    CarRefused { why: String }

    /// Gives a reservation back.
    CancelReservation { part: Part, reservation: Uuid }
    ReservationCancelled { part: Part }
    CancellationFailed { part: Part, why: String }
}

/// The answer of an agency that has reserved a part.
pub trait Reserved: Message {
    const PART: Part;
    fn reservation(&self) -> Uuid;
}

/// The answer of an agency that has not.
pub trait Refused: Message {
    fn why(&self) -> &str;
}

macro_rules! agencies {
    ($($part:ident: $command:ident -> $reserved:ident | $refused:ident at $endpoint:literal;)+) => {$(
        impl Activity for $command {
            const ENDPOINT: &'static str = $endpoint;
            type Outcome = $reserved;
            type Failed = $refused;
            fn failed(&self, failure: &Failure) -> $refused {
                $refused { trip_id: self.trip_id, why: failure.to_string() }
            }
        }
        impl Reserved for $reserved {
            const PART: Part = Part::$part;
            fn reservation(&self) -> Uuid {
                self.reservation
            }
        }
        impl Refused for $refused {
            fn why(&self) -> &str {
                &self.why
            }
        }
    )+};
}

agencies! {
    Flight: ReserveFlight -> FlightReserved | FlightRefused at "airline";
    Hotel: ReserveHotel -> HotelReserved | HotelRefused at "hotel";
    Car: ReserveCar -> CarReserved | CarRefused at "car-rental";
}

impl Activity for CancelReservation {
    const ENDPOINT: &'static str = "cancellations";
    type Outcome = ReservationCancelled;
    type Failed = CancellationFailed;
    fn failed(&self, failure: &Failure) -> CancellationFailed {
        CancellationFailed { trip_id: self.trip_id, part: self.part, why: failure.to_string() }
    }
}
