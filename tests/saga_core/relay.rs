//! The relay under a clock that is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use saga_core::{Clock, Commit, Confirm, MemoryStore, Runtime, SendError, Store};

use crate::by_hand::{ByHand, until};
use crate::lamp::{LAMP, Lamp};
use crate::patience::pushed;

/// A clock that somebody sets back; it runs evenly all the same.
#[derive(Default)]
struct SetBack(AtomicI64);

#[async_trait]
impl Clock for SetBack {
    fn now(&self) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[tokio::test(start_paused = true)]
async fn given_a_clock_that_is_set_back_when_the_bus_took_nothing_then_it_is_sent_again_as_soon_as_ever() {
    let (clock, bus) = (Arc::new(SetBack::default()), Arc::new(ByHand::default()));
    let store = MemoryStore::builder().build();
    store.commit(Arc::new(Commit { outbox: vec![pushed(LAMP)], ..Commit::new(clock.now()) })).await.unwrap();
    let runtime = Runtime::builder(Arc::new(store), bus.clone()).clock(clock.clone()).saga::<Lamp>().build().unwrap();
    let running = tokio::spawn(runtime.run(std::future::pending()));
    until(|| !bus.sent.lock().unwrap().is_empty()).await;
    let id = bus.sent.lock().unwrap()[0];
    let begun = tokio::time::Instant::now();
    bus.confirm(Confirm { id, result: Err(SendError::Unavailable("not now".to_owned())) });
    tokio::task::yield_now().await;
    clock.0.store(-3_600, Ordering::SeqCst);
    while bus.sent.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "it waits for the clock");
    }
    running.abort();
}
