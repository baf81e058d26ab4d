//! Foreign services over a real broker: what they send is published by plain AMQP into a runtime, and what it sends is
//! taken out by plain AMQP again.

mod failures;
mod replay;
mod requests;
mod shop;
