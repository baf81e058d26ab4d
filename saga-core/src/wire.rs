//! MassTransit's wire format: what is read from a broker, what is written to it, and what things are called there.
//!
//! Pure: no broker, no clock, no environment. A bus adapter gives the bytes and properties of a delivery to [`read`] and
//! publishes what [`write()`] makes of an envelope.

mod address;
mod destination;
mod headers;
mod host;
mod lenient;
mod members;
mod name;
mod read;
mod tidy;
mod trace;
mod undecodable;
mod write;

pub use address::{Address, BusAddress};
pub use destination::Destination;
pub(crate) use destination::{address_of, destination_of};
pub use host::HostInfo;
pub(crate) use lenient::read_leniently;
pub use name::entity_name;
pub use read::{Incoming, Read, read};
pub use undecodable::{Raw, UNDECODABLE};
pub use write::{Outgoing, skipped_headers, write};

/// The content type of MassTransit's envelope.
pub const ENVELOPE: &str = "application/vnd.masstransit+json";
/// The content type of a body without an envelope.
pub const RAW_JSON: &str = "application/json";

/// No larger body is read or written: RabbitMQ 4 refuses more than this, and closes the channel over it.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// No name of an exchange, a queue or a header is longer, in bytes: AMQP writes its length in one byte.
pub const MAX_NAME: usize = 255;
/// Nothing is read that is nested deeper: serde_json reads 128 levels, and a message travels inside a fault, inside an
/// envelope, inside what a store or an operator's page puts around it. .NET reads 64.
pub const MAX_DEPTH: usize = 96;

/// Why something can not be put on the wire. It never will be: set the message aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The name can not be an exchange's or a queue's.
    #[error("`{name}` can not be the name of an exchange or a queue: {why}")]
    Name {
        /// The name, cut if it is long.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The address names no exchange and no queue of a RabbitMQ broker.
    #[error("`{address}` is no address that a message can be sent to: {why}")]
    Address {
        /// The address, cut if it is long.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The message is larger than [`MAX_BODY`].
    #[error(
        "the message is {0} bytes long on the wire, and no more than {MAX_BODY} can be sent: send less, or a reference"
    )]
    TooLarge(usize),
    /// The headers are too many or too long for a frame of AMQP.
    #[error("the headers of the message are {0} bytes long, too long for a frame of AMQP: send them in the message")]
    Headers(usize),
}
