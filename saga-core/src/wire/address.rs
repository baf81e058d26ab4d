//! Addresses: `queue:order-saga`, `exchange:Orders:OrderPaid`, `rabbitmq://host/vhost/order-saga`.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::WireError;
use crate::commit::Name;

/// An exchange, or a queue with the exchange of its name, at the broker.
///
/// Read from `queue:name`, `exchange:name`, and `rabbitmq://`, `rabbitmqs://`, `amqp://`, `amqps://host[:port][/vhost]/name`,
/// each with options behind a `?` that are passed over. Of a full address the name alone counts: one broker is known
/// here, and an address of another host or virtual host is taken for the same name at ours. Written in the short form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A queue, reached through the exchange of its name.
    Queue(String),
    /// An exchange.
    Exchange(String),
}

impl Address {
    /// The exchange to publish to.
    pub fn exchange(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }

    /// How an outbox row names it.
    pub fn destination(&self) -> Name {
        unimplemented!()
    }
}

impl FromStr for Address {
    type Err = WireError;

    fn from_str(address: &str) -> Result<Self, WireError> {
        let _ = address;
        unimplemented!()
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue:{name}"),
            Self::Exchange(name) => write!(f, "exchange:{name}"),
        }
    }
}

/// Where an outbox row goes on RabbitMQ: what its [`destination`](crate::OutboxRow::destination) names.
///
/// A plain name is an endpoint: a queue and the exchange of its name. `exchange:NAME` is an exchange alone.
pub type Destination = Address;

/// The broker, as full addresses name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusAddress {
    host: String,
    port: Option<u16>,
    virtual_host: String,
}

impl BusAddress {
    /// The broker at `host` (and `port`, if it is not 5672), and a virtual host of it; `/` is the default one.
    pub fn new(host: impl Into<String>, port: Option<u16>, virtual_host: impl Into<String>) -> Self {
        Self { host: host.into(), port, virtual_host: virtual_host.into() }
    }

    /// The full form of an address: `rabbitmq://host[:port][/vhost]/name`. What is no short address stays as it is.
    pub fn absolute(&self, address: &str) -> String {
        let _ = (&self.host, self.port, &self.virtual_host);
        address.to_owned()
    }
}
