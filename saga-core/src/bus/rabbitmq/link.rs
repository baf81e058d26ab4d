//! Where one connection lives, and who watches it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A small runtime for one connection and whoever owns it.
///
/// What amqprs began can not be cancelled: its tasks outlive a dropped future, and a write into a socket that nobody reads
/// never ends. Dropping the link ends every one of them and closes the socket, whatever they wait for.
pub(super) struct Link(Option<Runtime>);

impl Link {
    pub(super) fn new(name: &'static str) -> io::Result<Self> {
        Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build().map(|it| Self(Some(it)))
    }

    /// Spawns what owns the connection.
    pub(super) fn spawn<F>(&self, future: F) -> Option<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.as_ref().map(|runtime| runtime.spawn(future))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The calls of one link that wait for the broker, watched from outside because no timeout may cancel them.
#[derive(Default)]
pub(super) struct Watch(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    last: u64,
    running: HashMap<u64, (String, Instant)>,
}

impl Watch {
    /// Runs a call; when it takes longer than `limit`, the link is [overdue](Self::overdue).
    pub(super) async fn call<T>(&self, what: impl Into<String>, limit: Duration, call: impl Future<Output = T>) -> T {
        let _running = self.begin(what.into(), Instant::now() + limit);
        call.await
    }

    /// A call that takes too long, if any does.
    pub(super) fn overdue(&self, now: Instant) -> Option<String> {
        let calls = self.calls();
        calls.running.values().find(|(_, until)| *until < now).map(|(what, _)| what.clone())
    }

    fn begin(&self, what: String, until: Instant) -> Running<'_> {
        let mut calls = self.calls();
        calls.last += 1;
        let key = calls.last;
        calls.running.insert(key, (what, until));
        Running(self, key)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Strikes the call off the list, also when whoever made it is dropped.
struct Running<'a>(&'a Watch, u64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls().running.remove(&self.1);
    }
}
