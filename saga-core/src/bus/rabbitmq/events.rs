//! What the broker says unasked, passed on. amqprs calls back inside its own reader, so nothing here may wait.

use std::sync::{Arc, OnceLock};

use amqprs::callbacks::{ChannelCallback, ConnectionCallback};
use amqprs::channel::Channel;
use amqprs::connection::Connection;
use amqprs::{Ack, BasicProperties, Cancel, Close, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::mpsc;

type Outcome<T> = Result<T, amqprs::error::Error>;

/// What happened on a channel.
#[derive(Debug)]
pub(super) enum ChannelEvent {
    /// The broker has taken a message, and all before it if `multiple`; or it has refused them.
    Confirmed { tag: u64, multiple: bool, taken: bool },
    /// No queue has taken the message, which is confirmed next.
    Returned(Returned),
    /// The broker has ended the consumer, usually because its queue is gone.
    Cancelled,
    /// The broker has closed the channel.
    Closed(Closed),
    /// The channel is no more; nothing follows.
    Gone,
}

/// A message that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Returned {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) message_id: Option<String>,
    /// Why, as the broker says it.
    pub(super) why: String,
}

/// Why the broker has closed a channel or a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) code: u16,
    pub(super) text: String,
}

/// Passes on what happens on a channel.
pub(super) struct ChannelEvents(mpsc::UnboundedSender<ChannelEvent>);

impl ChannelEvents {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<ChannelEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Nobody listens any more when the channel's owner has ended; then nobody needs to know.
    fn tell(&self, event: ChannelEvent) {
        let _ = self.0.send(event);
    }
}

/// amqprs drops its callbacks with the channel, whatever it ends by: the one signal that always comes.
impl Drop for ChannelEvents {
    fn drop(&mut self) {
        self.tell(ChannelEvent::Gone);
    }
}

#[async_trait]
impl ChannelCallback for ChannelEvents {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Outcome<()> {
        self.tell(ChannelEvent::Closed(Closed { code: close.reply_code(), text: close.reply_text().clone() }));
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Outcome<()> {
        self.tell(ChannelEvent::Cancelled);
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, _: bool) -> Outcome<bool> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.tell(ChannelEvent::Confirmed { tag: ack.delivery_tag(), multiple: ack.mutiple(), taken: true });
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.tell(ChannelEvent::Confirmed { tag: nack.delivery_tag(), multiple: nack.multiple(), taken: false });
    }

    async fn publish_return(&mut self, _: &Channel, returned: Return, properties: BasicProperties, _: Vec<u8>) {
        self.tell(ChannelEvent::Returned(Returned {
            exchange: returned.exchange().clone(),
            routing_key: returned.routing_key().clone(),
            message_id: properties.message_id().cloned(),
            why: format!("{} {}", returned.reply_code(), returned.reply_text()),
        }));
    }
}

/// Remembers why the broker has closed a connection, and tells when it is no more.
pub(super) struct ConnectionEvents {
    pub(super) closed: Arc<OnceLock<Closed>>,
    /// Dropped with the connection.
    pub(super) _gone: mpsc::Sender<()>,
}

#[async_trait]
impl ConnectionCallback for ConnectionEvents {
    async fn close(&mut self, _: &Connection, close: Close) -> Outcome<()> {
        let _ = self.closed.set(Closed { code: close.reply_code(), text: close.reply_text().clone() });
        Ok(())
    }

    // The broker says neither: amqprs does not tell it that we would listen.
    async fn blocked(&mut self, _: &Connection, _: String) {}
    async fn unblocked(&mut self, _: &Connection) {}
    async fn secret_updated(&mut self, _: &Connection) {}
}
