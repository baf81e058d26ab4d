//! An answer's body, and which requests are in hand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes, Frame, SizeHint};

/// An answer goes out in pieces of this size, so that no more of it is copied for a peer that does not read.
const PIECE: usize = 16 * 1024;

/// How far the requests of one connection are. The connection's parts share it; they all run in one task.
#[derive(Debug, Default)]
pub(super) struct Progress {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Progress {
    /// A request's head has come; it is in hand until the answer is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InHand {
        self.begun.fetch_add(1, Ordering::Relaxed);
        InHand(self.clone())
    }

    /// How many requests have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether a request is in hand: its answer is not wholly in the hands of the stream.
    pub(super) fn in_hand(&self) -> bool {
        self.begun() != self.done.load(Ordering::Relaxed)
    }
}

/// A request in hand.
pub(super) struct InHand(Arc<Progress>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer on its way out.
pub(super) struct Answer {
    body: BoxBody<Bytes, io::Error>,
    rest: Bytes,
    _in_hand: InHand,
}

impl Answer {
    pub(super) fn new(body: BoxBody<Bytes, io::Error>, in_hand: InHand) -> Self {
        Self { body, rest: Bytes::new(), _in_hand: in_hand }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn given_a_long_body_when_it_goes_out_then_it_goes_in_pieces_and_is_in_hand_until_it_is_dropped() {
        let progress = Arc::new(Progress::default());
        let text: Vec<u8> = (0..2 * PIECE + 1).map(|n| (n % 251) as u8).collect();
        let body = Full::new(Bytes::from(text.clone())).map_err(|never| match never {}).boxed();
        let mut answer = Answer::new(body, progress.begin());
        assert_eq!(answer.size_hint().exact(), Some(text.len() as u64));
        let mut lengths = Vec::new();
        let mut whole = Vec::new();
        while let Some(frame) = answer.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            lengths.push(data.len());
            whole.extend_from_slice(&data);
            assert_eq!(answer.size_hint().exact(), Some((text.len() - whole.len()) as u64));
        }
        assert_eq!(lengths, [PIECE, PIECE, 1]);
        assert_eq!(whole, text);
        assert!(answer.is_end_stream() && progress.in_hand());
        drop(answer);
        assert!(!progress.in_hand() && progress.begun() == 1);
    }
}
