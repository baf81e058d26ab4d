//! The RabbitMQ bus against real brokers: the suite of every bus, and a test for each way in which a broker fails.

mod conformance;
