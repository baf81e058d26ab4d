//! Orders and notifications in memory: for tests and examples.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use saga_core::MemoryWriter;
use uuid::Uuid;

use crate::orders::{
    Notification, NotificationKind, OrderPage, OrderRow, OrderStatus, Orders, OrdersError, Overdue, StoredOrder,
};

/// Keeps orders and notifications in memory. A clone is another handle on the same content: one clone each is given to
/// the memory store as the writer of [`OrderRow`] and of [`Notification`], another is read.
#[derive(Clone, Default)]
pub struct MemoryOrders(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    orders: BTreeMap<Uuid, StoredOrder>,
    submissions: HashMap<Uuid, Uuid>,
    notifications: BTreeMap<(Uuid, NotificationKind), Notification>,
}

impl MemoryOrders {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryWriter<OrderRow> for MemoryOrders {
    fn check(&self, rows: &[&OrderRow]) -> Result<(), String> {
        let tables = self.tables();
        let (mut orders, mut submissions) = (HashSet::new(), HashSet::new());
        for row in rows {
            match row {
                OrderRow::Submitted(order) => {
                    if tables.orders.contains_key(&order.id) || !orders.insert(order.id) {
                        return Err(format!("there is an order {} already", order.id));
                    }
                    let submission = order.submission_id;
                    if tables.submissions.contains_key(&submission) || !submissions.insert(submission) {
                        return Err(format!("there is an order of the submission {submission} already"));
                    }
                }
                OrderRow::Status { id, .. } => {
                    if !tables.orders.contains_key(id) && !orders.contains(id) {
                        return Err(format!("there is no order {id}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&self, rows: &[&OrderRow]) {
        let mut tables = self.tables();
        for row in rows {
            match row {
                OrderRow::Submitted(order) => {
                    tables.submissions.insert(order.submission_id, order.id);
                    tables.orders.insert(order.id, order.clone());
                }
                OrderRow::Status { id, status, at } => {
                    if let Some(order) = tables.orders.get_mut(id) {
                        (order.status, order.updated_at) = (*status, *at);
                    }
                }
            }
        }
    }
}

impl MemoryWriter<Notification> for MemoryOrders {
    fn check(&self, _: &[&Notification]) -> Result<(), String> {
        Ok(())
    }

    /// The first notification of a kind stays: a second one says nothing new.
    fn write(&self, rows: &[&Notification]) {
        let mut tables = self.tables();
        for row in rows {
            tables.notifications.entry((row.order_id, row.kind)).or_insert_with(|| (*row).clone());
        }
    }
}

#[async_trait]
impl Orders for MemoryOrders {
    async fn order(&self, id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        Ok(self.tables().orders.get(&id).cloned())
    }

    async fn submitted(&self, submission_id: Uuid) -> Result<Option<StoredOrder>, OrdersError> {
        let tables = self.tables();
        Ok(tables.submissions.get(&submission_id).and_then(|id| tables.orders.get(id)).cloned())
    }

    async fn page(&self, page: &OrderPage<'_>) -> Result<Vec<StoredOrder>, OrdersError> {
        let tables = self.tables();
        let wanted = |order: &&StoredOrder| {
            order.user_id == page.user_id
                && page.status.is_none_or(|status| order.status == status)
                && page.before.is_none_or(|before| order.id < before)
        };
        Ok(tables.orders.values().rev().filter(wanted).take(page.limit).cloned().collect())
    }

    async fn notifications(&self, order_id: Uuid) -> Result<Vec<Notification>, OrdersError> {
        let tables = self.tables();
        let of_order = tables.notifications.values().filter(|notification| notification.order_id == order_id);
        let mut found: Vec<_> = of_order.cloned().collect();
        found.sort_by_key(|notification| (notification.created_at, notification.id));
        Ok(found)
    }

    async fn overdue(
        &self,
        before: DateTime<Utc>,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, OrdersError> {
        let tables = self.tables();
        let after = after.map(|last| (last.since, last.order_id));
        let wanted = |order: &&StoredOrder| {
            matches!(order.status, OrderStatus::Pending | OrderStatus::Processing)
                && order.updated_at < before
                && after.is_none_or(|after| (order.updated_at, order.id) > after)
        };
        let found = tables.orders.values().filter(wanted);
        let mut found: Vec<_> = found.map(|order| Overdue { order_id: order.id, since: order.updated_at }).collect();
        found.sort_by_key(|overdue| (overdue.since, overdue.order_id));
        found.truncate(limit);
        Ok(found)
    }

    async fn count(&self) -> Result<Vec<(OrderStatus, u64)>, OrdersError> {
        let tables = self.tables();
        let of = |status| tables.orders.values().filter(|order| order.status == status).count() as u64;
        Ok(OrderStatus::ALL.map(|status| (status, of(status))).to_vec())
    }

    async fn count_notifications(&self) -> Result<Vec<(NotificationKind, u64)>, OrdersError> {
        let tables = self.tables();
        let of = |kind| tables.notifications.keys().filter(|(_, it)| *it == kind).count() as u64;
        Ok(NotificationKind::ALL.map(|kind| (kind, of(kind))).to_vec())
    }
}
