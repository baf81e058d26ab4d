//! A proxy that cuts, holds, delays or refuses connections.

use std::io::{ErrorKind, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::port;
use crate::url::ServerUrl;

/// How often it looks for a new connection.
const ACCEPT_EVERY: Duration = Duration::from_millis(2);

/// How long a connection to the server may take until the client's is closed.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// So many chunks wait in each direction while they are delayed or held; then the sender is not read any more, as if
/// the network were full.
const CHUNKS_MAX: usize = 64;

/// The directions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// Both.
    Both,
}

impl Way {
    fn includes(self, one: Self) -> bool {
        self == Self::Both || self == one
    }
}

/// A proxy between clients and a server. It is gone, and its connections closed, when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Where new connections lead.
    server: String,
    held: Option<Way>,
    delay: Duration,
    refuses: bool,
    /// Whether the listener is there; follows `refuses`.
    listens: bool,
    stops: bool,
    next: u64,
    accepted: u64,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    ends: [TcpStream; 2],
}

impl Proxy {
    /// A proxy to the server of that URL, on a port of its own.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn to(server: &str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
        let state = State { server: ServerUrl::new(server).address(), listens: true, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let listener = listen(address);
        let run = Arc::clone(&shared);
        let acceptor = thread::spawn(move || run.accept(address, listener));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL with the proxy's host and port.
    pub fn url(&self, of: &str) -> String {
        ServerUrl::new(of).at(&self.address.to_string())
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many connections there were in all.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Leads new connections to another server, as a virtual address does after a failover. Open ones stay.
    pub fn redirect(&self, server: &str) {
        let server = ServerUrl::new(server).address();
        self.shared.change(|state| state.server = server);
    }

    /// Closes all connections at once, and says how many there were. New ones are served.
    pub fn cut(&self) -> usize {
        let mut cut = 0;
        self.shared.change(|state| {
            for Connection { ends, .. } in state.connections.drain(..) {
                ends.iter().for_each(close);
                cut += 1;
            }
        });
        cut
    }

    /// Forwards nothing any more in that direction, not even that an end was closed, and keeps all connections open, as
    /// a network does that drops packets. What is sent meanwhile arrives after [`resume`](Self::resume).
    pub fn half_open(&self, way: Way) {
        self.shared.change(|state| state.held = Some(way));
    }

    /// Delivers everything so much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.delay = delay);
    }

    /// Refuses new connections, as a host does on which no server runs, or accepts them again. Open ones stay. It is so
    /// on return.
    pub fn refuse(&self, refuse: bool) {
        self.shared.change(|state| state.refuses = refuse);
        let mut state = self.shared.lock();
        while state.listens == refuse {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Holds, delays and refuses nothing any more.
    pub fn resume(&self) {
        self.shared.change(|state| (state.held, state.delay) = (None, Duration::ZERO));
        self.refuse(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| state.stops = true);
        self.cut();
        if let Some(acceptor) = self.acceptor.take() {
            // A panic there was shown when it happened.
            let _ = acceptor.join();
        }
        self.cut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>, address: SocketAddr, listener: TcpListener) {
        let mut listener = Some(listener);
        loop {
            let (refuses, stops) = {
                let state = self.lock();
                (state.refuses, state.stops)
            };
            if stops {
                return;
            }
            if refuses == listener.is_some() {
                listener = match listener {
                    Some(listener) => {
                        // Closing is not enough: it may live on for a moment in a child that another thread just forked.
                        let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
                        None
                    }
                    None => Some(listen(address)),
                };
                self.change(|state| state.listens = listener.is_some());
            }
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((client, _))) => {
                    let serve = Arc::clone(&self);
                    self.lock().accepted += 1;
                    thread::spawn(move || serve.serve(client));
                }
                Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => panic!("the proxy cannot accept: {error}"),
                Some(Err(_)) | None => {
                    let state = self.lock();
                    drop(self.changed.wait_timeout(state, ACCEPT_EVERY));
                }
            }
        }
    }

    fn serve(self: Arc<Self>, client: TcpStream) {
        // Without a server the client's connection is closed, by being dropped.
        let address = self.lock().server.clone();
        let Ok(server) = connect(&address) else { return };
        let ends = || -> std::io::Result<[TcpStream; 4]> {
            client.set_nonblocking(false)?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            Ok([client.try_clone()?, client.try_clone()?, server.try_clone()?, server.try_clone()?])
        };
        let Ok([from_client, to_client, from_server, to_server]) = ends() else { return };
        let id = {
            let mut state = self.lock();
            if state.stops {
                return;
            }
            state.next += 1;
            let id = state.next;
            state.connections.push(Connection { id, ends: [client, server] });
            id
        };
        let there = self.forward(id, Way::ToServer, from_client, to_server);
        let back = self.forward(id, Way::ToClient, from_server, to_client);
        for thread in [there, back] {
            // A panic there was shown when it happened.
            let _ = thread.join();
        }
        self.lock().connections.retain(|connection| connection.id != id);
    }

    /// Forwards one direction until its end was delivered: one thread reads, so that times are those of the sender, the
    /// other writes when it is time.
    fn forward(self: &Arc<Self>, id: u64, way: Way, from: TcpStream, to: TcpStream) -> JoinHandle<()> {
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        thread::spawn(move || read(from, &sender));
        let write = Arc::clone(self);
        thread::spawn(move || write.write(id, way, &receiver, to))
    }

    fn write(&self, id: u64, way: Way, chunks: &Receiver<(Instant, Read)>, mut to: TcpStream) {
        while let Ok((at, read)) = chunks.recv() {
            self.wait_for_turn(id, way, at);
            let ended = match read {
                Read::Bytes(bytes) => to.write_all(&bytes).map(|()| false),
                Read::End => to.shutdown(Shutdown::Write).map(|()| true),
                Read::Broken => Err(ErrorKind::ConnectionReset.into()),
            };
            match ended {
                Ok(false) => {}
                Ok(true) => return,
                Err(_) => {
                    // What is broken in one direction is in both.
                    let broken = |it: &&Connection| it.id == id;
                    self.lock().connections.iter().filter(broken).flat_map(|it| &it.ends).for_each(close);
                    return;
                }
            }
        }
    }

    /// Returns when what was read at that time may be delivered, or when the connection was cut.
    fn wait_for_turn(&self, id: u64, way: Way, read_at: Instant) {
        let mut state = self.lock();
        while state.connections.iter().any(|connection| connection.id == id) {
            let due = read_at + state.delay;
            let now = Instant::now();
            let held = state.held.is_some_and(|it| it.includes(way));
            if !held && due <= now {
                return;
            }
            state = match held {
                true => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                false => self.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

/// What was read from one end.
enum Read {
    Bytes(Vec<u8>),
    End,
    Broken,
}

fn read(mut from: TcpStream, chunks: &SyncSender<(Instant, Read)>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => Read::End,
            Ok(count) => Read::Bytes(buffer[..count].to_vec()),
            Err(_) => Read::Broken,
        };
        let last = !matches!(read, Read::Bytes(_));
        if chunks.send((Instant::now(), read)).is_err() || last {
            return;
        }
    }
}

fn connect(server: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(ErrorKind::AddrNotAvailable);
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .unwrap_or_else(|error| panic!("the proxy cannot listen at {address}: {error}"))
}

fn close(end: &TcpStream) {
    // It may be closed already, which is what is wanted.
    let _ = end.shutdown(Shutdown::Both);
}
