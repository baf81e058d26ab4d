//! The connection that publishes: rows in, frames out, confirms back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amqprs::BasicProperties;
use amqprs::channel::{BasicPublishArguments, ConfirmSelectArguments};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::connection::{CALL_LIMIT, Connected, Loss, Opened};
use super::destinations::{Destination, Destinations};
use super::events::ChannelEvent;
use super::health::Side;
use super::ledger::{Key, Ledger, SILENCE_MAX};
use super::link::Watch;
use super::parcel::Parcel;
use super::properties;
use super::supervisor::Session;
use super::topology::Plan;
use crate::bus::SendError;
use crate::wire;

/// How many messages are published before whatever else runs beside them has its turn.
const BURST: usize = 32;
/// How many of the broker's words are taken in at once.
const EVENTS: usize = 256;

/// What publishes, connection after connection.
pub(super) struct Publisher {
    pub(super) shared: Arc<Shared>,
    pub(super) plans: Arc<[Plan]>,
    pub(super) stop: CancellationToken,
}

impl Session for Publisher {
    const SIDE: Side = Side::Publishing;

    fn run(&self, watch: Arc<Watch>) -> impl Future<Output = Loss> + Send + 'static {
        let (shared, plans, stop) = (self.shared.clone(), self.plans.clone(), self.stop.clone());
        async move {
            match run(shared, plans, stop, watch).await {
                Ok(()) => Loss::stopped(),
                Err(loss) => loss,
            }
        }
    }

    fn overdue(&self, watch: &Watch) -> Option<String> {
        let mute = || {
            self.shared
                .ledger
                .is_mute(Instant::now())
                .then(|| format!("the broker has confirmed nothing for {SILENCE_MAX:?}"))
        };
        watch.overdue(Instant::now()).or_else(mute)
    }

    fn ended(&self, loss: &Loss, _: Duration) {
        self.shared.ledger.end(loss, Instant::now());
        self.shared.ledger.report();
    }
}

/// One connection, from its opening to its loss; `Ok` when it was asked to end.
async fn run(shared: Arc<Shared>, plans: Arc<[Plan]>, stop: CancellationToken, watch: Arc<Watch>) -> Result<(), Loss> {
    let mut connection = Connected::open(&shared.settings, Side::Publishing.name(), watch).await?;
    let mut destinations = Destinations::new(plans);
    destinations.declare_all(&mut connection, &shared.declaring).await?;
    let mut channel = connection.channel().await?;
    let what = "asking for publisher confirms";
    let call = channel.watch.call(what, CALL_LIMIT, channel.channel.confirm_select(ConfirmSelectArguments::default()));
    let selected = call.await;
    selected.map_err(|error| channel.loss(what, &error))?;
    let session = shared.ledger.begin();
    shared.up(Side::Publishing);
    let mut publishing = Publishing { shared, connection, destinations, channel, session };
    publishing.run(&stop).await?;
    publishing.channel.close().await;
    publishing.connection.close().await;
    Ok(())
}

struct Publishing {
    shared: Arc<Shared>,
    connection: Connected,
    destinations: Destinations,
    channel: Opened,
    session: u64,
}

impl Publishing {
    /// Publishes and takes in confirms until the connection is lost, or it was asked to stop and nothing is unconfirmed.
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Loss> {
        let mut events = Vec::new();
        loop {
            if !stop.is_cancelled() {
                self.publish_all().await?;
            } else if self.ledger().unconfirmed() == 0 {
                return Ok(());
            }
            self.ledger().report();
            tokio::select! {
                n = self.channel.events.recv_many(&mut events, EVENTS) => {
                    if n == 0 {
                        return Err(self.connection.gone().await);
                    }
                    for event in events.drain(..) {
                        self.heard(&event)?;
                    }
                }
                () = self.shared.ledger.work(), if !stop.is_cancelled() => {}
                () = until(self.shared.ledger.next_due()), if !stop.is_cancelled() => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    fn heard(&mut self, event: &ChannelEvent) -> Result<(), Loss> {
        match event {
            ChannelEvent::Confirmed(it) => self.ledger().confirmed(self.session, *it, Instant::now()),
            ChannelEvent::Returned(returned) => {
                self.ledger().returned(self.session, returned);
                self.destinations.forget_skipped();
            }
            ChannelEvent::Cancelled => {}
            ChannelEvent::Closed(_) | ChannelEvent::Gone => {
                if let Some(loss) = self.channel.ended(event) {
                    return Err(loss);
                }
            }
        }
        Ok(())
    }

    /// Publishes what the window has room for.
    async fn publish_all(&mut self) -> Result<(), Loss> {
        let mut burst = 0;
        while let Some(parcel) = self.shared.ledger.next(self.session, Instant::now()) {
            if let Err(why) = self.publish(&parcel).await? {
                self.ledger().settle(self.session, why, Instant::now());
            }
            burst += 1;
            if burst % BURST == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn publish(&mut self, parcel: &Parcel) -> Result<Result<(), SendError>, Loss> {
        let Letter { destination, routing_key, body, properties } = match self.letter(parcel) {
            Ok(letter) => letter,
            Err(why) => return Ok(Err(why)),
        };
        if let Err(why) = self.destinations.ensure(&mut self.connection, &destination).await? {
            return Ok(Err(match why {
                SendError::Unroutable(why) => SendError::Unroutable(parcel.no_place(&why)),
                other => other,
            }));
        }
        // To a channel that the broker has closed, a message would take the whole connection along.
        if !self.channel.channel.is_open() {
            return Err(self.closed().await);
        }
        let is_mandatory = destination.is_mandatory()
            || matches!(parcel, Parcel::Rerouted(..))
            || self.destinations.is_subscribed(&destination);
        let mut arguments = BasicPublishArguments::new(destination.exchange(), &routing_key);
        arguments.mandatory(is_mandatory);
        let key = is_mandatory.then(|| Key {
            exchange: destination.exchange().to_owned(),
            routing_key,
            message_id: properties.message_id().cloned(),
        });
        if !self.ledger().published(self.session, key, Instant::now()) {
            return Err(Loss::stopped());
        }
        // What amqprs says of it means nothing; the confirm does, or that the channel ends.
        match self.channel.channel.basic_publish(properties, body, arguments).await {
            Ok(()) => Ok(Ok(())),
            Err(_) => Err(self.closed().await),
        }
    }

    fn letter(&self, parcel: &Parcel) -> Result<Letter, SendError> {
        match parcel {
            Parcel::Row(_, row) | Parcel::Rerouted(_, row) => {
                let settings = &self.shared.settings;
                let outgoing = wire::write(&row.envelope, &settings.host, &settings.address);
                let outgoing = outgoing.map_err(|error| SendError::Unroutable(error.to_string()))?;
                let properties = properties::published(&outgoing).map_err(SendError::Unroutable)?;
                let mut destination = Destination::of(row)?;
                if let (Parcel::Rerouted(..), Destination::Queue(name)) = (parcel, &destination) {
                    destination = Destination::Exchange(name.clone());
                }
                let (destination, routing_key) = self.destinations.place(destination, &row.envelope);
                Ok(Letter { destination, routing_key, body: outgoing.body, properties })
            }
            Parcel::Moved(moved) => {
                let (destination, routing_key) = self.destinations.moved(&moved.to);
                let properties = properties::moved(moved, &self.shared.settings.host);
                Ok(Letter { destination, routing_key, body: moved.body.clone(), properties })
            }
        }
    }

    /// The channel is closed: waits for the word of why, which follows.
    async fn closed(&mut self) -> Loss {
        while let Some(event) = self.channel.events.recv().await {
            if let Err(loss) = self.heard(&event) {
                return loss;
            }
        }
        self.connection.gone().await
    }
}

/// A message, ready to publish.
struct Letter {
    destination: Destination,
    routing_key: String,
    body: Vec<u8>,
    properties: BasicProperties,
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
