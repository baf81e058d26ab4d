//! What every [`Store`] must do. An adapter gives a [`StoreFactory`] to [`store_conformance!`](crate::store_conformance)
//! and gets a test for each property.

mod concurrency;
mod domain;
mod inbox;
mod instances;
mod journal;
mod outbox;
mod sample;
mod timers;
mod whole;

use std::sync::Arc;

use async_trait::async_trait;

use crate::store::Store;

pub use self::concurrency::{
    a_clash_leaves_the_neighbours_alone, a_commit_is_seen_when_it_returns, concurrent_commits_lose_nothing,
    only_one_creates_an_instance,
};
pub use self::domain::{
    a_refused_row_spoils_its_commit_alone, a_row_without_a_writer_is_rejected, rows_are_written_in_order,
};
pub use self::inbox::{
    a_dead_letter_is_redriven_once, dead_letters_are_paged_newest_first, each_endpoint_handles_once,
};
pub use self::instances::{a_step_needs_the_expected_version, marks_count_beside_the_steps};
pub use self::journal::{history_keeps_order_and_every_field, odd_texts_come_back_as_they_were};
pub use self::outbox::{each_commit_is_told_its_own_ids, ids_grow_and_pages_follow_them, settling_twice_is_no_mistake};
pub use self::timers::{a_timer_fires_once, the_earliest_due_timer_comes_first, timers_are_replaced_and_cancelled};
pub use self::whole::{
    a_conflict_writes_nothing, a_huge_commit_is_one_commit, a_reopened_store_knows_everything,
    backlog_counts_what_waits, old_rows_are_purged_in_bites, unknown_ids_are_no_mistake,
};

/// Makes the store under test.
///
/// Each property calls [`open`](Self::open) once. The writer of [`TestRow`] is registered; no other is.
#[async_trait]
pub trait StoreFactory: Send + Sync {
    /// An empty store, ready to be used.
    async fn open(&self) -> Arc<dyn Store>;

    /// Closes the store and opens it again; `None` where the adapter does not outlive its process.
    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>>;

    /// The domain rows that the writer has written, in the order in which it has written them.
    async fn rows(&self) -> Vec<TestRow>;
}

/// A domain row of the suite. Its writer must refuse one that is spoiled, as a database refuses a row that violates a
/// constraint of its table, and write all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRow {
    /// What is written.
    pub text: String,
    /// Whether the writer must refuse it.
    pub spoiled: bool,
}

/// Expands to one `#[tokio::test]` for each property that a store must have, named by the property. The argument is an
/// expression that makes a [`StoreFactory`](crate::testkit::conformance::store::StoreFactory); it is evaluated in each
/// test.
#[macro_export]
macro_rules! store_conformance {
    ($factory:expr) => {
        $crate::store_conformance! { $factory;
            a_clash_leaves_the_neighbours_alone
            a_commit_is_seen_when_it_returns
            a_conflict_writes_nothing
            a_dead_letter_is_redriven_once
            a_huge_commit_is_one_commit
            a_refused_row_spoils_its_commit_alone
            a_reopened_store_knows_everything
            a_row_without_a_writer_is_rejected
            a_step_needs_the_expected_version
            a_timer_fires_once
            backlog_counts_what_waits
            concurrent_commits_lose_nothing
            dead_letters_are_paged_newest_first
            each_commit_is_told_its_own_ids
            each_endpoint_handles_once
            history_keeps_order_and_every_field
            ids_grow_and_pages_follow_them
            marks_count_beside_the_steps
            odd_texts_come_back_as_they_were
            old_rows_are_purged_in_bites
            only_one_creates_an_instance
            rows_are_written_in_order
            settling_twice_is_no_mistake
            the_earliest_due_timer_comes_first
            timers_are_replaced_and_cancelled
            unknown_ids_are_no_mistake
        }
    };
    ($factory:expr; $($property:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() -> Result<(), $crate::StoreError> {
                $crate::testkit::conformance::store::$property(&$factory).await
            }
        )*
    };
}
