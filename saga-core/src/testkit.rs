//! For tests: what every adapter must do.

pub mod conformance;
