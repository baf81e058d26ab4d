//! The settler, and the rows that nobody told the relay of.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use saga_core::testkit::ManualClock;
use saga_core::{Commit, DeadLetterPage, Envelope, MemoryStore, OutboxRow, Saga, Store, StoreError};
use uuid::Uuid;

use crate::lamp::{Electrician, LAMP, Lamp, Pushed};
use crate::patience::{pushed, run};

/// Refuses the first commits of a kind, each with another of these errors.
fn first(
    of_kind: impl Fn(&Commit) -> bool + Send + 'static,
    errors: Vec<StoreError>,
) -> (Arc<AtomicUsize>, impl FnMut(&MemoryStore, &Commit) -> Option<StoreError> + Send + 'static) {
    let (refused, mut errors) = (Arc::new(AtomicUsize::new(0)), errors.into_iter());
    let counted = refused.clone();
    let refuse = move |_: &MemoryStore, commit: &Commit| {
        let error = of_kind(commit).then(|| errors.next()).flatten();
        counted.fetch_add(usize::from(error.is_some()), Ordering::SeqCst);
        error
    };
    (refused, refuse)
}

fn conflict() -> StoreError {
    StoreError::Conflict("could not serialize access".to_owned())
}

fn rejected() -> StoreError {
    StoreError::Rejected("the disk is pink".to_owned())
}

fn to_nowhere() -> OutboxRow {
    let envelope = Envelope::new(Uuid::from_u128(7), &Pushed::of(LAMP));
    OutboxRow { destination: Some("nowhere".into()), envelope: Arc::new(envelope) }
}

#[tokio::test]
async fn given_confirmed_rows_that_the_store_does_not_let_go_when_it_does_then_they_are_gone_without_a_new_start() {
    let clock = Arc::new(ManualClock::default());
    let errors = vec![conflict(), rejected(), conflict()];
    let (refused, refuse) = first(|commit| !commit.settled.is_empty() && commit.dead_letters.is_empty(), errors);
    let done = async |store: &MemoryStore| store.backlog().await.unwrap().outbox == 0;
    run(&Electrician::default(), vec![pushed(LAMP)], &clock, refuse, done).await;
    assert_eq!(refused.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn given_a_row_without_a_place_when_its_dead_letter_is_not_taken_at_once_then_it_is_later_and_not_forgotten() {
    for errors in [vec![conflict()], vec![rejected()], vec![conflict(), rejected(), conflict()]] {
        let clock = Arc::new(ManualClock::default());
        let expected = errors.len();
        let (refused, refuse) = first(|commit| !commit.dead_letters.is_empty(), errors);
        let done = async |store: &MemoryStore| store.backlog().await.unwrap().outbox == 0;
        let store = run(&Electrician::default(), vec![to_nowhere()], &clock, refuse, done).await;
        assert_eq!(refused.load(Ordering::SeqCst), expected);
        let letters = store.dead_letters(&DeadLetterPage { before: None, limit: 9 }).await.unwrap();
        let kept: Vec<_> = letters.iter().map(|letter| (&*letter.endpoint, &*letter.reason)).collect();
        assert_eq!(kept, [("nowhere", "unroutable")]);
    }
}

#[tokio::test]
async fn given_a_commit_without_an_answer_when_it_is_carried_out_later_then_its_rows_are_found() {
    let clock = Arc::new(ManualClock::default());
    let other = Uuid::from_u128(2);
    let silent = StoreError::Unavailable("the connection was lost".to_owned());
    let (refused, refuse) = first(|commit| !commit.settled.is_empty(), vec![silent, conflict()]);
    let late = Mutex::new(Some(OutboxRow { destination: Some(Lamp::ENDPOINT.into()), ..pushed(other) }));
    let done = async |store: &MemoryStore| {
        // What nobody waits for any more is carried out when the outbox has been swept for it, and found empty.
        let swept = refused.load(Ordering::SeqCst) == 2 && store.backlog().await.unwrap().outbox == 0;
        let row = if swept { late.lock().unwrap().take() } else { None };
        if let Some(row) = row {
            let commit = Commit { outbox: vec![row], ..Commit::new(clock_time()) };
            store.commit(Arc::new(commit)).await.unwrap();
        }
        store.instance(Lamp::NAME, other).await.unwrap().is_some()
    };
    run(&Electrician::default(), vec![pushed(LAMP)], &clock, refuse, done).await;
}

fn clock_time() -> chrono::DateTime<chrono::Utc> {
    saga_core::Clock::now(&ManualClock::default())
}
