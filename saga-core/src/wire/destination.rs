//! How an outbox row names where it goes.

use super::name::check;
use super::{Address, WireError};
use crate::commit::Name;

/// Where a message is sent, as the [`destination`](crate::OutboxRow::destination) of an outbox row names it: a plain name
/// is an endpoint, `exchange:NAME` an exchange. In this form nothing is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// An endpoint: a queue, reached through the exchange of its name.
    Queue(&'a str),
    /// An exchange.
    Exchange(&'a str),
}

const QUEUE: &str = "queue:";
const EXCHANGE: &str = "exchange:";

impl<'a> Destination<'a> {
    /// What `name` says. A queue whose own name begins like one of the prefixes is written `queue:NAME`.
    pub fn of(name: &'a str) -> Self {
        match (name.strip_prefix(EXCHANGE), name.strip_prefix(QUEUE)) {
            (Some(exchange), _) => Self::Exchange(exchange),
            (None, Some(queue)) => Self::Queue(queue),
            (None, None) => Self::Queue(name),
        }
    }

    /// The exchange to publish to, with an empty routing key.
    ///
    /// # Errors
    /// [`WireError::Name`] when no exchange can have that name.
    pub fn exchange(&self) -> Result<String, WireError> {
        let (Self::Queue(name) | Self::Exchange(name)) = self;
        check((*name).to_owned())
    }
}

/// An address as an outbox row names it. One that nothing can be sent to stays as it is: there is no such endpoint, so
/// the bus sets the row aside, and it can be seen what was asked for.
pub(crate) fn destination_of(address: &str) -> Name {
    match address.parse() {
        Ok(Address::Queue(name)) if name.starts_with(QUEUE) || name.starts_with(EXCHANGE) => {
            Name::Owned(format!("{QUEUE}{name}"))
        }
        Ok(Address::Queue(name)) => Name::Owned(name),
        Ok(Address::Exchange(name)) => Name::Owned(format!("{EXCHANGE}{name}")),
        Err(_) => Name::Owned(address.to_owned()),
    }
}

/// The short address of what an outbox row names.
pub(crate) fn address_of(destination: &str) -> String {
    Address::from(&Destination::of(destination)).to_string()
}
