//! One suite for every adapter that keeps orders and notifications.

use std::sync::Arc;

use order_saga::*;
use saga_core::{Commit, MemoryStore, PostgresStore, Row, SqliteStore, Store, StoreError};
use test_servers::Postgres;

use crate::fixture::{at, id, stored};

/// A store with the adapter's writers, and the adapter's reader.
struct Kept {
    store: Arc<dyn Store>,
    orders: Arc<dyn Orders>,
    _folder: Option<tempfile::TempDir>,
}

impl Kept {
    async fn memory() -> Self {
        let orders = MemoryOrders::default();
        let store = MemoryStore::builder();
        let store = store.writer::<OrderRow, _>(orders.clone()).writer::<Notification, _>(orders.clone()).build();
        Self { store: Arc::new(store), orders: Arc::new(orders), _folder: None }
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::builder(&format!("sqlite://{}/orders.db", folder.path().display()));
        let store = store.writer::<OrderRow, _>(SqliteOrderRows).writer::<Notification, _>(SqliteOrderRows);
        let store = store.open().await.unwrap();
        store.migrate(&sqlx::migrate!("migrations/sqlite")).await.unwrap();
        let orders = SqliteOrders::new(store.reader());
        Self { store: Arc::new(store), orders: Arc::new(orders), _folder: Some(folder) }
    }

    async fn postgres() -> Self {
        let store = PostgresStore::builder(&Postgres::shared().database());
        let store = store.writer::<OrderRow, _>(PostgresOrderRows).writer::<Notification, _>(PostgresOrderRows);
        let store = store.open().await.unwrap();
        store.migrate(&sqlx::migrate!("migrations/postgres")).await.unwrap();
        let orders = PostgresOrders::new(store.reader());
        Self { store: Arc::new(store), orders: Arc::new(orders), _folder: None }
    }

    /// Writes rows in one commit, as a batch does.
    async fn write<R: Row + Clone>(&self, rows: &[R]) -> Result<(), StoreError> {
        let mut commit = Commit::new(at(0));
        for row in rows {
            commit.rows.push(Arc::new(row.clone()));
        }
        self.store.commit(Arc::new(commit)).await.map(drop)
    }
}

macro_rules! suite {
    ($($property:ident)+) => {
        mod memory {
            $(#[tokio::test]
            async fn $property() {
                super::$property(super::Kept::memory().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $property() {
                super::$property(super::Kept::postgres().await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $property() {
                super::$property(super::Kept::sqlite().await).await;
            })+
        }
    };
}
suite! {
    what_was_written_is_read_back
    a_status_moves_with_its_time_and_the_last_one_of_a_batch_holds
    what_does_not_fit_is_refused_and_nothing_is_written
    a_page_holds_one_user_s_orders_newest_first
    overdue_orders_come_page_by_page_oldest_first
    a_second_notification_of_a_kind_changes_nothing
    everything_is_counted_zeros_too
}

fn submitted(order: StoredOrder) -> OrderRow {
    OrderRow::Submitted(order)
}

fn status(n: u128, status: OrderStatus, seconds: i64) -> OrderRow {
    OrderRow::Status { id: id(n), status, at: at(seconds) }
}

fn notification(n: u128, order: u128, kind: NotificationKind, seconds: i64) -> Notification {
    Notification {
        id: id(n),
        order_id: id(order),
        user_id: "ann".to_owned(),
        kind,
        result: "paid 1.00; \"mail\" sent ✓".to_owned(),
        message_id: id(n + 100),
        conversation_id: id(n + 200),
        attempts: 2,
        created_at: at(seconds),
    }
}

fn ids(orders: &[StoredOrder]) -> Vec<u128> {
    orders.iter().map(|order| order.id.as_u128()).collect()
}

async fn what_was_written_is_read_back(kept: Kept) {
    let mut order = stored(1, "ann \"the\" 'first' ✓", 0);
    order.created_at += chrono::Duration::microseconds(123_456);
    order.updated_at += chrono::Duration::microseconds(1);
    let other = StoredOrder { items: Vec::new(), ..stored(2, "bob", 1) };
    kept.write(&[submitted(order.clone()), submitted(other.clone())]).await.unwrap();
    let orders = &kept.orders;
    assert_eq!(orders.order(id(1)).await.unwrap(), Some(order.clone()));
    let read = orders.submitted(order.submission_id).await.unwrap();
    assert_eq!(read.as_ref().map(|it| it.total.to_string()), Some(order.total.to_string()), "money keeps its digits");
    assert_eq!(read, Some(order.clone()));
    assert_eq!(orders.order(id(2)).await.unwrap(), Some(other), "an order's items are its own");
    assert_eq!(orders.order(order.submission_id).await.unwrap(), None);
    assert_eq!(orders.submitted(order.id).await.unwrap(), None);

    let note = notification(9, 1, NotificationKind::Completed, 5);
    kept.write(std::slice::from_ref(&note)).await.unwrap();
    assert_eq!(orders.notifications(id(1)).await.unwrap(), [note]);
    assert_eq!(orders.notifications(id(2)).await.unwrap(), []);
}

async fn a_status_moves_with_its_time_and_the_last_one_of_a_batch_holds(kept: Kept) {
    let rows = [
        submitted(stored(1, "ann", 0)),
        status(1, OrderStatus::Processing, 1),
        submitted(stored(2, "ann", 0)),
        status(1, OrderStatus::Completed, 2),
    ];
    kept.write(&rows).await.unwrap();
    let one = kept.orders.order(id(1)).await.unwrap().unwrap();
    assert_eq!((one.status, one.created_at, one.updated_at), (OrderStatus::Completed, at(0), at(2)));
    assert_eq!(kept.orders.order(id(2)).await.unwrap(), Some(stored(2, "ann", 0)));
    kept.write(&[status(2, OrderStatus::Expired, 3)]).await.unwrap();
    let two = kept.orders.order(id(2)).await.unwrap().unwrap();
    assert_eq!((two.status, two.updated_at), (OrderStatus::Expired, at(3)));
}

async fn what_does_not_fit_is_refused_and_nothing_is_written(kept: Kept) {
    kept.write(&[submitted(stored(1, "ann", 0))]).await.unwrap();
    let same_submission = StoredOrder { submission_id: stored(1, "ann", 0).submission_id, ..stored(3, "ann", 0) };
    for wrong in [
        submitted(StoredOrder { submission_id: id(77), ..stored(1, "ann", 0) }),
        submitted(same_submission),
        status(8, OrderStatus::Expired, 1),
    ] {
        let rows = [submitted(stored(2, "ann", 0)), status(1, OrderStatus::Processing, 1), wrong];
        let refused = kept.write(&rows).await;
        assert!(matches!(refused, Err(StoreError::Rejected(_))), "{refused:?} of {:?}", rows[2]);
        assert_eq!(kept.orders.order(id(1)).await.unwrap(), Some(stored(1, "ann", 0)));
        assert_eq!(kept.orders.order(id(2)).await.unwrap(), None);
    }
    let twice = [submitted(stored(4, "ann", 0)), submitted(stored(4, "ann", 0))];
    assert!(matches!(kept.write(&twice).await, Err(StoreError::Rejected(_))));
    assert_eq!(kept.orders.order(id(4)).await.unwrap(), None);
}

async fn a_page_holds_one_user_s_orders_newest_first(kept: Kept) {
    let mut rows: Vec<_> = (1..=5).map(|n| submitted(stored(n, "ann", 0))).collect();
    rows.push(submitted(stored(6, "bob", 0)));
    rows.push(status(3, OrderStatus::Completed, 1));
    rows.push(status(5, OrderStatus::Completed, 1));
    kept.write(&rows).await.unwrap();
    let page = async |status, before: Option<u128>, limit| {
        let page = OrderPage { user_id: "ann", status, before: before.map(id), limit };
        ids(&kept.orders.page(&page).await.unwrap())
    };
    assert_eq!(page(None, None, 10).await, [5, 4, 3, 2, 1]);
    assert_eq!(page(None, None, 2).await, [5, 4]);
    assert_eq!(page(None, Some(4), 2).await, [3, 2]);
    assert_eq!(page(None, Some(1), 2).await, [0_u128; 0]);
    assert_eq!(page(Some(OrderStatus::Completed), None, 10).await, [5, 3]);
    assert_eq!(page(Some(OrderStatus::Completed), Some(5), 10).await, [3]);
    assert_eq!(page(Some(OrderStatus::Expired), None, 10).await, [0_u128; 0]);
    let first = OrderPage { user_id: "ann", status: None, before: None, limit: 1 };
    assert_eq!(kept.orders.page(&first).await.unwrap()[0].items, stored(5, "ann", 0).items);
}

async fn overdue_orders_come_page_by_page_oldest_first(kept: Kept) {
    // 1 and 2 have not moved since second 10, 3 since 5; 4 is decided, 5 is gone, 6 is young.
    let rows = [
        submitted(stored(1, "ann", 10)),
        submitted(stored(2, "bob", 0)),
        status(2, OrderStatus::Processing, 10),
        submitted(stored(3, "ann", 5)),
        submitted(stored(4, "ann", 0)),
        status(4, OrderStatus::Completed, 1),
        submitted(stored(5, "ann", 0)),
        status(5, OrderStatus::Expired, 1),
        submitted(stored(6, "ann", 20)),
    ];
    kept.write(&rows).await.unwrap();
    let overdue = |n, seconds| Overdue { order_id: id(n), since: at(seconds) };
    let page = async |after: Option<Overdue>, limit| kept.orders.overdue(at(20), after.as_ref(), limit).await.unwrap();
    assert_eq!(page(None, 10).await, [overdue(3, 5), overdue(1, 10), overdue(2, 10)]);
    assert_eq!(page(None, 2).await, [overdue(3, 5), overdue(1, 10)]);
    assert_eq!(page(Some(overdue(1, 10)), 2).await, [overdue(2, 10)], "the cursor tells orders of one instant apart");
    assert_eq!(page(Some(overdue(2, 10)), 2).await, []);
}

async fn a_second_notification_of_a_kind_changes_nothing(kept: Kept) {
    let first = notification(1, 1, NotificationKind::Completed, 2);
    let second = notification(2, 1, NotificationKind::Completed, 3);
    let earlier = notification(3, 1, NotificationKind::Expired, 1);
    kept.write(&[first.clone(), second.clone()]).await.unwrap();
    kept.write(&[second, first.clone(), earlier.clone()]).await.unwrap();
    assert_eq!(kept.orders.notifications(id(1)).await.unwrap(), [earlier, first], "oldest first");
}

async fn everything_is_counted_zeros_too(kept: Kept) {
    use OrderStatus::{Completed, Expired, Pending, Processing};
    let rows = [submitted(stored(1, "ann", 0)), submitted(stored(2, "bob", 0)), status(2, Completed, 1)];
    kept.write(&rows).await.unwrap();
    kept.write(&[notification(1, 2, NotificationKind::Completed, 2)]).await.unwrap();
    let orders = &kept.orders;
    assert_eq!(orders.count().await.unwrap(), [(Pending, 1), (Processing, 0), (Completed, 1), (Expired, 0)]);
    let notifications = orders.count_notifications().await.unwrap();
    assert_eq!(notifications, [(NotificationKind::Completed, 1), (NotificationKind::Expired, 0)]);
}
