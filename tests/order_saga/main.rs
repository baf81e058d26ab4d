//! Tests of order-saga: a module for each source file that it tests.

mod activities;
mod expiry;
mod fixture;
mod gateway;
mod messages;
mod notifier;
mod order;
mod process;
mod store;
mod submission;
