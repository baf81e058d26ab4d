//! Requests and answers on one connection, its refusals, and its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, IntoResponse, Response};
use saga_core::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Progress};
use super::limits::HttpLimits;
use super::stream::{End, Guarded};
use crate::api::{Kind, Problem};

/// A request's line and headers are no longer than this: twice what common proxies let through.
const HEAD_SIZE: usize = 16 * 1024;

/// So much is kept of what a peer sends faster than it is read, and of an answer that it does not take: a head fits, and
/// a thousand connections need 64 MiB at the worst.
const BUFFER: usize = 2 * HEAD_SIZE;

/// What a peer sends after the last answer is thrown away, piece by piece.
const DISCARDED: usize = 16 * 1024;

/// What all connections share.
pub(super) struct Shared<E> {
    pub(super) endpoint: E,
    pub(super) limits: HttpLimits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) address: SocketAddr,
    pub(super) full: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
}

impl<E> Shared<E> {
    /// Whether a connection ends with the answer that it is given now: the server stops, or somebody may be waiting for
    /// its place.
    fn is_last_answer(&self) -> bool {
        self.stop.is_cancelled() || self.full.load(Ordering::Relaxed)
    }
}

/// Answers the requests of a connection, one after the other, until it ends.
pub(super) async fn serve<E>(socket: TcpStream, peer: SocketAddr, shared: Arc<Shared<E>>)
where
    E: Endpoint<Output = Response> + 'static,
{
    // Answers are written at once; there is nothing to wait for. If it fails, the connection is gone.
    let _ = socket.set_nodelay(true);
    let progress = Arc::new(Progress::default());
    let stream = Guarded::new(socket, progress.clone(), shared.limits, shared.stop.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let in_hand = progress.begin();
        let shared = &shared;
        let (local, remote) = (LocalAddr(shared.address.into()), RemoteAddr(peer.into()));
        let answer = shared.endpoint.call(poem::Request::from((request, local, remote, Scheme::HTTP)));
        Box::pin(async move {
            let response = answer.await.unwrap_or_else(poem::Error::into_response);
            let mut response = hyper::Response::from(response);
            if shared.is_last_answer() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, in_hand)))
        })
    });
    let mut http = http1::Builder::new();
    // Written as one piece, because the stream looks at what is written.
    http.writev(false).max_header_size(HEAD_SIZE).max_buf_size(BUFFER);
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let between_requests = !progress.in_hand();
    let parts = connection.into_parts();
    let stream = parts.io.into_inner();
    let Err(error) = ended else {
        // A connection that was idle owes nobody anything.
        let owes = !matches!(stream.end(), Some(End::Idle | End::HeadLate | End::Stopped));
        return close(stream, owes, None, &shared).await;
    };
    tracing::debug!(%peer, %error, "a connection ended");
    let owed = between_requests && stream.is_written();
    let refusal = owed.then(|| refusal(&error, &stream, &parts.read_buf)).flatten();
    if let Some(problem) = refusal {
        close(stream, true, Some(problem), &shared).await;
    }
}

/// What is answered to something that is no request, or not a whole one.
fn refusal(error: &hyper::Error, stream: &Guarded, input: &[u8]) -> Option<Problem> {
    let refused = |status| Problem::new(Kind::Refused(status));
    if error.is_parse_version_h2() {
        return Some(refused(StatusCode::HTTP_VERSION_NOT_SUPPORTED).detail("HTTP/1.1 is spoken here"));
    }
    match (stream.refused(), stream.end()) {
        // The line alone is too long.
        (Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE), _)
            if !input.iter().take(HEAD_SIZE).any(|it| *it == b'\n') =>
        {
            Some(refused(StatusCode::URI_TOO_LONG).detail("a request's head has at most 16384 bytes"))
        }
        (Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE), _) => {
            let detail = "a request's head has at most 16384 bytes and 100 headers";
            Some(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).detail(detail))
        }
        (Some(status), _) => Some(refused(status).detail("this is no request of HTTP/1.1")),
        (None, Some(End::HeadLate | End::Idle)) if !input.is_empty() => Some(Problem::new(Kind::TooSlow)),
        (None, Some(End::Stopped)) if !input.is_empty() => Some(Problem::busy().detail("the service stops")),
        (None, Some(End::Peer)) if !input.is_empty() => {
            Some(refused(StatusCode::BAD_REQUEST).detail("the request ends too early"))
        }
        _ => None,
    }
}

/// Says the last word, if there is one to say, and waits a moment until the peer has read it.
async fn close<E>(stream: Guarded, lingers: bool, refusal: Option<Problem>, shared: &Shared<E>) {
    let peer_is_gone = stream.end() == Some(End::Peer);
    let mut socket = stream.into_socket();
    let last_word = async {
        if let Some(problem) = refusal {
            socket.write_all(&written(problem, shared.clock.now()).await).await?;
        }
        socket.shutdown().await?;
        let mut discarded = vec![0; if lingers && !peer_is_gone { DISCARDED } else { 0 }];
        while !discarded.is_empty() && socket.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whether the peer has read it, or went away, nothing is left to be done.
    let _ = tokio::time::timeout(shared.limits.linger, last_word).await;
}

/// A problem as it is written to the socket.
async fn written(problem: Problem, now: DateTime<Utc>) -> Vec<u8> {
    let (head, body) = problem.into_response().into_parts();
    let body = body.into_bytes().await.unwrap_or_default();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    };
    for (name, value) in &head.headers {
        line(name.as_str(), value.as_bytes());
    }
    line("connection", b"close");
    line("content-length", body.len().to_string().as_bytes());
    line("date", now.format("%a, %d %b %Y %H:%M:%S GMT").to_string().as_bytes());
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    text
}
