//! The HTTP server: a listener, a bounded number of connections, and deadlines on each.
//!
//! It speaks HTTP/1.1 and 1.0 and nothing else: without TLS, HTTP/2 is spoken by whoever knows beforehand only, and a proxy
//! in front speaks HTTP/1.1 to what stands behind it.
//!
//! Layout
//! - `limits`: how much, how many and how long
//! - `accept`: the next connection, when there is a place for it
//! - `connection`: requests and answers on one, its refusals, and its end
//! - `stream`: the socket below it, with a deadline for whatever is waited for
//! - `answer`: an answer's body, and which requests are in hand

mod accept;
mod answer;
mod connection;
mod limits;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use poem::{Endpoint, Response};
use saga_core::Clock;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use accept::Acceptor;
use connection::Shared;

use crate::config::HttpConfig;

pub use limits::HttpLimits;

/// Connections that the system keeps until they are taken; further ones are made to wait by the system.
const BACKLOG: u32 = 1024;

/// An address that is listened on; nobody is answered yet.
pub(crate) struct Bound {
    listener: TcpListener,
    connections: usize,
    limits: HttpLimits,
    /// The address, with the port that was given.
    pub(crate) address: SocketAddr,
}

/// Listens as the configuration says.
///
/// # Errors
/// When the address is taken, or not one of this machine.
pub(crate) fn bind(config: &HttpConfig, limits: HttpLimits) -> anyhow::Result<Bound> {
    let listen = config.listen;
    let open = || {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // An address whose last connections are not forgotten yet can be taken again.
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        socket.listen(BACKLOG)
    };
    let listener = open().with_context(|| format!("http.listen {listen} can not be listened on"))?;
    let address = listener.local_addr().context("the listener has no address")?;
    Ok(Bound { listener, connections: config.connections, limits, address })
}

/// Answers until `stop`; then takes no more connections, closes those on which no request is in hand, and gives the
/// requests in hand `limit` to finish. What is not finished then is dropped, as is everything when this is dropped: a
/// commit that was begun is not cut by it, because it runs in a task of its own.
pub(crate) async fn run<E>(bound: Bound, endpoint: E, clock: Arc<dyn Clock>, stop: CancellationToken, limit: Duration)
where
    E: Endpoint<Output = Response> + 'static,
{
    let Bound { listener, connections, limits, address } = bound;
    let mut acceptor = Acceptor::new(listener, connections);
    let (full, stop_all) = (acceptor.full(), stop.clone());
    let shared = Arc::new(Shared { endpoint, limits, clock, address, full, stop: stop_all });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            (stream, peer, place) = acceptor.next() => {
                // One that panicked has said so.
                while connections.try_join_next().is_some() {}
                let shared = shared.clone();
                connections.spawn(async move {
                    connection::serve(stream, peer, shared).await;
                    drop(place);
                });
            }
        }
    }
    drop(acceptor);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limit, finish).await.is_err() {
        tracing::warn!(?limit, connections = connections.len(), "requests in hand were not finished in time");
    }
}
