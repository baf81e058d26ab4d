//! What can be said of a RabbitMQ bus.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use tokio_rustls::TlsConnector;

use super::address::Server;
use super::{RabbitMqBus, tls};
use crate::wire::{BusAddress, HostInfo};

/// How often a heartbeat is due, if nobody says: a dead connection is noticed within two of them.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// amqprs halves a heartbeat to send in time, in whole seconds: of one second nothing would be left, and it would send
/// without a pause.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(2);
/// The first pause between two tries to connect, if nobody says: a broken connection to a healthy broker is back at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest one, if nobody says: what waits for the broker waits for this, too.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which kind of queue an endpoint has. The broker does not turn one into the other: choose before the first start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueType {
    /// Replicated where the broker is a cluster, and counts how often it has delivered a message.
    #[default]
    Quorum,
    /// On one node. It says that a message was delivered before, not how often.
    Classic,
}

/// Why a bus can not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The URL is not `amqp[s]://user:password@host:port/vhost`.
    #[error("the URL of the broker is wrong: {0}")]
    Url(String),
    /// The file of the CA can not be used.
    #[error("the CA file {} can not be used: {why}", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An option is out of its bounds: says which, and what they are.
    #[error("{0}")]
    Option(String),
}

/// Collects what is to be said of a [`RabbitMqBus`]. It prints itself without the password.
#[derive(Clone)]
pub struct RabbitMqBusBuilder {
    server: Result<Server, BuildError>,
    queue_type: QueueType,
    heartbeat: Duration,
    ca_file: Option<PathBuf>,
    name: String,
    backoff: (Duration, Duration),
    prefetch: u16,
    local: bool,
    host: HostInfo,
    seed: Option<u64>,
}

/// What a bus is built of.
pub(super) struct Settings {
    pub(super) server: Server,
    pub(super) tls: Option<TlsConnector>,
    pub(super) queue_type: QueueType,
    /// In seconds.
    pub(super) heartbeat: u16,
    pub(super) name: String,
    pub(super) backoff: (Duration, Duration),
    pub(super) prefetch: u16,
    pub(super) local: bool,
    pub(super) host: HostInfo,
    pub(super) address: BusAddress,
    pub(super) seed: u64,
}

impl RabbitMqBusBuilder {
    pub(super) fn new(url: &str) -> Self {
        let host = HostInfo::of_this_process(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Self {
            server: Server::parse(url),
            queue_type: QueueType::default(),
            heartbeat: HEARTBEAT,
            ca_file: None,
            backoff: (FIRST_PAUSE, LONGEST_PAUSE),
            prefetch: u16::MAX,
            local: false,
            name: host.process_name.clone().unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned()),
            host,
            seed: None,
        }
    }

    /// Which kind of queue endpoints have; quorum if not said.
    #[must_use]
    pub fn queue_type(mut self, queue_type: QueueType) -> Self {
        self.queue_type = queue_type;
        self
    }

    /// How often each side tells the other that it is alive, in whole seconds; 10 if not said, 5 to 10 is usual, 2 is the
    /// least. A connection that died without a word is noticed within two of them.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// For `amqps://`: the certificates, PEM, of whoever vouches for the broker; the public CAs if not said.
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// What the broker's operator sees the two connections under; the program's name if not said.
    #[must_use]
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The first and the longest pause between two tries to connect; 100 ms and 5 s if not said. Each is shortened at random
    /// by up to a half.
    #[must_use]
    pub fn reconnect_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// The most unacknowledged messages that any endpoint takes, whatever it asks for.
    #[must_use]
    pub fn prefetch(mut self, most: u16) -> Self {
        self.prefetch = most;
        self
    }

    /// Whether a command that was committed just now goes straight to its endpoint where this process consumes that, and not
    /// over the broker; no if not said. It is as durable: its outbox row stands until the command is handled, and when this
    /// process dies, another one, or its next start, sends it over the broker. It is sooner there, and costs the broker
    /// nothing. The endpoint takes as many this way as its prefetch allows, besides those of the broker; further ones go to
    /// the broker, where other hosts find them, as do events and what belongs to a shard. What goes this way is not seen at
    /// the broker, and may overtake what waits there.
    #[must_use]
    pub fn local(mut self, local: bool) -> Self {
        self.local = local;
        self
    }

    /// How envelopes name this process; what the operating system says if not said.
    #[must_use]
    pub fn host(mut self, host: HostInfo) -> Self {
        self.host = host;
        self
    }

    /// Where the pauses take their randomness from; the operating system's if not said.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks what was said. Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL, the CA file or an option can not be used.
    pub fn build(self) -> Result<RabbitMqBus, BuildError> {
        let option = |why: String| Err(BuildError::Option(why));
        let server = self.server?;
        let heartbeat = match u16::try_from(self.heartbeat.as_secs()) {
            Ok(seconds) if self.heartbeat >= SHORTEST_HEARTBEAT && self.heartbeat.subsec_nanos() == 0 => seconds,
            _ => return option(format!("the heartbeat is {:?}: say whole seconds, 2 to 65535", self.heartbeat)),
        };
        if self.backoff.0.is_zero() || self.backoff.1 < self.backoff.0 {
            let (first, longest) = self.backoff;
            return option(format!(
                "the pauses between connecting are {first:?} to {longest:?}: say from short to long"
            ));
        }
        if self.prefetch == 0 {
            return option("the prefetch is 0, which AMQP takes for no limit: say 1 to 65535".to_owned());
        }
        if self.ca_file.is_some() && !server.tls {
            return option("a CA file is of use with amqps:// alone, and the URL says amqp://".to_owned());
        }
        let tls = server.tls.then(|| tls::connector(self.ca_file.as_deref())).transpose()?;
        let address = BusAddress::new(&server.host, Some(server.port), &server.virtual_host);
        Ok(RabbitMqBus::new(Settings {
            server,
            tls,
            queue_type: self.queue_type,
            heartbeat,
            name: self.name,
            backoff: self.backoff,
            prefetch: self.prefetch,
            local: self.local,
            host: self.host,
            address,
            seed: self.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id())),
        }))
    }
}

impl fmt::Debug for RabbitMqBusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("RabbitMqBusBuilder");
        match &self.server {
            Ok(server) => it.field("server", &format_args!("{server}")),
            Err(error) => it.field("server", error),
        };
        it.field("queue_type", &self.queue_type).field("name", &self.name).finish_non_exhaustive()
    }
}
