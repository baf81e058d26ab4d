//! A store that stands still: what can not be held is refused at once, and when it goes on, so does everything.

use std::sync::Arc;

use futures_util::future::join_all;
use host::serve::Parts;
use order_saga::ScriptedGateway;
use saga_core::testkit::ManualClock;

use crate::faulty::{Faulty, Mode, wound_on};
use crate::support::{Host, assert_problem, quick, small};

/// What the runtime keeps of submissions, and what it takes in hand at once: as documented.
const QUEUE: usize = 4_096;
const BATCH: usize = 512;
/// Batches of a saga that are under way at the same time.
const IN_FLIGHT: usize = 2;
/// Another batch waits for its turn.
const HELD: usize = QUEUE + (IN_FLIGHT + 1) * BATCH;

/// Requests at the same time.
const AT_ONCE: usize = 256;

#[tokio::test]
async fn given_a_store_that_stands_still_when_orders_keep_coming_then_they_are_refused_until_it_goes_on() {
    let clock = Arc::new(ManualClock::default());
    let (store, parts) = Faulty::parts();
    let parts = Parts { clock: Some(clock.clone()), ..parts };
    let host = Host::with(&quick(), ScriptedGateway::new([]), parts).await;
    store.turns(Mode::Waits);
    let body = small().to_string();
    let round = async || {
        let posts = join_all((0..AT_ONCE).map(|_| host.rest.post("/api/orders", &body, &[])));
        let answers: Vec<_> = wound_on(&clock, posts).await.into_iter().map(Result::unwrap).collect();
        let unavailable = |answer: &host::rest::Answer| answer.text().contains("urn:saga-host:problem:unavailable");
        let (refused, unknown): (Vec<_>, Vec<_>) = answers.into_iter().partition(unavailable);
        for answer in &refused {
            assert_problem(answer, 503, "unavailable");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        for answer in &unknown {
            assert_problem(answer, 503, "outcome-unknown");
        }
        (refused.len(), unknown.len())
    };
    // Batches are in hand before the clock goes on: whoever has gone before a batch begins is not held.
    let mut in_hand = Vec::new();
    for batches in 1..=IN_FLIGHT {
        let (rest, body) = (&host.rest, &body);
        let posts = (0..AT_ONCE).map(|_| {
            let (rest, body) = (rest.clone(), body.clone());
            tokio::spawn(async move { rest.post("/api/orders", &body, &[]).await })
        });
        in_hand.extend(posts);
        store.until_waiting(batches).await;
    }
    let mut held = in_hand.len();
    loop {
        let (refused, unknown) = round().await;
        held += unknown;
        assert!(held <= HELD, "{held} are held");
        if refused == AT_ONCE {
            break;
        }
    }
    assert!(held >= QUEUE, "nobody is refused while there is room: {held}");
    assert_eq!(host.rest.get("/health/live").await.unwrap().status, 200, "it answers all the same");
    for post in in_hand {
        assert_problem(&post.await.unwrap().unwrap(), 503, "outcome-unknown");
    }

    store.turns(Mode::Works);
    host.until(|| async {
        let answer = host.rest.post("/api/orders", &body, &[("Idempotency-Key", "after")]).await.unwrap();
        (answer.status == 201).then_some(())
    })
    .await;
    // Of those who were told that nobody knows, some were in hand, and are stored; who was in the queue had gone.
    let stored = host.service.orders.count().await.unwrap().iter().map(|(_, count)| *count).sum::<u64>();
    assert!((2..=(IN_FLIGHT * BATCH) as u64 + 1).contains(&stored), "{stored} are stored");
}
