//! Two trips, run by the runtime on its memory store: one that is booked, and one that has no car and is given back.
//!
//! `cargo run --example trip`

#![allow(missing_docs, unreachable_pub, reason = "an example: its types are for itself")]

mod agency;
mod messages;
mod saga;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use saga_core::{
    Consumer, EmbeddedBus, Envelope, Failure, HandlerContext, HandlerOptions, MemoryStore, Message, Output, Runtime,
    Saga, Store,
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use agency::Agency;
pub use messages::Part;
use messages::{BookTrip, CancelReservation, ReserveCar, ReserveFlight, ReserveHotel, TripBooked, TripCancelled};
use saga::Trip;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}{}", trip(BTreeSet::new()).await?, trip(BTreeSet::from([Part::Car])).await?);
    Ok(())
}

/// Books one trip with an agency that has sold out some parts, and tells its history.
pub async fn trip(sold_out: BTreeSet<Part>) -> Result<String, Box<dyn std::error::Error>> {
    let store = Arc::new(MemoryStore::builder().build());
    let (done, mut ended) = mpsc::unbounded_channel();
    let agency = Agency { sold_out };
    let runtime = Runtime::builder(store.clone(), Arc::new(EmbeddedBus::new()))
        .saga::<Trip>()
        .activity::<ReserveFlight>(agency.clone(), HandlerOptions::default())
        .activity::<ReserveHotel>(agency.clone(), HandlerOptions::default())
        .activity::<ReserveCar>(agency.clone(), HandlerOptions::default())
        .activity::<CancelReservation>(agency, HandlerOptions::default())
        .consumer::<TripBooked>("trip-desk", Desk(done.clone()), HandlerOptions::default())
        .consumer::<TripCancelled>("trip-desk", Desk(done), HandlerOptions::default())
        .build()?;
    let client = runtime.client();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run(async move {
        let _ = stopped.await;
    }));

    let trip_id = Uuid::from_u128(1);
    let book = BookTrip { trip_id, traveller: "Ada".to_owned() };
    client.submit::<Trip>(Envelope::new(Uuid::from_u128(2), &book).for_user("ada")).await?;
    let outcome = ended.recv().await.ok_or("the runtime has ended")?;

    let mut story = format!("{outcome}\n");
    for line in store.journal(Trip::NAME, trip_id).await? {
        let (from, to) = (line.from.unwrap_or_default(), line.to.unwrap_or_default());
        writeln!(story, "  {:28} {from:10} → {to}", line.message_type)?;
    }
    let _ = stop.send(());
    running.await??;
    Ok(story)
}

/// Tells how trips end.
struct Desk(mpsc::UnboundedSender<String>);

#[async_trait]
impl<M: Message + std::fmt::Debug> Consumer<M> for Desk {
    type Row = ();

    async fn consume(&self, event: &M, _: &HandlerContext) -> Result<Output<()>, Failure> {
        self.0.send(format!("{event:?}")).map_err(Failure::permanent)?;
        Ok(Output::none())
    }
}
