//! How PostgreSQL finds orders among many: as its own log tells.

use order_saga::*;
use saga_core::PostgresStore;
use test_servers::{Postgres, PostgresOptions};

use crate::fixture::{at, id};

/// Many users with many orders each, nearly all of them decided long ago.
const MANY: &str = "INSERT INTO orders (id, user_id, status, total, submission_id, fingerprint, created_at, updated_at)
    SELECT gen_random_uuid(), 'user ' || n % 500, CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'completed' END, 1,
      gen_random_uuid(), '', now(), '2026-01-01 12:00:00Z'::timestamptz + n * interval '1 second'
    FROM generate_series(1, 50000) AS n";

#[tokio::test]
async fn given_many_orders_when_a_page_or_the_overdue_are_asked_for_then_an_index_leads_to_them() {
    let server = Postgres::start_with(PostgresOptions { durable: false });
    let url = server.database();
    let store = PostgresStore::builder(&url).open().await.unwrap();
    store.migrate(&sqlx::migrate!("migrations/postgres")).await.unwrap();
    server.query(&url, MANY);
    server.query(&url, "ANALYZE orders");
    for setting in ["session_preload_libraries = auto_explain", "auto_explain.log_min_duration = 0"] {
        let set = format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting}', current_database()); END $$");
        server.query(&url, &set);
    }
    let orders = PostgresOrders::new(store.reader());
    // The server plans anew for the first five times, and once for all after them.
    for n in 0..8 {
        let before = Some(uuid::Uuid::max());
        let page = OrderPage { user_id: "user 7", status: None, before, limit: 5 };
        assert_eq!(orders.page(&page).await.unwrap().len(), 5);
        let after = Overdue { order_id: id(0), since: at(n * 100) };
        assert_eq!(orders.overdue(at(40_000), Some(&after), 5).await.unwrap().len(), 5);
        assert_eq!(orders.order(id(1)).await.unwrap(), None);
        assert_eq!(orders.submitted(id(1)).await.unwrap(), None);
        assert_eq!(orders.notifications(id(1)).await.unwrap(), []);
    }
    store.close().await;
    let log = server.log();
    let scans: Vec<_> = log.lines().filter(|line| line.contains("Seq Scan on orders")).collect();
    assert!(scans.is_empty(), "{scans:?}");
    for index in ["orders_user", "orders_undecided", "orders_pkey", "orders_submission_id_key"] {
        assert!(log.contains(&format!("using {index} on orders")) || log.contains(&format!("on {index} ")), "{index}");
    }
    for sorted in ["Sort Key: id", "Sort Key: updated_at"] {
        assert!(!log.contains(sorted), "a page is read in the order of an index: {sorted}");
    }
}
