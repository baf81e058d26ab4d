//! A client of HTTP/1.1 on connections that are kept.
//!
//! It stands on the same cores as the service that it measures, so it does what a request needs and nothing else: one
//! write of the request, and reads until the answer's head and body are there, in the task of whoever asks. It knows
//! one request, and no chunked bodies, redirects or encodings, none of which the service answers an order with.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A connection that was idle for so long is not used again: the service closes it after a minute.
const KEPT: Duration = Duration::from_secs(30);
/// Room for the answer to an order, so that one read takes it.
const ANSWER: usize = 2 * 1024;

/// Brings one and the same request to a service, on so many connections at the most.
pub(crate) struct Poster {
    address: SocketAddr,
    request: Vec<u8>,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
}

struct Connection {
    stream: TcpStream,
    /// What has come; emptied before each request.
    input: Vec<u8>,
    used: Instant,
}

/// What stands in the head of an answer.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    /// Where the body begins and ends.
    body: std::ops::Range<usize>,
    closes: bool,
}

impl Poster {
    /// Posts that JSON to that path.
    pub(crate) fn new(address: SocketAddr, path: &str, json: &str, connections: usize) -> Self {
        let length = json.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let request = [head.as_bytes(), json.as_bytes()].concat();
        Self { address, request, idle: Mutex::default(), places: Semaphore::new(connections) }
    }

    /// Posts it once, and reads the answer: its status, and its body.
    pub(crate) async fn post<T>(&self, read: impl FnOnce(u16, &[u8]) -> T) -> T {
        let _place = self.places.acquire().await.expect("it is never closed");
        let kept = self.idle().pop().filter(|it| it.used.elapsed() < KEPT);
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(self.address).await,
        };
        let head = connection.ask(&self.request).await;
        let answer = read(head.status, &connection.input[head.body.clone()]);
        if !head.closes {
            self.idle().push(connection);
        }
        answer
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a service that listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, input: Vec::with_capacity(ANSWER), used: Instant::now() }
    }

    async fn ask(&mut self, request: &[u8]) -> Head {
        self.input.clear();
        self.stream.write_all(request).await.expect("a connection");
        loop {
            let read = self.stream.read_buf(&mut self.input).await.expect("a connection");
            assert!(read > 0, "the connection ended before its answer: {}", String::from_utf8_lossy(&self.input));
            if let Some(head) = Head::read(&self.input)
                && head.body.end <= self.input.len()
            {
                assert_eq!(head.body.end, self.input.len(), "more than one answer to one request");
                self.used = Instant::now();
                return head;
            }
        }
    }
}

impl Head {
    /// `None` while it is not there as a whole.
    fn read(input: &[u8]) -> Option<Self> {
        const END: &[u8] = b"\r\n\r\n";
        let start = input.windows(END.len()).position(|it| it == END)?;
        let text = std::str::from_utf8(&input[..start]).expect("a head");
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|it| it.get(..3)?.parse().ok()).unwrap_or_else(|| panic!("no answer: {text}"));
        let (mut length, mut closes) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse::<usize>().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.eq_ignore_ascii_case("close");
            }
        }
        let body = start + END.len();
        let length = length.unwrap_or_else(|| panic!("an answer without a length: {text}"));
        Some(Self { status, body: body..body + length, closes })
    }
}
