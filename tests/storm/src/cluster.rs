//! The servers, the ways to them, the hosts, and how each fault is done to them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use test_servers::{Postgres, Proxy, Rabbit, Way, free_port};

use crate::fault::Fault;
use crate::hosts::{HostProgram, Hosts};
use crate::options::Options;
use crate::plan::Step;

/// How often each side of a connection with the broker says that it lives, in seconds; after twice that the other is given up.
const HEARTBEAT: u64 = 4;
/// Longer than two heartbeats, so that hosts give the broker up.
const BROKER_PAUSE: Duration = Duration::from_secs(2 * HEARTBEAT + 2);
/// Longer than a host's lease of six seconds, so that the others take its rows over before it goes on.
const HOST_PAUSE: Duration = Duration::from_secs(9);
/// How long everything is late.
const DELAY_LASTS: Duration = Duration::from_secs(3);

/// Everything that runs. The hosts end first, then the ways, then the servers.
pub(crate) struct Cluster {
    pub(crate) hosts: Hosts,
    ways: Vec<Ways>,
    pub(crate) servers: Servers,
}

/// The servers, with one database and one virtual host.
pub(crate) struct Servers {
    postgres: Postgres,
    rabbit: Rabbit,
    /// Where the database is without a proxy before it.
    pub(crate) store: String,
    /// Where the broker is without a proxy before it.
    pub(crate) bus: String,
}

/// The ways of one host to its servers.
struct Ways {
    database: Proxy,
    broker: Proxy,
}

impl Ways {
    /// Delays all connections for so long, and says whether there were any.
    fn delay(&self, delay: Duration, lasts: Duration) -> bool {
        let ways = [&self.database, &self.broker];
        if ways.iter().all(|way| way.open() == 0) {
            return false;
        }
        ways.iter().for_each(|way| way.delay(delay));
        std::thread::sleep(lasts);
        ways.iter().for_each(|way| way.resume());
        true
    }
}

impl Servers {
    pub(crate) fn start() -> Self {
        let (postgres, rabbit) = std::thread::scope(|scope| {
            let rabbit = scope.spawn(Rabbit::start);
            let postgres = Postgres::start();
            (postgres, rabbit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (store, bus) = (postgres.database(), rabbit.vhost());
        Self { postgres, rabbit, store, bus }
    }

    /// The queues that there are at the broker, without those that vanish with the process that they are for: they are
    /// gone at any moment, and what is in them is for nobody.
    pub(crate) fn queues(&self) -> Vec<String> {
        let vhost = self.bus.rsplit('/').next().unwrap_or_default();
        let queues = self.rabbit.ctl(&["list_queues", "--no-table-headers", "--vhost", vhost, "name", "arguments"]);
        let lasting = queues.lines().filter(|line| !line.contains("x-expires"));
        lasting.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// Puts the servers' logs beside those of the hosts.
    pub(crate) fn keep_logs(&self, folder: &Path) -> anyhow::Result<()> {
        fs::write(folder.join("rabbitmq.log"), self.rabbit.log())?;
        fs::write(folder.join("postgres.log"), self.postgres.log())?;
        Ok(())
    }

    /// Terminates every backend that serves a host, and says how many there were.
    fn kill_backends(&self) -> u64 {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.postgres.query(&self.store, sql).trim().parse().unwrap_or_default()
    }
}

impl Cluster {
    /// Starts the hosts, each with ways of its own to the servers, when `before` has been done.
    ///
    /// # Errors
    /// When that could not be done, or a program or a folder is not there.
    pub(crate) fn start(
        servers: Servers,
        options: &Options,
        before: impl FnOnce(&Servers, Vec<SocketAddr>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let ways = |_| Ways { database: Proxy::to(&servers.store), broker: Proxy::to(&servers.bus) };
        let ways: Vec<_> = (0..options.hosts).map(ways).collect();
        let address = |_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let addresses: Vec<_> = (0..options.hosts).map(address).collect();
        if let Some(logs) = &options.logs {
            fs::create_dir_all(logs).with_context(|| format!("{} can not be made", logs.display()))?;
        }
        let (program, arguments) = match &options.host {
            Some(program) => (program.clone(), vec!["serve".to_owned()]),
            None => (std::env::current_exe().context("this program is not found")?, vec!["host".to_owned()]),
        };
        let host = |((number, ways), address): ((u64, &Ways), &SocketAddr)| HostProgram {
            number,
            address: *address,
            program: program.clone(),
            arguments: arguments.clone(),
            environment: environment(number, ways.database.url(&servers.store), ways.broker.url(&servers.bus)),
            log: options.logs.as_ref().map(|folder: &PathBuf| folder.join(format!("host-{number}.log"))),
        };
        before(&servers, addresses.clone())?;
        let hosts = Hosts::start((0..).zip(&ways).zip(&addresses).map(host).collect());
        Ok(Self { hosts, ways, servers })
    }

    /// Does it, and says whether it really happened. What was stopped runs again on return.
    pub(crate) fn apply(&self, step: &Step) -> bool {
        let Servers { postgres, rabbit, .. } = &self.servers;
        match step.fault {
            Fault::HostKill => return self.hosts.kill(step.host).is_some(),
            Fault::HostPause => return self.pause_host(step),
            Fault::BrokerStop => {
                rabbit.stop();
                rabbit.start_again();
            }
            Fault::BrokerKill => {
                rabbit.kill9();
                rabbit.start_again();
            }
            Fault::BrokerPause => {
                rabbit.pause();
                std::thread::sleep(BROKER_PAUSE);
                rabbit.resume();
            }
            Fault::DatabaseStop => {
                postgres.stop_immediate();
                postgres.start_again();
            }
            Fault::DatabasePause => {
                postgres.pause();
                // Short enough that some statements only come late, long enough that some are given up.
                std::thread::sleep(Duration::from_secs(2 + step.shape % 12));
                postgres.resume();
            }
            Fault::BackendKill => return self.servers.kill_backends() > 0,
            Fault::Cut => return self.circle(step).any(|way| way.cut() > 0),
            Fault::Delay => return self.delay(step),
            Fault::HalfOpen => return self.half_open(step),
        }
        true
    }

    fn pause_host(&self, step: &Step) -> bool {
        let Some(host) = self.hosts.pause(step.host) else { return false };
        std::thread::sleep(HOST_PAUSE);
        self.hosts.resume(host);
        true
    }

    /// The ways to the step's server, that of its host first, then those to the other server.
    fn circle(&self, step: &Step) -> impl Iterator<Item = &Proxy> {
        let (first, count) = (step.host as usize, self.ways.len());
        [step.database, !step.database].into_iter().flat_map(move |database| {
            let ways = (0..count).map(move |n| &self.ways[(first + n) % count]);
            ways.map(move |ways| if database { &ways.database } else { &ways.broker })
        })
    }

    fn delay(&self, step: &Step) -> bool {
        let ways = &self.ways[step.host as usize % self.ways.len()];
        ways.delay(Duration::from_millis(50 + step.shape), DELAY_LASTS)
    }

    fn half_open(&self, step: &Step) -> bool {
        let Some(way) = self.circle(step).find(|way| way.open() > 0) else { return false };
        let directions = [Way::ToServer, Way::ToClient, Way::Both];
        way.half_open(directions[step.shape as usize % directions.len()]);
        // Some end before anybody notices, some long after.
        std::thread::sleep(Duration::from_secs(3 + step.shape % 10));
        let cut = way.cut();
        way.resume();
        cut > 0
    }
}

/// Hosts with short times, so that every end of an order is met within seconds; an order outlives most stops of a server,
/// or all of them would expire. The gateway decides about a payment as it did before, whichever host asks; where the host
/// was built with failpoints it fails at first for one payment in five, once in each process, so that there are timers.
/// Every second host sends all that it sends over the broker.
fn environment(number: u64, store: String, bus: String) -> Vec<(&'static str, String)> {
    let (heartbeat, local) = (format!("{HEARTBEAT}s"), number.is_multiple_of(2).to_string());
    let fixed = [
        ("SAGA__BUS__HEARTBEAT", heartbeat.as_str()),
        ("SAGA__BUS__LOCAL", local.as_str()),
        ("SAGA__PAYMENT__DELAY", "50ms"),
        ("SAGA__PAYMENT__SUCCESS_RATE", "0.5"),
        ("SAGA__PAYMENT__SEED", "1"),
        ("SAGA__EXPIRATION__AFTER", "12s"),
        ("SAGA__EXPIRATION__INTERVAL", "500ms"),
        ("SAGA__RETRY__INITIAL", "50ms"),
        // A payment may fail once in each of many processes, and that must not be the end of it, nor take for ever.
        ("SAGA__RETRY__MAX", "1s"),
        ("SAGA__RETRY__LIMIT", "100"),
        ("SAGA_FAILING_PAYMENTS", "5"),
        ("SAGA__LOG__FILTER", "warn,host::serve=info"),
    ];
    let urls = [("SAGA__STORE__URL", store), ("SAGA__BUS__URL", bus)];
    fixed.map(|(name, value)| (name, value.to_owned())).into_iter().chain(urls).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    #[test]
    fn given_no_connection_when_it_is_delayed_then_nothing_has_happened() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("amqp://{}", server.local_addr().unwrap());
        let ways = Ways { database: Proxy::to(&url), broker: Proxy::to(&url) };
        let delayed = || ways.delay(Duration::from_millis(1), Duration::ZERO);
        assert!(!delayed());
        let _connection = TcpStream::connect(ways.broker.address()).unwrap();
        let limit = Instant::now() + Duration::from_secs(30);
        while ways.broker.open() == 0 {
            assert!(Instant::now() < limit, "the connection is never there");
            std::thread::yield_now();
        }
        assert!(delayed());
    }
}
