//! What message types are called on RabbitMQ.

use super::WireError;

/// The name of the exchange of a message type: `MassTransit:Fault[[Shop:Paid]]` → `MassTransit:Fault--Shop:Paid--`.
///
/// # Errors
/// [`WireError::Name`] when AMQP can not hold it.
pub fn entity_name(type_name: &str) -> Result<String, WireError> {
    let _ = type_name;
    unimplemented!()
}
