//! Free ports.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::token::random;

/// Below the ports from which systems take the near end of outgoing connections (32768 and up on Linux). A port from
/// there could be taken while its server is down for a moment, by the very client that tries to connect to it again:
/// TCP lets a connection be its own other end.
const PORTS: Range<u16> = 12_000..32_000;

/// So many are tried; finding every one of them taken means that something else is wrong.
const TRIES: usize = 200;

/// A port of the loopback interface where nothing listens, and which this process was not given before.
///
/// # Panics
/// When there is none.
pub fn free() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..TRIES {
        let port = PORTS.start + u16::from_le_bytes(random()) % (PORTS.end - PORTS.start);
        if !given.contains(&port) && is_free(port) {
            given.insert(port);
            return port;
        }
    }
    panic!("none of {TRIES} ports between {} and {} was free", PORTS.start, PORTS.end);
}

/// Asked by connecting, not by listening: a listener may live on for a moment in a child that another thread just forked.
fn is_free(port: u16) -> bool {
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
