//! The order process, written with saga-core.

mod orders;

pub use orders::{
    Notification, NotificationKind, Order, OrderItem, OrderPage, OrderStatus, Orders, OrdersError, Overdue,
};
