//! How much, how many and how long.

use std::time::Duration;

/// A request's line and headers come within this time: they are sent at once by whoever means it.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// A connection without a request is kept for so long: longer than clients keep one for their next request.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// An answer is taken within this time: the largest, the page of the description, needs it at 30 kB a second.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// After the last answer the peer has this time to stop sending and to read it: a socket that is closed with unread bytes
/// makes the peer's system throw the answer away.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// How long the HTTP server waits for what. The body of a request and the work on it have deadlines of their own, where
/// they are read and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// The head of a request has come: counted from the first moment of a connection, or from the first byte of a further
    /// request. What came in part only is answered with 408.
    pub head: Duration,
    /// The next request has begun.
    pub idle: Duration,
    /// An answer was taken, counted from the moment in which the peer took no more of it.
    pub answer: Duration,
    /// The peer has closed a connection that was closed here.
    pub linger: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { head: HEAD_TIME, idle: IDLE_TIME, answer: ANSWER_TIME, linger: LINGER_TIME }
    }
}
