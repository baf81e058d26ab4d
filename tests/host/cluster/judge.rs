//! Says whether a cluster that came to rest is sound, from what it has stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use order_saga::Order;
use saga_core::{Machine, PostgresStore, Saga, Store};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

/// The pause between two looks at the database.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Judge {
    store: PostgresStore,
    pool: PgPool,
}

impl Judge {
    pub(crate) async fn of(url: &str) -> Self {
        let store = PostgresStore::builder(url).open().await.unwrap();
        Self { pool: store.reader(), store }
    }

    /// Returns when nothing is left to do.
    pub(crate) async fn until_at_rest(&self, limit: Duration) {
        let mut looks = tokio::time::interval(LOOK);
        let left = "(SELECT count(*) FROM saga_outbox) + (SELECT count(*) FROM saga_timers)
                  + (SELECT count(*) FROM orders WHERE status IN ('pending', 'processing'))";
        let at_rest = async {
            loop {
                looks.tick().await;
                if self.sum(left).await == 0 {
                    return;
                }
            }
        };
        if tokio::time::timeout(limit, at_rest).await.is_err() {
            for (what, table) in [("outbox", "saga_outbox"), ("timers", "saga_timers"), ("dead", "saga_dead_letters")] {
                println!("{what}: {}", self.sum(&format!("(SELECT count(*) FROM {table})")).await);
            }
            panic!("it does not come to rest within {limit:?}");
        }
    }

    /// Every accepted order is final and was told so once; its history is one legal path; nothing else exists.
    pub(crate) async fn assert_sound(&self, accepted: &BTreeMap<u64, String>) {
        let stored: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM orders").fetch_all(&self.pool).await.unwrap();
        let expected: BTreeSet<Uuid> = accepted.values().map(|id| id.parse().unwrap()).collect();
        assert_eq!(expected.len(), accepted.len(), "two keys have one order");
        assert_eq!(
            stored.iter().copied().collect::<BTreeSet<_>>(),
            expected,
            "the orders are those that were accepted"
        );
        let completed = self.sum("(SELECT count(*) FROM orders WHERE status = 'completed')").await;
        println!("{} orders: {completed} completed, the others expired", stored.len());
        assert!(completed > 0 && completed < stored.len() as i64, "both ends are met");
        for (what, from) in UNSOUND {
            assert_eq!(self.sum(&format!("(SELECT count(*) FROM {from})")).await, 0, "{what}");
        }
        let (machine, mut steps) = (Machine::<Order>::new(), 0);
        for id in stored {
            let instance = self.store.instance(Order::NAME, id).await.unwrap();
            let journal = self.store.journal(Order::NAME, id).await.unwrap();
            steps += journal.iter().filter(|row| row.version.is_some()).count();
            let wrong = machine.check(instance.as_ref(), &journal);
            assert!(wrong.is_empty(), "order {id}: {wrong:?}");
        }
        println!("{steps} steps, each once and legal");
    }

    async fn sum(&self, sum: &str) -> i64 {
        // The texts stand in this file.
        let sql = AssertSqlSafe(format!("{HISTORY} SELECT {sum}"));
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

/// What each order's saga has handled, and what its steps have caused.
const HISTORY: &str = "WITH
    handled (id, type, endpoint, message_id) AS
        (SELECT instance_id, message_type, endpoint, message_id FROM saga_journal WHERE outcome IN ('moved', 'ignored')),
    caused (id, type) AS
        (SELECT instance_id, effect ->> 'name' FROM saga_journal, json_array_elements(effects::json) AS effect)";

/// What must not be there when everything has come to its end.
#[rustfmt::skip] // SQL reads best in lines of its own.
const UNSOUND: [(&str, &str); 9] = [
    ("orders that are not final", "orders WHERE status NOT IN ('completed', 'expired')"),
    ("orders that their saga does not agree with",
     "orders LEFT JOIN saga_instances USING (id) WHERE lower(coalesce(state, '')) <> status"),
    ("orders without the notification of their kind",
     "orders WHERE NOT EXISTS (SELECT 1 FROM notifications WHERE order_id = orders.id AND kind = orders.status)"),
    ("notifications too many", "notifications JOIN orders ON orders.id = order_id WHERE kind <> status"),
    ("orders that became final more or less than once",
     "orders LEFT JOIN (SELECT instance_id, count(*) AS ends FROM saga_journal
                        WHERE outcome = 'moved' AND from_state <> to_state AND to_state IN ('Completed', 'Expired')
                        GROUP BY instance_id) AS it ON it.instance_id = orders.id WHERE coalesce(ends, 0) <> 1"),
    ("orders whose creation was not heard once",
     "orders LEFT JOIN (SELECT id, count(*) AS heard FROM handled WHERE type = 'Orders:OrderCreated' GROUP BY id) AS it
      USING (id) WHERE coalesce(heard, 0) <> 1"),
    ("orders whose payment was asked for twice, or has no answer, or more than one",
     "orders
      LEFT JOIN (SELECT id, count(*) AS asked FROM caused WHERE type = 'Orders:ProcessPayment' GROUP BY id) AS a USING (id)
      LEFT JOIN (SELECT id, count(*) AS answered FROM handled
                 WHERE type IN ('Orders:PaymentApproved', 'Orders:PaymentDeclined') GROUP BY id) AS b USING (id)
      WHERE coalesce(asked, 0) <> coalesce(answered, 0) OR asked > 1"),
    ("orders whose refund was asked for twice, or has no answer, or more than one",
     "orders
      LEFT JOIN (SELECT id, count(*) AS asked FROM caused WHERE type = 'Orders:RefundPayment' GROUP BY id) AS a USING (id)
      LEFT JOIN (SELECT id, count(*) AS answered FROM handled WHERE type = 'Orders:PaymentRefunded' GROUP BY id) AS b
      USING (id) WHERE coalesce(asked, 0) <> coalesce(answered, 0) OR asked > 1"),
    ("dead letters", "saga_dead_letters"),
];
