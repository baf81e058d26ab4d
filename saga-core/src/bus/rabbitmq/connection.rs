//! One connection, and its channels, each with the reason for which it ends.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use amqprs::channel::Channel;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::error::Error;
use amqprs::tls::TlsAdaptor;
use tokio::sync::mpsc;

use super::builder::Settings;
use super::events::{ChannelEvent, ChannelEvents, Closed, ConnectionEvents};
use super::link::Watch;

/// How long opening a connection may take: a refused password takes three seconds by itself.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long the broker may take to answer a call. Declaring a quorum queue on a busy cluster takes seconds.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(20);
/// How many channels of one connection the broker may close before the connection is replaced: amqprs leaks the number of
/// each, and there are 2,047.
pub(super) const CHANNEL_ERRORS: usize = 500;
/// AMQP's number for what is not there.
pub(super) const NOT_FOUND: u16 = 404;
/// The broker closes so when it stops, or when an operator tells it to: it says nothing of what we did.
const CONNECTION_FORCED: u16 = 320;

/// Why a connection, a channel or a try to have one has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) cause: Cause,
    pub(super) why: String,
    /// AMQP's number of it, when the broker said one.
    pub(super) code: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// What is declared is not what is there, and waiting does not mend it.
    Topology,
    /// The broker has closed it over something that it was sent.
    Refused,
    /// It broke without a word: the network, the broker's end, or a message that amqprs can not read.
    Broke,
    /// The broker is away, is stopping, or does not answer.
    Away,
    /// It was asked to end.
    Stopped,
}

impl Loss {
    pub(super) fn new(cause: Cause, why: impl Into<String>) -> Self {
        Self { cause, why: why.into(), code: None }
    }

    pub(super) fn stopped() -> Self {
        Self::new(Cause::Stopped, "the bus is closed")
    }

    fn closed(what: &str, Closed { code, text }: &Closed) -> Self {
        let cause = if *code == CONNECTION_FORCED { Cause::Away } else { Cause::Refused };
        // The text of an error of AMQP begins with its name; the number is for those who search for it.
        Self { cause, why: format!("the broker closed the {what}: {text} ({code})"), code: Some(*code) }
    }
}

/// A connection, owned by one task.
pub(super) struct Connected {
    connection: Connection,
    closed: Arc<OnceLock<Closed>>,
    gone: mpsc::Receiver<()>,
    watch: Arc<Watch>,
    /// How many of its channels the broker has closed.
    pub(super) channel_errors: usize,
}

/// A channel, owned by one task.
pub(super) struct Opened {
    pub(super) channel: Channel,
    pub(super) events: mpsc::UnboundedReceiver<ChannelEvent>,
    connection_closed: Arc<OnceLock<Closed>>,
    pub(super) watch: Arc<Watch>,
}

impl Connected {
    /// Connects; `purpose` tells the broker's operator what this connection is for.
    pub(super) async fn open(settings: &Settings, purpose: &str, watch: Arc<Watch>) -> Result<Self, Loss> {
        let server = &settings.server;
        let mut arguments = OpenConnectionArguments::new(&server.host, server.port, &server.user, &server.password.0);
        arguments
            .virtual_host(&server.virtual_host)
            .connection_name(&format!("{} ({purpose})", settings.name))
            .heartbeat(settings.heartbeat);
        if let Some(tls) = &settings.tls {
            arguments.tls_adaptor(TlsAdaptor::new(tls.clone(), server.certificate_name().to_owned()));
        }
        let what = format!("connecting to {server}");
        let opening = async {
            let connection = Connection::open(&arguments).await?;
            let (closed, (gone_sender, gone)) = (Arc::default(), mpsc::channel(1));
            connection.register_callback(ConnectionEvents { closed: Arc::clone(&closed), _gone: gone_sender }).await?;
            Ok((connection, closed, gone))
        };
        let opened: Result<_, Error> = watch.call(&what, CONNECT_LIMIT, opening).await;
        let (connection, closed, gone) = opened.map_err(|error| Loss::new(Cause::Away, explain(&what, &error)))?;
        Ok(Self { connection, closed, gone, watch, channel_errors: 0 })
    }

    /// Opens a channel, with its callbacks in place.
    pub(super) async fn channel(&self) -> Result<Opened, Loss> {
        let (callbacks, events) = ChannelEvents::new();
        let opening = async {
            let channel = self.connection.open_channel(None).await?;
            channel.register_callback(callbacks).await?;
            Ok(channel)
        };
        let opened: Result<_, Error> = self.watch.call("opening a channel", CALL_LIMIT, opening).await;
        let channel = opened.map_err(|error| self.loss_or(&error))?;
        Ok(Opened { channel, events, connection_closed: self.closed.clone(), watch: self.watch.clone() })
    }

    /// Whether it was open a moment ago.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// Counts a channel that the broker has closed.
    ///
    /// # Errors
    /// When they are too many for this connection.
    pub(super) fn count_error(&mut self, error: &Loss) -> Result<(), Loss> {
        self.channel_errors += 1;
        if self.channel_errors < CHANNEL_ERRORS {
            return Ok(());
        }
        let why = format!("{CHANNEL_ERRORS} channels were closed, the last because {}: connecting anew", error.why);
        Err(Loss::new(Cause::Away, why))
    }

    /// Waits until the connection is no more.
    pub(super) async fn gone(&mut self) -> Loss {
        while self.gone.recv().await.is_some() {}
        lost(&self.closed)
    }

    /// Ends the connection in good order.
    pub(super) async fn close(self) {
        // It ends either way; the broker just learns of it later.
        let _ = self.watch.call("closing a connection", CALL_LIMIT, self.connection.close()).await;
    }

    fn loss_or(&self, error: &Error) -> Loss {
        match self.closed.get() {
            Some(closed) => Loss::closed("connection", closed),
            None => Loss::new(Cause::Broke, error.to_string()),
        }
    }
}

impl Opened {
    /// Why a call has failed. Not for a channel that publishes: what else the broker said meanwhile is passed over.
    pub(super) fn loss(&mut self, what: &str, error: &Error) -> Loss {
        while let Ok(event) = self.events.try_recv() {
            if let ChannelEvent::Closed(closed) = event {
                return Loss::closed("channel", &closed);
            }
        }
        match self.connection_closed.get() {
            Some(closed) => Loss::closed("connection", closed),
            None => Loss::new(Cause::Broke, format!("{what} failed: {error}")),
        }
    }

    /// Why the channel has ended, when an event says that it has.
    pub(super) fn ended(&self, event: &ChannelEvent) -> Option<Loss> {
        match event {
            ChannelEvent::Closed(closed) => Some(Loss::closed("channel", closed)),
            ChannelEvent::Gone => Some(lost(&self.connection_closed)),
            ChannelEvent::Confirmed(_) | ChannelEvent::Returned(_) | ChannelEvent::Cancelled => None,
        }
    }

    /// Ends the channel in good order: what was written to it before has reached the broker.
    pub(super) async fn close(self) {
        let _ = self.watch.call("closing a channel", CALL_LIMIT, self.channel.close()).await;
    }
}

fn lost(closed: &OnceLock<Closed>) -> Loss {
    match closed.get() {
        Some(closed) => Loss::closed("connection", closed),
        None => Loss::new(Cause::Broke, "the connection was lost"),
    }
}

/// What amqprs says of a connection that could not be opened, and what that may mean.
fn explain(what: &str, error: &Error) -> String {
    let hint = match error {
        Error::NetworkError(text) if text.contains("refused") => "",
        Error::NetworkError(text) if text.contains("peer shutdown") || text.contains("reset") => {
            "; a broker that does not accept the user, the password or TLS says no more than that"
        }
        _ => "",
    };
    format!("{what} failed: {error}{hint}")
}
