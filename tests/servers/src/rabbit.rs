//! A private RabbitMQ.

mod node;

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::management;
use crate::process::Process;
use crate::programs;
use crate::tls::Certificates;
use crate::token::unique_name;
use crate::url::ServerUrl;

use node::{NODE, Node, USER, checked};

/// The variable that names a server which already runs.
const URL_VARIABLE: &str = "TEST_AMQP_URL";

/// So long a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// How a private server runs.
#[derive(Debug, Clone, Default)]
pub struct RabbitOptions {
    /// Whether it listens for TLS as well, with a certificate of a CA of its own; see [`Rabbit::amqps_url`].
    pub tls: bool,
    /// Whether its management interface is on; see [`Rabbit::management_url`]. It makes the start slower.
    pub management: bool,
}

/// A RabbitMQ server. A private one ends, and its folder is removed, when this is dropped or the process ends.
#[derive(Debug)]
pub struct Rabbit {
    url: String,
    own: Option<Node>,
    shared: bool,
}

impl Rabbit {
    /// The server that all tests of this process share: started at first use, never to be stopped. Take a
    /// [`vhost`](Self::vhost) of your own in it.
    ///
    /// With `TEST_AMQP_URL` it is the server named there. AMQP itself cannot create virtual hosts, so that its
    /// management interface must be on, at port 15672 of the same host or where `TEST_AMQP_MANAGEMENT_URL` says, and
    /// the user an administrator. The virtual hosts are called `test_…` and stay there.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Rabbit> = OnceLock::new();
        SHARED.get_or_init(|| match env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Self { url, own: None, shared: true },
            _ => Self { shared: true, ..Self::start() },
        })
    }

    /// A server of one's own, without TLS.
    pub fn start() -> Self {
        Self::start_with(&RabbitOptions::default())
    }

    /// A server of one's own.
    ///
    /// # Panics
    /// When RabbitMQ is not installed or does not start.
    pub fn start_with(options: &RabbitOptions) -> Self {
        let own = Node::start(options.clone());
        let url = format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", own.password, own.ports.amqp);
        Self { url, own: Some(own), shared: false }
    }

    /// The URL of the administrator, with the virtual host `/`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates a virtual host and gives its URL.
    pub fn vhost(&self) -> String {
        let name = unique_name();
        match &self.own {
            Some(own) => {
                own.eval(&format!(
                    r#"ok = rabbit_vhost:add(<<"{name}">>, <<"{USER}">>),
                    ok = rabbit_auth_backend_internal:set_permissions(
                        <<"{USER}">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"{USER}">>)."#
                ));
            }
            None => management::create_vhost(&self.url, &name),
        }
        ServerUrl::new(&self.url).with_path(&name)
    }

    /// The URL of the TLS listener, with the virtual host `/`; the certificate is for `localhost` and `127.0.0.1`.
    ///
    /// # Panics
    /// When the server was started without TLS.
    pub fn amqps_url(&self) -> String {
        let Node { password, ports, .. } = self.tls().0;
        format!("amqps://{USER}:{password}@127.0.0.1:{}/%2f", ports.amqps)
    }

    /// The certificate of the CA that signed the TLS listener's.
    pub fn ca_path(&self) -> &Path {
        &self.tls().1.ca
    }

    /// The certificate of a CA that did not, for tests of a client that must refuse.
    pub fn other_ca_path(&self) -> &Path {
        &self.tls().1.other_ca
    }

    /// Where the management interface is, with the administrator's name and password.
    ///
    /// # Panics
    /// When the server was started without.
    pub fn management_url(&self) -> String {
        let Node { options, password, ports, .. } = self.private();
        assert!(options.management, "the server has no management interface; start it with RabbitOptions");
        format!("http://{USER}:{password}@127.0.0.1:{}", ports.management)
    }

    /// Evaluates Erlang expressions in the broker, such as `rabbit_nodes:cluster_name().`, and gives the last value as
    /// Erlang writes it. Takes milliseconds, where [`ctl`](Self::ctl) takes a second.
    ///
    /// # Panics
    /// When they fail.
    pub fn eval(&self, expressions: &str) -> String {
        self.private().eval(expressions)
    }

    /// Runs `rabbitmqctl` against the server and gives what it wrote.
    ///
    /// # Panics
    /// When it fails.
    pub fn ctl<A: AsRef<str>>(&self, args: &[A]) -> String {
        let args = args.iter().map(AsRef::as_ref).collect::<Vec<_>>();
        let own = self.private();
        let mut command = Command::new(programs::rabbit("rabbitmqctl"));
        command.env_clear().envs(own.environment()).args(["--quiet", "--node", NODE]).args(&args);
        let output = command.stdin(Stdio::null()).output();
        checked(output, &format!("rabbitmqctl {}", args.join(" ")))
    }

    /// Stops as for a maintenance: connections are closed with a word (320, CONNECTION_FORCED).
    pub fn stop(&self) {
        let process = self.take();
        process.resume();
        process.signal(Signal::TERM);
        process.wait(STOP_LIMIT);
    }

    /// Kills all its processes.
    pub fn kill9(&self) {
        self.take().kill();
    }

    /// Halts all its processes: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.running(Process::pause);
    }

    /// Lets it run on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.running(Process::resume);
    }

    /// Starts it again after a stop or a kill: same ports, same data, same users. It accepts connections on return.
    pub fn start_again(&self) {
        let own = self.own();
        let mut process = lock(&own.process);
        assert!(process.is_none(), "RabbitMQ runs already");
        *process = Some(own.run().unwrap_or_else(|why| panic!("RabbitMQ does not start again: {why}")));
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        let path = self.private().folder.path().join("log/rabbit.log");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The private server, to be asked or told something that other tests do not notice.
    fn private(&self) -> &Node {
        self.own
            .as_ref()
            .unwrap_or_else(|| panic!("{URL_VARIABLE} names a server that only answers AMQP; take Rabbit::start()"))
    }

    fn own(&self) -> &Node {
        match &self.own {
            Some(own) if !self.shared => own,
            _ => panic!("the shared server is not to be touched: other tests use it; take Rabbit::start()"),
        }
    }

    fn tls(&self) -> (&Node, &Certificates) {
        let own = self.private();
        let certificates = own.certificates.as_ref();
        (
            own,
            certificates
                .unwrap_or_else(|| panic!("the server has no TLS; start it with RabbitOptions {{ tls: true }}")),
        )
    }

    fn take(&self) -> Process {
        lock(&self.own().process).take().unwrap_or_else(|| panic!("RabbitMQ does not run"))
    }

    fn running(&self, act: impl FnOnce(&Process)) {
        act(lock(&self.own().process).as_ref().unwrap_or_else(|| panic!("RabbitMQ does not run")));
    }
}

fn lock(process: &Mutex<Option<Process>>) -> MutexGuard<'_, Option<Process>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}
