//! The RabbitMQ bus against real brokers: the suite of every bus, and a test for each way in which a broker fails.

mod acknowledge;
mod broker;
mod build;
mod conformance;
mod connection;
mod foreign;
mod hosts;
mod house;
mod local;
mod poison;
mod publish;
mod shards;
mod topology;
mod upgrade;
