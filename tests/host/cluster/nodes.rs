//! The hosts of a cluster, as processes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::support::program;

/// A host starts within this time, or never: it may wait for a database that is just starting.
const START: Duration = Duration::from_secs(60);

/// How one host is started.
pub(crate) struct Node {
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) name: String,
}

/// The hosts; one that was killed is not there until it is started again.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    running: Mutex<Vec<Option<Running>>>,
}

struct Running {
    child: Child,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended can not be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The virtual host of a broker's URL.
pub(crate) fn vhost(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

impl Node {
    /// A host with short times, so that every end of an order is met within seconds.
    pub(crate) fn on(number: usize, store: &str, bus: &str) -> Self {
        let environment = vec![
            ("SAGA__STORE__URL", store.to_owned()),
            ("SAGA__BUS__URL", bus.to_owned()),
            ("SAGA__BUS__HEARTBEAT", "4s".to_owned()),
            ("SAGA__PAYMENT__DELAY", "50ms".to_owned()),
            ("SAGA__PAYMENT__SUCCESS_RATE", "0.5".to_owned()),
            ("SAGA__PAYMENT__SEED", number.to_string()),
            ("SAGA__EXPIRATION__AFTER", "5s".to_owned()),
            ("SAGA__EXPIRATION__INTERVAL", "500ms".to_owned()),
            ("SAGA__RETRY__INITIAL", "50ms".to_owned()),
            ("SAGA__RETRY__LIMIT", "100".to_owned()),
            ("SAGA__HTTP__LISTEN", "127.0.0.1:0".to_owned()),
            ("SAGA__LOG__FORMAT", "json".to_owned()),
            ("SAGA__LOG__FILTER", "error,host::serve=info".to_owned()),
        ];
        Self { environment, name: format!("host {number}") }
    }

    fn start(&self) -> Running {
        let mut command = program(&["serve"]);
        command.envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (ready, is_ready) = mpsc::channel();
        let name = self.name.clone();
        // Reads to the end, so that the host never waits for somebody to read its log.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let value: Value = serde_json::from_str(&line).unwrap_or_default();
                match value["message"].as_str() {
                    Some(text) if text.starts_with("ready on ") => {
                        let address = value["address"].as_str().and_then(|it| it.parse::<SocketAddr>().ok());
                        // Nobody waits for it any more when it took too long.
                        let _ = ready.send(address.unwrap());
                    }
                    _ if value["level"] == "ERROR" => println!("{name}: {line}"),
                    _ => {}
                }
            }
        });
        let address =
            is_ready.recv_timeout(START).unwrap_or_else(|error| panic!("{} did not start: {error}", self.name));
        Running { child, address }
    }
}

impl Nodes {
    pub(crate) fn start_all(nodes: impl Iterator<Item = Node>) -> Self {
        let nodes: Vec<_> = nodes.collect();
        // At once, on an empty database: one of them makes the tables, and the others wait for it.
        let running = std::thread::scope(|scope| {
            let starting: Vec<_> = nodes.iter().map(|node| scope.spawn(|| Some(node.start()))).collect();
            starting.into_iter().map(|it| it.join().unwrap()).collect()
        });
        Self { nodes, running: Mutex::new(running) }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Option<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills a host so that it can do nothing more.
    pub(crate) fn kill(&self, host: usize) {
        self.running()[host] = None;
    }

    pub(crate) fn start(&self, host: usize) {
        let running = self.nodes[host].start();
        self.running()[host] = Some(running);
    }

    /// Where the `n`th of the hosts that run listens, counted in a circle.
    pub(crate) fn address(&self, n: u64) -> Option<SocketAddr> {
        let running = self.running();
        let alive: Vec<_> = running.iter().flatten().map(|it| it.address).collect();
        alive.get(n as usize % alive.len().max(1)).copied()
    }
}
