//! Where orders and notifications are kept.

pub(crate) mod memory;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use crate::orders::OrdersError;

impl From<sqlx::Error> for OrdersError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}
