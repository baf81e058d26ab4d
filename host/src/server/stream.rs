//! The socket below a connection, with a deadline for whatever is waited for.
//!
//! Deadlines that pass while a head is waited for end the input, as if the peer had closed its side: what that means is
//! then the connection's business. An answer that is not taken is an error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::answer::Progress;
use super::limits::HttpLimits;

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer has closed its side.
    Peer,
    /// The head of a request did not come in time.
    HeadLate,
    /// No further request came in time.
    Idle,
    /// The server stops, and no request is in hand.
    Stopped,
}

/// What the peer is to send while no request is in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The rest of a head, or the first one.
    Head,
    /// The first byte of a further request.
    Request,
}

/// A socket with deadlines.
pub(super) struct Guarded {
    socket: TcpStream,
    progress: Arc<Progress>,
    limits: HttpLimits,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// How many requests had begun when `awaited` was set.
    begun: u64,
    awaited: Awaited,
    /// When it has to be there.
    due: Instant,
    /// Follows `due` when there is something to wait for: most heads come as a whole.
    reading: Pin<Box<Sleep>>,
    /// Since the peer took no more of an answer; with how many requests had begun then.
    writing: Option<(Pin<Box<Sleep>>, u64)>,
    unwritten: bool,
    /// How many requests had begun when the next one was waited for, all being written.
    waited: u64,
    refused: Option<StatusCode>,
    end: Option<End>,
}

impl Guarded {
    pub(super) fn new(socket: TcpStream, progress: Arc<Progress>, limits: HttpLimits, stop: CancellationToken) -> Self {
        let due = Instant::now() + limits.head;
        Self {
            socket,
            progress,
            limits,
            stopped: Box::pin(stop.cancelled_owned()),
            begun: 0,
            awaited: Awaited::Head,
            due,
            reading: Box::pin(tokio::time::sleep_until(due)),
            writing: None,
            unwritten: false,
            waited: 0,
            refused: None,
            end: None,
        }
    }

    /// Why nothing more was read, if that is so.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether the peer has taken everything that was to be written.
    pub(super) fn is_written(&self) -> bool {
        !self.unwritten
    }

    /// What the parser refused a request with. It writes a status without a body, which is held back: whoever asked is
    /// told more, by [`connection`](super::connection).
    pub(super) fn refused(&self) -> Option<StatusCode> {
        self.refused
    }

    /// The socket alone.
    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    fn await_next(&mut self, awaited: Awaited, limit: Duration) {
        self.awaited = awaited;
        self.due = Instant::now() + limit;
    }

    /// No request is in hand: from the first moment of that, the next one has its time.
    fn await_request(&mut self) {
        let begun = self.progress.begun();
        if begun != self.begun {
            self.begun = begun;
            self.await_next(Awaited::Request, self.limits.idle);
        }
    }

    /// Why nothing more is waited for, if that is so.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Stopped);
        }
        if self.reading.deadline() != self.due {
            self.reading.as_mut().reset(self.due);
        }
        let late = if self.awaited == Awaited::Head { End::HeadLate } else { End::Idle };
        self.reading.as_mut().poll(cx).map(|()| late)
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf)?;
        if read.is_ready() && buf.filled().len() == before && buf.remaining() > 0 {
            self.end = Some(End::Peer);
        }
        read.map(Ok)
    }

    /// Everything handed over was written: the next answer has its own time.
    fn written(&mut self) {
        self.unwritten = false;
        let begun = self.progress.begun();
        self.writing.take_if(|(_, armed)| !self.progress.in_hand() || begun != *armed);
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        if this.progress.in_hand() {
            // A body, which has a deadline of its own, or the peer's end.
            return this.poll_socket(cx, buf);
        }
        this.await_request();
        let read = this.poll_socket(cx, buf)?;
        if read.is_ready() {
            if this.awaited == Awaited::Request {
                this.await_next(Awaited::Head, this.limits.head);
            }
        } else if !this.unwritten
            // Else the answer's deadline runs.
            && let Poll::Ready(end) = this.poll_end(cx)
        {
            this.end = Some(end);
            return Poll::Ready(Ok(()));
        }
        read.map(Ok)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let refusal = if this.progress.in_hand() { None } else { parsers_refusal(buf) };
        let wanted = match refusal {
            Some((0, status)) => {
                // What stood before it is written.
                this.written();
                this.refused = Some(status);
                return Poll::Ready(Ok(buf.len()));
            }
            Some((start, _)) => &buf[..start],
            None => buf,
        };
        match Pin::new(&mut this.socket).poll_write(cx, wanted)? {
            Poll::Ready(count) => {
                if count == buf.len() {
                    this.written();
                } else {
                    this.unwritten = true;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Pending => {
                this.unwritten = true;
                let (limit, begun) = (this.limits.answer, this.progress.begun());
                let (sleep, _) = this.writing.get_or_insert_with(|| (Box::pin(tokio::time::sleep(limit)), begun));
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // What the system still holds for this peer is thrown away with the socket.
                this.socket.set_zero_linger()?;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer is not taken")))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let begun = this.progress.begun();
        if this.waited != begun && !this.unwritten && !this.progress.in_hand() {
            this.waited = begun;
            this.await_request();
            // hyper waits for the socket only, and would not read before something comes: no deadline would run.
            if this.poll_end(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// The longest refusal that the parser writes is shorter.
const REFUSAL_MAX: usize = 256;

/// Where the parser's own refusal begins, if what is to be written ends with one: a 4xx whose head says nothing but that
/// the connection ends here, and when. Every answer of the service says more.
fn parsers_refusal(buf: &[u8]) -> Option<(usize, StatusCode)> {
    const VERSION: &[u8] = b"HTTP/1.";
    if !buf.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = buf.len().saturating_sub(REFUSAL_MAX);
    let start = from + buf[from..].windows(VERSION.len()).rposition(|it| it == VERSION)?;
    let mut lines = std::str::from_utf8(&buf[start..]).ok()?.trim_end().split("\r\n");
    let status: StatusCode = lines.next()?.get(9..12)?.parse().ok()?;
    let says_nothing =
        |line: &str| line == "connection: close" || line == "content-length: 0" || line.starts_with("date: ");
    (status.is_client_error() && lines.all(says_nothing)).then_some((start, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &[u8] =
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\r\n";

    #[test]
    fn given_a_refusal_of_the_parser_when_it_is_written_then_it_is_told_from_answers() {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        assert_eq!(parsers_refusal(REFUSAL), Some((0, status)));
        let behind = [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", REFUSAL].concat();
        assert_eq!(parsers_refusal(&behind), Some((behind.len() - REFUSAL.len(), status)));
        for answer in [
            b"HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n".as_slice(),
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            &REFUSAL[..REFUSAL.len() - 2],
            b"\r\n\r\n",
        ] {
            assert_eq!(parsers_refusal(answer), None, "{}", String::from_utf8_lossy(answer));
        }
    }
}
