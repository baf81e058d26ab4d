//! Callers who stop waiting.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::try_join_all;
use saga_core::{OutboxId, Store};

use super::fixture::{Database, commit, eventually, id, inbox, is_handled, outbox};

#[tokio::test(flavor = "multi_thread")]
async fn given_callers_that_stop_waiting_at_any_moment_when_others_write_then_what_is_written_is_really_there() {
    const ROUNDS: u128 = 200;
    let database = Database::new();
    // Few connections, so that one that was spoiled is met again.
    let store = database.builder().connections(2).open().await.unwrap();
    store.migrate(&super::fixture::migrator()).await.unwrap();
    store.commit(commit(|it| it.inbox = vec![inbox(0)])).await.unwrap();
    let mut beside = database.connect().await;
    for n in 1..=ROUNDS {
        let moment = Duration::from_micros(20 + (n as u64 * 7) % 380);
        let dropped = store.commit(commit(|it| (it.inbox, it.outbox) = (vec![inbox(1_000 + n)], vec![outbox(n)])));
        let _ = tokio::time::timeout(moment, dropped).await;
        let _ = tokio::time::timeout(moment, is_handled(&store, n)).await;
        let _ = tokio::time::timeout(moment, sqlx::query("SELECT 1").execute(&store.reader())).await;
        let _ = tokio::time::timeout(moment, store.reader().begin()).await;

        store.commit(commit(|it| it.inbox = vec![inbox(n)])).await.unwrap();
        let count = sqlx::query_scalar("SELECT count(*) FROM saga_inbox WHERE message_id = $1");
        let count: i64 = count.bind(id(n)).fetch_one(&mut beside).await.unwrap();
        assert_eq!(count, 1, "round {n}: an acknowledged commit is not there");
        let read: i64 = sqlx::query_scalar("SELECT count(*) FROM saga_inbox WHERE message_id = $1")
            .bind(id(n))
            .fetch_one(&store.reader())
            .await
            .unwrap();
        assert_eq!(read, 1, "round {n}: a reader looks into an old transaction");
    }
    // A commit whose caller was gone before it ran never began; one that began has ended.
    for n in 1..=ROUNDS {
        let row: Option<OutboxId> = sqlx::query_scalar("SELECT id FROM saga_outbox WHERE message_id = $1")
            .bind(id(n))
            .fetch_optional(&mut beside)
            .await
            .unwrap();
        assert_eq!(is_handled(&store, 1_000 + n).await, row.is_some(), "round {n} was written by half");
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL
        AND pid <> pg_backend_pid()";
    eventually("transactions to end", async || {
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut beside).await.unwrap();
        (open == 0).then_some(())
    })
    .await;
}

/// Waits until the work has ended, or has been waited for so often.
async fn patient<T>(mut patience: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if patience == 0 => Poll::Ready(None),
        Poll::Pending => {
            patience -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn given_callers_that_give_up_a_transaction_when_its_connection_is_lent_again_then_it_is_in_none() {
    /// So many that such a moment is met on a busy machine too, where it is one in a hundred and more.
    const ROUNDS: u32 = 300;
    /// At some of these moments the server has been told to begin, and has not answered.
    const MOMENTS: u32 = 5;
    const READERS: usize = 5;
    let database = Database::new();
    let store = database.host().await;
    let reader = store.reader();
    let mut given_up = 0;
    for round in 1..=ROUNDS {
        for moment in 0..MOMENTS {
            given_up += u32::from(patient(moment, reader.begin()).await.is_none());
            // All there are, so that the one that was given back is among them.
            let mut lent = try_join_all((0..READERS).map(|_| reader.acquire())).await.unwrap();
            for connection in &mut lent {
                let cursor = sqlx::query("DECLARE rows CURSOR FOR SELECT 1").execute(&mut **connection).await;
                let error = cursor.expect_err(&format!("round {round}, moment {moment}: in a transaction"));
                assert!(error.to_string().contains("transaction blocks"), "{error}");
            }
        }
    }
    assert!(given_up >= ROUNDS, "all were quicker");
    store.close().await;
}
