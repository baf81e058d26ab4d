//! The next connection, when there is a place for it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The pause after a connection could not be taken: a process without free descriptors finds one within a second, and
/// ten attempts a second cost nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// Trouble is over when there was none for so long: connections that end set single descriptors free, one at a time.
const CALM: Duration = Duration::from_secs(1);

/// Takes connections, not more at the same time than there are places: further ones wait in the system's queue.
pub(super) struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    full: Arc<AtomicBool>,
    trouble: Option<Trouble>,
}

/// Connections can not be taken at the moment.
struct Trouble {
    since: Instant,
    last: Instant,
    attempts: u64,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener, connections: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections)), full: Arc::default(), trouble: None }
    }

    /// Tells whether every place is taken.
    pub(super) fn full(&self) -> Arc<AtomicBool> {
        self.full.clone()
    }

    /// The next connection, and its place. May be dropped at any time: no connection is lost with it.
    ///
    /// A failure is waited out, and told once: there is nothing else that can be done about it here.
    pub(super) async fn next(&mut self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let place = self.place().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    self.recovered();
                    return (stream, peer, place);
                }
                // The connection's own end: the next one has nothing to do with it.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    self.failed(&error);
                    drop(place);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return place;
        }
        self.full.store(true, Ordering::Relaxed);
        let Ok(place) = self.places.clone().acquire_owned().await else {
            // Nobody closes the semaphore.
            return std::future::pending().await;
        };
        self.full.store(false, Ordering::Relaxed);
        place
    }

    fn failed(&mut self, error: &io::Error) {
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert_with(|| {
            tracing::error!(%error, "connections can not be taken; those that come wait until they can");
            Trouble { since: now, last: now, attempts: 0 }
        });
        trouble.last = now;
        trouble.attempts += 1;
    }

    fn recovered(&mut self) {
        if let Some(Trouble { since, attempts, .. }) = self.trouble.take_if(|trouble| trouble.last.elapsed() >= CALM) {
            tracing::warn!(attempts, after = ?since.elapsed(), "connections are taken again");
        }
    }
}
