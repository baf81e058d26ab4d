//! The listener and the HTTP server on it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Endpoint, Response, Server};
use tokio_util::sync::CancellationToken;

/// A connection on which nothing moves for so long is closed: longer than clients keep one for their next request, and
/// than a body may take to come.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// An address that is listened on; nobody is answered yet.
pub(crate) struct Bound {
    acceptor: poem::listener::TcpAcceptor,
    /// The address, with the port that was given.
    pub(crate) address: SocketAddr,
}

/// Listens on an address.
///
/// # Errors
/// When the address is taken, or not one of this machine.
pub(crate) async fn bind(listen: SocketAddr) -> anyhow::Result<Bound> {
    let acceptor = TcpListener::bind(listen).into_acceptor().await;
    let acceptor = acceptor.with_context(|| format!("http.listen {listen} can not be listened on"))?;
    let address = acceptor.local_addr().first().and_then(|address| address.as_socket_addr().copied()).unwrap_or(listen);
    Ok(Bound { acceptor, address })
}

/// Answers until `stop`; then takes no more connections, and gives the requests in hand `limit` to finish.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn run(
    bound: Bound,
    endpoint: impl Endpoint<Output = Response> + 'static,
    stop: CancellationToken,
    limit: Duration,
) -> anyhow::Result<()> {
    let server = Server::new_with_acceptor(bound.acceptor).idle_timeout(IDLE_LIMIT);
    server
        .run_with_graceful_shutdown(endpoint, stop.cancelled_owned(), Some(limit))
        .await
        .context("the HTTP server failed")
}
