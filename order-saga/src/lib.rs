//! The order process, written with saga-core.

mod orders;

pub use orders::{
    Notification, NotificationKind, OrderItem, OrderPage, OrderStatus, Orders, OrdersError, Overdue, StoredOrder,
};
