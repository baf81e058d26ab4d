//! Where orders and notifications are kept.

pub(crate) mod memory;
pub(crate) mod sqlite;
