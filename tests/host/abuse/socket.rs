//! A socket that says what it is told to, and reads answers one by one.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::PATIENCE;

/// The least that a request needs.
pub const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

/// A head as it begins.
pub const HALF: &str = "GET /health/live HTTP/1.1\r\nho";

pub struct Raw(BufReader<TcpStream>);

/// An answer as it was read.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Said {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// It is a problem of that status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body["status"], status, "{self:?}");
        assert!(body["type"].as_str().unwrap().starts_with("urn:saga-host:problem:"), "{self:?}");
        assert!(!body["title"].as_str().unwrap().is_empty(), "{self:?}");
        body
    }
}

impl Raw {
    pub async fn open(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// One that takes next to nothing before it is read.
    pub async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self(BufReader::new(socket.connect(address).await.unwrap()))
    }

    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Says as much as the other side takes.
    pub async fn try_say(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// Closes the own side, as clients that have said everything do.
    pub async fn finish(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Goes away at once, without a word.
    pub fn reset(self) {
        self.0.get_ref().set_zero_linger().unwrap();
    }

    /// The next answer; `None` when the other side has closed.
    pub async fn next(&mut self) -> Option<Said> {
        tokio::time::timeout(PATIENCE, self.receive()).await.expect("an answer, or the end")
    }

    /// The next answer, whenever it comes within an hour: for time that is paused.
    pub async fn read(&mut self) -> Option<Said> {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        tokio::time::timeout(HOUR, self.receive()).await.expect("an answer, or the end")
    }

    async fn receive(&mut self) -> Option<Said> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) if head.is_empty() => return None,
                Err(error) => panic!("{error} within {}", String::from_utf8_lossy(&head)),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut said = Said { status, head, body: String::new() };
        let length = said.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        said.body = String::from_utf8(body).unwrap();
        Some(said)
    }

    /// The next answer, which comes.
    pub async fn answer(&mut self) -> Said {
        self.next().await.expect("an answer")
    }

    /// One byte of what was answered, to see that it began.
    pub async fn first_byte(&mut self) -> u8 {
        tokio::time::timeout(PATIENCE, self.0.read_u8()).await.expect("an answer").unwrap()
    }

    /// The other side closes, and says nothing more.
    pub async fn assert_closed(&mut self) {
        let said = self.next().await;
        assert!(said.is_none(), "nothing more is said: {said:?}");
    }

    /// Whether the other side has thrown the connection away.
    pub fn is_reset(&self) -> bool {
        matches!(self.0.get_ref().try_write(b"x"), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock)
    }
}
