//! A broker's process, files and settings.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::RabbitOptions;
use crate::folder::Folder;
use crate::port;
use crate::process::{Process, Program};
use crate::programs;
use crate::tls::Certificates;
use crate::token::secret;
use crate::wait::until;

/// So long a start may take, recovery after a crash included, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(180);

/// So long a broker that runs may take for the first bytes of its handshake.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// So many seconds an evaluated expression may take.
const EVAL_LIMIT: &str = "60";

/// So long the broker may refuse erl_call because the last one of its name has not left yet.
const EVAL_ENTRY_LIMIT: Duration = Duration::from_secs(10);

/// Another process may take a port between its choice and its use; it will not happen so often.
const START_TRIES: usize = 3;

/// The administrator of a private server. It is not `guest`, so that no test relies on a default.
pub(super) const USER: &str = "tester";

/// The name of the node; each has a port mapper of its own, so that it needs not be unique.
pub(super) const NODE: &str = "rabbit@localhost";

/// The management interface and what it needs.
const MANAGEMENT: [&str; 9] = [
    "amqp_client",
    "cowboy",
    "cowlib",
    "oauth2_client",
    "rabbit_common",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_web_dispatch",
    "ranch",
];

#[derive(Debug)]
pub(super) struct Node {
    /// The first to be dropped, which ends the processes.
    pub(super) folder: Folder,
    pub(super) process: Mutex<Option<Process>>,
    /// The port mapper, which a node asks where other nodes are; it runs on when the broker does not.
    mapper: Option<Process>,
    pub(super) ports: Ports,
    pub(super) options: RabbitOptions,
    pub(super) certificates: Option<Certificates>,
    pub(super) password: String,
    /// Held by whoever evaluates: erl_call names itself by the second, and the broker refuses two of one name.
    evaluating: Mutex<()>,
}

#[derive(Debug)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) amqps: u16,
    pub(super) management: u16,
    nodes: u16,
    mapper: u16,
}

impl Ports {
    fn free() -> Self {
        Self {
            amqp: port::free(),
            amqps: port::free(),
            management: port::free(),
            nodes: port::free(),
            mapper: port::free(),
        }
    }
}

impl Node {
    /// Starts a broker in a folder of its own.
    pub(super) fn start(options: RabbitOptions) -> Self {
        let folder = Folder::new("saga-rabbitmq-", "KILL");
        let certificates = options.tls.then(|| Certificates::new(&folder));
        let password = secret();
        let ports = Ports::free();
        let mut node = Self {
            process: Mutex::new(None),
            mapper: None,
            ports,
            options,
            certificates,
            password,
            folder,
            evaluating: Mutex::new(()),
        };
        node.prepare();
        let mut tried = 1;
        loop {
            match node.run_both() {
                Ok((mapper, process)) => {
                    node.mapper = Some(mapper);
                    node.process = Mutex::new(Some(process));
                    return node;
                }
                Err(why) if tried == START_TRIES => panic!("RabbitMQ does not start: {why}"),
                Err(_) => {
                    node.ports = Ports::free();
                    tried += 1;
                }
            }
        }
    }

    /// Writes what stays as it is however often the server starts.
    fn prepare(&self) {
        let cookie = self.folder.write(".erlang.cookie", secret());
        // Erlang takes no cookie that others may read.
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))
            .unwrap_or_else(|error| panic!("{} cannot be closed to others: {error}", cookie.display()));
        self.folder.write("enabled_plugins", if self.options.management { "[rabbitmq_management]." } else { "[]." });
        let plugins = self.plugins();
        let server = programs::rabbit("rabbitmq-server").canonicalize().unwrap_or_default();
        let installed = server.parent().and_then(Path::parent).map(|home| home.join("plugins")).unwrap_or_default();
        let entries = fs::read_dir(installed).into_iter().flatten().filter_map(|entry| entry.ok());
        let made = fs::create_dir(&plugins).and_then(|()| {
            entries
                .filter(|entry| self.needs(&entry.file_name().to_string_lossy()))
                .try_for_each(|entry| symlink(entry.path(), plugins.join(entry.file_name())))
        });
        made.unwrap_or_else(|error| panic!("{} cannot be filled: {error}", plugins.display()));
    }

    /// Whether the broker needs that plugin, which stands there as `name-version`.
    fn needs(&self, plugin: &str) -> bool {
        let name = plugin.split('-').next().unwrap_or_default();
        name == "rabbit" || (self.options.management && MANAGEMENT.contains(&name))
    }

    /// A folder with links to the plugins that are needed, the broker itself being one: at its start a node reads each
    /// that it finds, which takes two thirds of the time if all are there.
    fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    fn configuration(&self) -> String {
        let Ports { amqp, amqps, management, .. } = self.ports;
        let mut text = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             default_user = {USER}\n\
             default_pass = {}\n\
             log.console = false\n\
             log.file = rabbit.log\n\
             log.file.level = info\n\
             # The log of quorum queues would take up to half a gigabyte before it is compacted.\n\
             raft.wal_max_size_bytes = 33554432\n",
            self.password
        );
        if let Some(Certificates { ca, server, key, .. }) = &self.certificates {
            text += &format!(
                "listeners.ssl.1 = 127.0.0.1:{amqps}\n\
                 ssl_options.cacertfile = {}\n\
                 ssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\n\
                 ssl_options.verify = verify_none\n\
                 ssl_options.fail_if_no_peer_cert = false\n",
                ca.display(),
                server.display(),
                key.display()
            );
        }
        if self.options.management {
            text += &format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n");
        }
        text
    }

    /// What makes RabbitMQ's programs use this folder and these ports, and nothing of the system's server.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let Ports { nodes, mapper, .. } = self.ports;
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let variables = [
            ("PATH", env::var("PATH").unwrap_or_default()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("HOME", at("")),
            ("ERL_EPMD_ADDRESS", Ipv4Addr::LOCALHOST.to_string()),
            ("ERL_EPMD_PORT", mapper.to_string()),
            ("RABBITMQ_NODENAME", NODE.to_owned()),
            ("RABBITMQ_DIST_PORT", nodes.to_string()),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
            ("RABBITMQ_PLUGINS_DIR", self.plugins().display().to_string()),
            ("RABBITMQ_GENERATED_CONFIG_DIR", at("generated")),
            ("RABBITMQ_MNESIA_BASE", at("data")),
            ("RABBITMQ_LOG_BASE", at("log")),
            // Any port will do for the near end of rabbitmqctl; its own range has room for eleven at once.
            ("RABBITMQ_CTL_DIST_PORT_MIN", "0".to_owned()),
            ("RABBITMQ_CTL_DIST_PORT_MAX", "0".to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn run_both(&self) -> Result<(Process, Process), String> {
        self.folder.write("rabbitmq.conf", self.configuration());
        let port = self.ports.mapper.to_string();
        let program = self.program(&programs::erlang("epmd")).args(["-port", &port, "-address", "127.0.0.1"]);
        let mut mapper = Process::start(self.folder.path(), "epmd", &program);
        let started = until(START_LIMIT, "Erlang's port mapper", || {
            if mapper.ended().is_some() {
                return Some(false);
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.mapper)).is_ok().then_some(true)
        });
        if !started {
            return Err(mapper.log_tail());
        }
        match self.run() {
            Ok(process) => Ok((mapper, process)),
            Err(why) => {
                mapper.kill();
                Err(why)
            }
        }
    }

    /// Starts the server and waits until it accepts connections, or gives the end of its log.
    pub(super) fn run(&self) -> Result<Process, String> {
        let program = self.program(&programs::rabbit("rabbitmq-server"));
        let mut process = Process::start(self.folder.path(), "rabbitmq-server", &program);
        let started = until(START_LIMIT, "RabbitMQ to accept connections", || {
            if process.ended().is_some() {
                return Some(false);
            }
            greets(self.ports.amqp).then_some(true)
        });
        if started { Ok(process) } else { Err(process.log_tail()) }
    }

    fn program(&self, path: &Path) -> Program {
        let program = Program::new(path);
        self.environment().into_iter().fold(program, |program, (name, value)| program.env(&name, value))
    }

    /// Evaluates Erlang expressions in the broker.
    pub(super) fn eval(&self, expressions: &str) -> String {
        let _alone = self.evaluating.lock().unwrap_or_else(PoisonError::into_inner);
        let output = until(EVAL_ENTRY_LIMIT, "the broker to let erl_call in", || {
            let output = self.erl_call(expressions);
            let refused = |it: &Output| String::from_utf8_lossy(&it.stderr).contains("failed to connect to node");
            (!output.as_ref().is_ok_and(refused)).then_some(output)
        });
        let answer = checked(output, "erl_call");
        match answer.strip_prefix("{ok, ").and_then(|rest| rest.strip_suffix('}')) {
            Some(value) => value.to_owned(),
            None => panic!("{expressions}: {answer}"),
        }
    }

    fn erl_call(&self, expressions: &str) -> std::io::Result<Output> {
        let node = format!("127.0.0.1:{}", self.ports.nodes);
        let mut command = Command::new(programs::erlang("erl_call"));
        command.env_clear().envs(self.environment());
        command.args(["-r", "-timeout", EVAL_LIMIT, "-address", &node, "-e"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // A form ends with a dot and the end of its line. One that is refused reads none.
            let _ = input.write_all(format!("{}\n", expressions.trim_end()).as_bytes());
        }
        child.wait_with_output()
    }
}

/// Whether a broker answers there as one that is up does.
fn greets(port: u16) -> bool {
    let ask = || -> std::io::Result<[u8; 7]> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(GREETING_LIMIT))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut frame = [0; 7];
        stream.read_exact(&mut frame)?;
        Ok(frame)
    };
    // The first frame is a method on channel 0.
    ask().is_ok_and(|frame| frame[..3] == [1, 0, 0])
}

pub(super) fn checked(output: std::io::Result<Output>, what: &str) -> String {
    let output = output.unwrap_or_else(|error| panic!("{what} does not run: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    assert!(output.status.success(), "{what}: {said} {}", String::from_utf8_lossy(&output.stderr));
    said
}
