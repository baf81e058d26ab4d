//! Addresses: `queue:order-saga`, `exchange:Orders:OrderPaid`, `rabbitmq://host/vhost/order-saga`.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};
use std::str::FromStr;

use super::name::{check, shown};
use super::{Destination, WireError};

/// The queue of RabbitMQ's direct reply-to, which only the requester's own connection can be answered through.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// An exchange, or a queue with the exchange of its name, as messages name it.
///
/// Read from `queue:name`, `exchange:name`, and `rabbitmq`, `rabbitmqs`, `amqp` or `amqps://host[:port][/vhost]/name`,
/// each with options behind a `?` that are passed over; a name alone is a queue. Of a full address the name alone
/// counts: one broker is known here, and an address of another host or virtual host is taken for the same name at ours.
/// Written in the short form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A queue, reached through the exchange of its name.
    Queue(String),
    /// An exchange.
    Exchange(String),
}

impl FromStr for Address {
    type Err = WireError;

    fn from_str(address: &str) -> Result<Self, WireError> {
        let wrong = |why| WireError::Address { address: shown(address), why };
        let (scheme, rest) = address.split_once(':').unwrap_or(("queue", address));
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let is = |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(scheme));
        let name = if is(&["queue", "exchange"]) {
            if rest.contains('/') {
                return Err(wrong("it is written `queue:name` or `exchange:name`, without a host"));
            }
            rest
        } else if is(&["rabbitmq", "rabbitmqs", "amqp", "amqps"]) {
            let path = rest.strip_prefix("//").and_then(|rest| rest.split_once('/'));
            path.map(|(_, path)| path.rsplit_once('/').map_or(path, |(_, name)| name)).unwrap_or_default()
        } else if is(&["topic"]) {
            return Err(wrong("RabbitMQ has no topics of that kind; send to `exchange:NAME`"));
        } else {
            return Err(wrong("it begins with none of `queue:`, `exchange:`, `rabbitmq://` and `amqp://`"));
        };
        let name = unescape(name).ok_or_else(|| wrong("its escapes are no UTF-8"))?;
        if name.is_empty() || name == "*" {
            return Err(wrong("it names nothing"));
        }
        if name == REPLY_TO {
            return Err(wrong("direct reply-to is not spoken here; let the requester answer at a queue of its own"));
        }
        let name = check(name)?;
        Ok(if is(&["exchange"]) { Self::Exchange(name) } else { Self::Queue(name) })
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue:{}", escape(name, is_plain_in_name)),
            Self::Exchange(name) => write!(f, "exchange:{}", escape(name, is_plain_in_name)),
        }
    }
}

/// The broker, as full addresses name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusAddress {
    /// `rabbitmq://host[:port][/vhost]/`
    prefix: String,
}

/// The ports that full addresses leave out.
const PORT: u16 = 5_672;
const TLS_PORT: u16 = 5_671;

impl BusAddress {
    /// The broker at `host` and `port` (5672 if not said), and a virtual host of it: `/` is the default one.
    pub fn new(host: &str, port: Option<u16>, virtual_host: &str) -> Self {
        let port = port.unwrap_or(PORT);
        let scheme = if port == TLS_PORT { "rabbitmqs" } else { "rabbitmq" };
        // An IPv6 address stands in brackets.
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let port = if matches!(port, PORT | TLS_PORT) { String::new() } else { format!(":{port}") };
        let virtual_host = match virtual_host {
            "" | "/" => String::new(),
            other => format!("/{}", escape(other, is_unreserved)),
        };
        Self { prefix: format!("{scheme}://{host}{port}{virtual_host}/") }
    }

    /// The full form of a short address: `rabbitmq://host[:port][/vhost]/name`. Any other stays as it is.
    pub fn absolute<'a>(&self, address: &'a str) -> Cow<'a, str> {
        let short = ["queue:", "exchange:"].iter().find_map(|scheme| address.strip_prefix(scheme));
        short.map_or(Cow::Borrowed(address), |name| Cow::Owned([&self.prefix, name].concat()))
    }

    /// The short form of a full address at this broker, as a queue's: what was an exchange's address is not told from
    /// it, and need not be, because both are sent to the exchange of that name. `None`: it is another broker's, or it has
    /// options.
    pub(super) fn short(&self, address: &str) -> Option<String> {
        let name =
            address.strip_prefix(&self.prefix).filter(|name| !name.is_empty() && !name.contains(['/', '?', '#']));
        name.map(|name| ["queue:", name].concat())
    }
}

impl Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix)
    }
}

impl From<&Destination<'_>> for Address {
    fn from(destination: &Destination<'_>) -> Self {
        match destination {
            Destination::Queue(name) => Self::Queue((*name).to_owned()),
            Destination::Exchange(name) => Self::Exchange((*name).to_owned()),
        }
    }
}

/// What RFC 3986 lets stand anywhere.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

/// What may stand in the last part of a path.
fn is_plain_in_name(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

fn escape(text: &str, is_plain: fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String never fails.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Resolves `%41`; a `%` without two digits behind it stands for itself. `None`: the bytes are no UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
