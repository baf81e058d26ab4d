//! The connections of the flow.
//!
//! sqlx's pool asks the server each time a connection is taken and each time it is given back, which are two of the few
//! ways to the server that a small batch has; and it takes a connection back whose `begin` was cancelled, so that what is
//! written on it next is acknowledged and lost. Here a connection comes back only when its work has ended and left it
//! sound, and is otherwise closed, whoever was cancelled.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::mutation::{Mutation, is_out};
use crate::store::StoreError;

/// How long anybody waits for a connection, and for the server to take a new one: within a request's patience.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that has rested so long may have been cut off meanwhile by something on the way, and is asked first.
const REST: Duration = Duration::from_secs(30);
/// How long it may take to answer then.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections that are there, and how many there may be.
pub(super) struct Connections {
    most: u32,
    permits: Semaphore,
    /// Who was used last is taken first: it is warm, and the others may rest.
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

impl Connections {
    pub(super) fn new(most: u32) -> Self {
        Self { most, permits: Semaphore::new(most as usize), idle: Mutex::default() }
    }

    /// Takes a connection, or makes one with `connect`; waits for a limited time.
    pub(super) async fn take(
        &self,
        what: &str,
        connect: impl Future<Output = Result<PgConnection, StoreError>>,
    ) -> Result<Lent<'_>, StoreError> {
        let permit = match tokio::time::timeout(ACQUIRE_TIMEOUT, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(super::closed()),
            Err(_) => return Err(StoreError::Unavailable(format!("{what}: all {} connections are busy", self.most))),
        };
        while let Some((mut connection, since)) = self.pop() {
            if since.elapsed() < REST || is_awake(&mut connection).await {
                return Ok(Lent { connection, from: self, _permit: permit });
            }
        }
        Ok(Lent { connection: connect.await?, from: self, _permit: permit })
    }

    /// Waits until nobody has one, and closes them.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(self.most).await;
        while let Some((connection, _)) = self.pop() {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "a connection was not closed properly; the server ends it");
            }
        }
        drop(all);
        self.permits.close();
    }

    fn pop(&self) -> Option<(PgConnection, Instant)> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that somebody has. It is closed with this, unless it is given back.
pub(super) struct Lent<'a> {
    pub(super) connection: PgConnection,
    from: &'a Connections,
    _permit: SemaphorePermit<'a>,
}

impl Lent<'_> {
    /// Gives the connection back, if its work has left it sound. Otherwise it is closed, and with it those that rest: what
    /// has ended one has most often ended all, and nobody is to find that out one after another.
    pub(super) fn give_back(self, is_sound: bool) {
        let mut idle = self.from.idle();
        if is_sound || is_out(Mutation::SoundConnections) {
            idle.push((self.connection, Instant::now()));
        } else {
            idle.clear();
        }
    }
}

async fn is_awake(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(REST_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}
