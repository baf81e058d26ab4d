//! The agencies: what really happens when a part is reserved or given back.

use std::collections::BTreeSet;

use async_trait::async_trait;
use saga_core::{ActivityHandler, Failure, HandlerContext, derive_id};
use uuid::Uuid;

use super::messages::*;

/// One agency for everything, with some parts sold out.
#[derive(Debug, Clone, Default)]
pub struct Agency {
    pub sold_out: BTreeSet<Part>,
}

impl Agency {
    /// Reserves a part. The number of the reservation follows from the idempotency key, so a repeated call is told
    /// the same number and reserves nothing twice.
    fn reserve(&self, part: Part, context: &HandlerContext) -> Result<Uuid, Failure> {
        if self.sold_out.contains(&part) {
            return Err(Failure::permanent(format!("{part:?}: sold out")));
        }
        Ok(derive_id(context.idempotency_key(), "reservation"))
    }
}

#[async_trait]
impl ActivityHandler<ReserveFlight> for Agency {
    async fn execute(&self, command: &ReserveFlight, context: &HandlerContext) -> Result<FlightReserved, Failure> {
        let reservation = self.reserve(Part::Flight, context)?;
        Ok(FlightReserved { trip_id: command.trip_id, reservation })
    }
}

#[async_trait]
impl ActivityHandler<ReserveHotel> for Agency {
    async fn execute(&self, command: &ReserveHotel, context: &HandlerContext) -> Result<HotelReserved, Failure> {
        let reservation = self.reserve(Part::Hotel, context)?;
        Ok(HotelReserved { trip_id: command.trip_id, reservation })
    }
}

#[async_trait]
impl ActivityHandler<ReserveCar> for Agency {
    async fn execute(&self, command: &ReserveCar, context: &HandlerContext) -> Result<CarReserved, Failure> {
        let reservation = self.reserve(Part::Car, context)?;
        Ok(CarReserved { trip_id: command.trip_id, reservation })
    }
}

#[async_trait]
impl ActivityHandler<CancelReservation> for Agency {
    async fn execute(&self, command: &CancelReservation, _: &HandlerContext) -> Result<ReservationCancelled, Failure> {
        Ok(ReservationCancelled { trip_id: command.trip_id, part: command.part })
    }
}
