//! One endpoint over one channel: declare, consume, hand over, acknowledge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amqprs::channel::{
    BasicAckArguments, BasicCancelArguments, BasicConsumeArguments, BasicQosArguments, ConsumerMessage,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::connection::{CALL_LIMIT, Cause, Loss, Opened};
use super::destinations::Destination;
use super::events::ChannelEvent;
use super::life::Life;
use super::parcel::Parcel;
use super::partition;
use super::properties::{self, Moved};
use super::topology::{Part, Plan};
use crate::bus::{Delivery, Receipt};
use crate::wire::{self, BusAddress, Incoming, Read};

/// How often a process looks whether it has more than its share of an endpoint's shards. A host that comes has its share
/// after so long, and what is asked of the broker, a question for each shard, costs nothing.
const BALANCE: Duration = Duration::from_secs(2);
/// How long a shard that is to be given up waits for what is in hand. A batch is committed in far less; what takes longer is
/// refused by the store, perhaps for ever, and until the shard is given up nobody reads it.
const GIVE_UP: Duration = Duration::from_secs(10);

/// What the channels of one connection share.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) shared: Arc<Shared>,
    pub(super) plans: Arc<[Plan]>,
    pub(super) deliveries: Arc<[mpsc::UnboundedSender<Delivery>]>,
    pub(super) decoders: Handle,
    pub(super) stop: CancellationToken,
    /// Until then, messages are taken one at a time.
    pub(super) careful_until: Option<Instant>,
}

/// How an endpoint's channel has ended.
pub(super) enum End {
    /// It is declared, and others consume it; or the bus is closed.
    Declared,
    /// Messages were taken one at a time for long enough.
    Careful,
    /// Another host is to have the shard; this one waits behind it.
    GaveUp,
    /// It was lost.
    Lost(Loss),
}

impl Line {
    /// Declares an endpoint and, if it is consumed, consumes until the channel is lost. `told` hears when it works.
    pub(super) async fn run(self, index: usize, mut channel: Opened, told: mpsc::UnboundedSender<usize>) -> End {
        let Some(plan) = self.plans.get(index) else { return End::Declared };
        let declared = {
            let _alone = self.shared.declaring.lock().await;
            plan.declare(&mut channel).await
        };
        if let Err(loss) = declared {
            return End::Lost(loss);
        }
        // The connection that listens lives at least as long as this channel.
        let tell = || {
            let _ = told.send(index);
        };
        if !plan.consumed {
            tell();
            channel.close().await;
            return End::Declared;
        }
        if let Err(loss) = self.few_copies(index, plan, &mut channel, &tell).await {
            return End::Lost(loss);
        }
        let careful_until = self.careful_until.filter(|until| *until > Instant::now());
        let teller = Arc::new(Notify::new());
        let life =
            Life { epoch: self.shared.receipts.begin(index, teller.clone()), receipts: &self.shared.receipts, plan };
        let prefetch = if careful_until.is_some() { 1 } else { plan.prefetch };
        let (consumer, messages) = match consume(&mut channel, &plan.queue, prefetch).await {
            Ok(consuming) => consuming,
            Err(loss) => return End::Lost(loss),
        };
        let pause = CancellationToken::new();
        let decoder = self.decoders.spawn(self.clone().hand_over(index, life.epoch, messages, pause.clone()));
        tell();
        let consuming = Consuming { index, plan, life: &life, consumer, teller, decoder, pause };
        let end = self.acknowledge(&mut channel, consuming, careful_until).await;
        drop(life);
        if !matches!(end, End::Lost(_)) || channel.channel.is_open() {
            channel.close().await;
        }
        end
    }

    /// Waits while too many deliveries of earlier channels are still in hand.
    async fn few_copies(&self, index: usize, plan: &Plan, channel: &mut Opened, tell: &impl Fn()) -> Result<(), Loss> {
        let few = self.shared.receipts.void_at_most(index, plan.prefetch.into());
        tokio::pin!(few);
        let mut is_told = false;
        loop {
            tokio::select! {
                biased;
                () = &mut few => return Ok(()),
                () = std::future::ready(()), if !is_told => {
                    tell();
                    is_told = true;
                }
                event = channel.events.recv() => if let Some(loss) = lost(channel, event.as_ref()) { return Err(loss) },
                () = self.stop.cancelled() => return Err(Loss::stopped()),
            }
        }
    }

    /// Tells the broker what is acknowledged, until the channel is lost or the shard is given up.
    async fn acknowledge(&self, channel: &mut Opened, mut it: Consuming<'_>, careful_until: Option<Instant>) -> End {
        let careful = async {
            match careful_until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(careful);
        let pause = it.pause.clone();
        let patience = async {
            pause.cancelled().await;
            tokio::time::sleep(GIVE_UP).await;
        };
        tokio::pin!(patience);
        let mut balance = tokio::time::interval_at((Instant::now() + BALANCE).into(), BALANCE);
        balance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_reading = true;
        loop {
            // What is given up is given up whole, if it can be: whoever has it next should not meet what is in hand here.
            if !is_reading && it.pause.is_cancelled() && self.shared.receipts.in_hand(it.life.epoch) == 0 {
                return flush(channel, &it).await.map_or_else(End::Lost, |()| End::GaveUp);
            }
            // What the saga has not acknowledged by its end it never will; what moves is still on its way.
            let is_over = !is_reading && self.taker(it.index).is_some_and(mpsc::UnboundedSender::is_closed);
            if is_over && (it.plan.is_shared() || self.shared.receipts.in_hand(it.life.epoch) == 0) {
                return farewell(channel, &it).await.map_or_else(End::Lost, |()| End::Declared);
            }
            tokio::select! {
                () = it.teller.notified() => {
                    if let Err(loss) = tell_broker(channel, it.life).await { return End::Lost(loss) }
                }
                event = channel.events.recv() => {
                    if let Some(loss) = lost(channel, event.as_ref()) { return End::Lost(loss) }
                }
                () = &mut careful => return End::Careful,
                // What is still in hand comes again to whoever has the shard next: the inbox and the version tell.
                () = &mut patience => {
                    let (endpoint, in_hand) = (&it.plan.queue, self.shared.receipts.in_hand(it.life.epoch));
                    tracing::warn!(endpoint, in_hand, "the shard is given up with messages in hand that could not be handled in time; they come again");
                    return flush(channel, &it).await.map_or_else(End::Lost, |()| End::GaveUp);
                }
                // What reads deliveries ends well with the channel, which says why itself, or when it is to hand over no more.
                ended = &mut it.decoder, if is_reading => match ended {
                    Ok(()) => is_reading = false,
                    Err(error) => {
                        let why = format!("a defect: what reads deliveries ended: {error}");
                        return End::Lost(Loss::new(Cause::Broke, why));
                    }
                },
                _ = balance.tick(), if it.plan.is_shared() => {
                    match has_too_many(channel, it.plan).await {
                        Ok(true) => it.pause.cancel(),
                        Ok(false) => {}
                        Err(loss) => return End::Lost(loss),
                    }
                }
                () = self.stop.cancelled() => {
                    let told = farewell(channel, &it).await;
                    return told.map_or_else(End::Lost, |()| End::Declared);
                }
            }
        }
    }

    /// Decodes what is delivered and hands it to the endpoint, or to the queue where it belongs, until it is to pause. What
    /// was delivered by then and not handed over goes back to the broker with the channel.
    async fn hand_over(
        self,
        index: usize,
        epoch: u64,
        mut messages: mpsc::UnboundedReceiver<ConsumerMessage>,
        pause: CancellationToken,
    ) {
        let Some(plan) = self.plans.get(index) else { return };
        let mut is_new = true;
        loop {
            let message = tokio::select! {
                biased;
                () = pause.cancelled() => return,
                () = self.is_over(index) => return,
                message = messages.recv() => message,
            };
            let Some(message) = message else { return };
            let (Some(deliver), Some(properties)) = (message.deliver, message.basic_properties) else { continue };
            let receipt = Receipt { epoch, tag: deliver.delivery_tag() };
            if !self.shared.receipts.delivered(epoch, receipt.tag) {
                return;
            }
            if let (true, Part::Shard { shard, balance, .. }) = (is_new, &plan.part) {
                balance.is_active(shard.index);
                is_new = false;
            }
            let body = message.content.unwrap_or_default();
            let envelope = match wire::read(&incoming(&body, &properties, plan, &self.shared.settings.address)) {
                Read::Message(envelope) | Read::Undecodable(envelope) => envelope,
                Read::Skipped(envelope) => {
                    tracing::warn!(
                        endpoint = plan.name,
                        message = envelope.name(),
                        "a message of a type that nobody here handles is put aside"
                    );
                    self.moves(Moved { to: Destination::Skipped(plan.home), body, properties, receipt });
                    continue;
                }
            };
            if let Some(queue) = plan.elsewhere(&envelope) {
                self.moves(Moved { to: Destination::Queue(queue), body, properties, receipt });
                continue;
            }
            let Some(deliveries) = self.deliveries.get(index) else { return };
            let redelivered = properties::redelivered(&properties, deliver.redelivered());
            if deliveries.send(Delivery { envelope: Arc::new(envelope), receipt, redelivered }).is_err() {
                return;
            }
        }
    }

    /// Waits until the saga whose shard this is, or for whose shards it sorts, takes no more, although the bus goes on: then
    /// other hosts are to have it at once. What is in no shards is read by all of them anyway.
    async fn is_over(&self, index: usize) {
        match self.taker(index) {
            Some(taker) => taker.closed().await,
            None => std::future::pending().await,
        }
    }

    /// Where the saga takes what is delivered for a shard; for what is sorted, where it does for the first one.
    fn taker(&self, index: usize) -> Option<&mpsc::UnboundedSender<Delivery>> {
        let plan = self.plans.get(index)?;
        match plan.part {
            Part::Whole => None,
            Part::Shard { .. } => self.deliveries.get(index),
            Part::Sorter { .. } => self.deliveries.get(plan.home),
        }
    }

    /// Publishes a delivery where it belongs, and acknowledges it when that is confirmed.
    fn moves(&self, moved: Moved) {
        self.shared.ledger.push([Parcel::Moved(Arc::new(moved))]);
    }
}

/// A channel that consumes.
struct Consuming<'a> {
    index: usize,
    plan: &'a Plan,
    life: &'a Life<'a>,
    consumer: String,
    teller: Arc<Notify>,
    decoder: JoinHandle<()>,
    /// Cancelled when nothing more is to be handed over.
    pause: CancellationToken,
}

async fn consume(
    channel: &mut Opened,
    queue: &str,
    prefetch: u16,
) -> Result<(String, mpsc::UnboundedReceiver<ConsumerMessage>), Loss> {
    let what = format!("limiting what queue {queue} delivers");
    let qos = channel.channel.basic_qos(BasicQosArguments::new(0, prefetch, false));
    let limited = channel.watch.call(&what, CALL_LIMIT, qos).await;
    limited.map_err(|error| channel.loss(&what, &error))?;
    let what = format!("consuming queue {queue}");
    let consume = channel.channel.basic_consume_rx(BasicConsumeArguments::new(queue, ""));
    let consuming = channel.watch.call(&what, CALL_LIMIT, consume).await;
    consuming.map_err(|error| channel.loss(&what, &error))
}

/// Takes no more and tells the broker of what is acknowledged. A quorum queue is told of a few acknowledgements at a time,
/// and a channel that ends forgets the rest; who asks it for answers meanwhile lets it get on with them.
async fn farewell(channel: &mut Opened, it: &Consuming<'_>) -> Result<(), Loss> {
    if it.plan.is_shared() {
        return flush(channel, it).await;
    }
    tell_broker(channel, it.life).await?;
    let what = "taking no more";
    let cancel = channel.channel.basic_cancel(BasicCancelArguments::new(&it.consumer));
    let cancelled = channel.watch.call(what, CALL_LIMIT, cancel).await;
    cancelled.map_err(|error| channel.loss(what, &error))?;
    tell_broker(channel, it.life).await
}

/// The same where one consumer at a time is active, and stays so until the channel ends: as soon as it is cancelled, the
/// broker gives the next one later messages, while earlier ones are not back yet.
async fn flush(channel: &mut Opened, it: &Consuming<'_>) -> Result<(), Loss> {
    tell_broker(channel, it.life).await?;
    partition::consumers(channel, &it.plan.queue).await?;
    tell_broker(channel, it.life).await
}

/// Whether another host is to have this shard: as many share them as consume the queue of the endpoint's name.
async fn has_too_many(channel: &mut Opened, plan: &Plan) -> Result<bool, Loss> {
    let Part::Shard { shard, balance, .. } = &plan.part else { return Ok(false) };
    let hosts = partition::consumers(channel, &plan.name).await?;
    Ok(balance.gives_up(shard.index, shard.of, hosts))
}

async fn tell_broker(channel: &mut Opened, life: &Life<'_>) -> Result<(), Loss> {
    let due = life.receipts.due(life.epoch);
    let telling = async {
        for ack in due {
            // To a channel that the broker has closed, an acknowledgement would take the whole connection along.
            if !channel.channel.is_open() {
                return false;
            }
            if channel.channel.basic_ack(BasicAckArguments::new(ack.tag, ack.multiple)).await.is_err() {
                return false;
            }
        }
        true
    };
    if channel.watch.call("acknowledging", CALL_LIMIT, telling).await {
        return Ok(());
    }
    loop {
        let event = channel.events.recv().await;
        if let Some(loss) = lost(channel, event.as_ref()) {
            return Err(loss);
        }
    }
}

/// Why the channel can not go on, when an event says so.
fn lost(channel: &Opened, event: Option<&ChannelEvent>) -> Option<Loss> {
    match event {
        Some(ChannelEvent::Cancelled) => {
            Some(Loss::new(Cause::Refused, "the broker has ended the consumer: its queue was deleted, or moved"))
        }
        Some(event) => channel.ended(event),
        None => Some(Loss::new(Cause::Broke, "the channel was lost")),
    }
}

fn incoming<'a>(
    body: &'a [u8],
    properties: &'a amqprs::BasicProperties,
    plan: &'a Plan,
    base: &'a BusAddress,
) -> Incoming<'a> {
    Incoming {
        body,
        content_type: properties.content_type().map(String::as_str),
        content_encoding: properties.content_encoding().map(String::as_str),
        message_id: properties.message_id().map(String::as_str),
        correlation_id: properties.correlation_id().map(String::as_str),
        headers: properties::headers(properties),
        endpoint: &plan.name,
        handles: &plan.handles,
        base,
    }
}
