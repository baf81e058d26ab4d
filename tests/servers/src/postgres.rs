//! A private PostgreSQL.

use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use crate::folder::Folder;
use crate::port;
use crate::process::{Process, Program};
use crate::programs;
use crate::token::{secret, unique_name};
use crate::url::{ServerUrl, decode};
use crate::wait::until;

/// The variable that names a server which already runs.
const URL_VARIABLE: &str = "TEST_DATABASE_URL";

/// So long a start may take, recovery after a crash included, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(120);

/// So long a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Another process may take a port between its choice and its use; it will not happen so often.
const START_TRIES: usize = 3;

/// The superuser of a private server. It is nobody's name, so that no test relies on `postgres`.
const USER: &str = "tester";

/// How a private server runs.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Whether a commit waits for the disk, as it does in production. Without it a server is faster, and still loses
    /// nothing when it is killed: that takes a crash of the whole machine.
    pub durable: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { durable: true }
    }
}

/// A PostgreSQL server. A private one ends, and its folder is removed, when this is dropped or the process ends.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    own: Option<Own>,
    shared: bool,
}

#[derive(Debug)]
struct Own {
    /// The first to be dropped, which ends the process.
    folder: Folder,
    process: Mutex<Option<Process>>,
    port: u16,
    options: PostgresOptions,
    account: Option<Account>,
}

/// The account that runs the server when the tests run as root, as which PostgreSQL refuses to run.
#[derive(Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// The server that all tests of this process share: started at first use, not durable, never to be stopped. Take a
    /// [`database`](Self::database) of your own in it.
    ///
    /// With `TEST_DATABASE_URL` it is the server named there, where that user must be allowed to create databases. They
    /// are called `test_…` and stay there.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| match env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Self { url, own: None, shared: true },
            _ => Self { shared: true, ..Self::start_with(PostgresOptions { durable: false }) },
        })
    }

    /// A server of one's own, durable.
    pub fn start() -> Self {
        Self::start_with(PostgresOptions::default())
    }

    /// A server of one's own.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn start_with(options: PostgresOptions) -> Self {
        let password = secret();
        Self::run(&password, options, |own| own.initialise(&password))
    }

    /// A copy of this server that follows it and may only be read, until it is [promoted](Self::promote). From now on a
    /// commit of this server is acknowledged when the copy has it, too (`synchronous_standby_names`).
    ///
    /// # Panics
    /// When the copy cannot be made, or does not follow.
    pub fn standby(&self) -> Self {
        let login = ServerUrl::new(&self.url).login().map(|(_, password)| decode(password));
        let password = login.unwrap_or_else(|| panic!("a private server has a password"));
        let standby = Self::run(&password, self.own().options.clone(), |own| own.copy_from(self.own().port, &password));
        self.query(&self.url, "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.query(&self.url, "SELECT pg_reload_conf()");
        until(START_LIMIT, "the standby to follow", || {
            let following = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')";
            (self.query(&self.url, following) == "1").then_some(())
        });
        standby
    }

    /// Makes a standby a server of its own, which may be written to on return.
    pub fn promote(&self) {
        assert_eq!(self.query(&self.url, "SELECT pg_promote()"), "t", "the standby is not promoted");
    }

    fn run(password: &str, options: PostgresOptions, initialise: impl FnOnce(&Own)) -> Self {
        let account = geteuid().is_root().then(Account::of_postgres);
        let folder = Folder::new("saga-postgres-", "QUIT");
        if let Some(Account { uid, gid }) = account {
            chown(folder.path(), Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("the folder cannot be given to the user postgres: {error}"));
        }
        let mut own = Own { process: Mutex::new(None), port: port::free(), options, account, folder };
        initialise(&own);
        for tried in 1.. {
            match own.run() {
                Ok(process) => {
                    own.process = Mutex::new(Some(process));
                    break;
                }
                Err(why) if tried == START_TRIES => panic!("PostgreSQL does not start: {why}"),
                Err(_) => own.port = port::free(),
            }
        }
        let url = format!("postgres://{USER}:{password}@127.0.0.1:{}/postgres", own.port);
        Self { url, own: Some(own), shared: false }
    }

    /// The URL of the superuser, with the database `postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates an empty database and gives its URL.
    pub fn database(&self) -> String {
        let name = unique_name();
        // From template0, which nobody can be connected to, so that it can be copied at any time.
        self.query(&self.url, &format!("CREATE DATABASE {name} TEMPLATE template0"));
        ServerUrl::new(&self.url).with_path(&name)
    }

    /// Runs statements with `psql`, as the user and in the database of `url`; gives the rows, columns separated by `|`.
    ///
    /// # Panics
    /// When they fail.
    pub fn query(&self, url: &str, sql: &str) -> String {
        let server = ServerUrl::new(url);
        let mut command = Command::new(programs::postgres("psql"));
        if let Some((_, password)) = server.login() {
            command.env("PGPASSWORD", decode(password));
        }
        let output = command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d"])
            .arg(server.without_password())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("psql does not start: {error}"));
        assert!(output.status.success(), "psql, {sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Everything that the database of `url` holds, as statements that make it again, by `pg_dump`.
    ///
    /// # Panics
    /// When it fails.
    pub fn dump(&self, url: &str) -> String {
        let server = ServerUrl::new(url);
        let mut command = Command::new(programs::postgres("pg_dump"));
        if let Some((_, password)) = server.login() {
            command.env("PGPASSWORD", decode(password));
        }
        let output = command
            .args(["--inserts", "--no-owner", "--no-privileges", "-d"])
            .arg(server.without_password())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("pg_dump does not start: {error}"));
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        // Comments, settings of the session, and what only psql understands, are not what is stored.
        let said = |line: &&str| {
            let beside = ["--", "\\", "SET ", "SELECT pg_catalog.set_config("];
            !line.is_empty() && !beside.iter().any(|begins| line.starts_with(begins))
        };
        text.lines().filter(said).map(|line| format!("{line}\n")).collect()
    }

    /// Stops as for a maintenance: connections are closed with a word, transactions rolled back, a checkpoint is made.
    pub fn stop_fast(&self) {
        self.stop_by(Signal::INT);
    }

    /// Stops at once: connections are dropped, the next start recovers from the log.
    pub fn stop_immediate(&self) {
        self.stop_by(Signal::QUIT);
    }

    /// Kills all its processes; the next start recovers from the log.
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

    /// Starts it again after a stop or a kill: same port, same data, same users. It accepts connections on return.
    pub fn start_again(&self) {
        let own = self.own();
        let mut process = lock(&own.process);
        assert!(process.is_none(), "PostgreSQL runs already");
        *process = Some(own.run().unwrap_or_else(|why| panic!("PostgreSQL does not start again: {why}")));
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        let path = self.own().folder.path().join("postgres.log");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    fn stop_by(&self, signal: Signal) {
        let process = self.take();
        process.resume();
        process.signal(signal);
        process.wait(STOP_LIMIT);
    }

    fn own(&self) -> &Own {
        match &self.own {
            Some(own) if !self.shared => own,
            _ => panic!("the shared server is not to be touched: other tests use it; take Postgres::start()"),
        }
    }

    fn take(&self) -> Process {
        lock(&self.own().process).take().unwrap_or_else(|| panic!("PostgreSQL does not run"))
    }

    fn running(&self, act: impl FnOnce(&Process)) {
        act(lock(&self.own().process).as_ref().unwrap_or_else(|| panic!("PostgreSQL does not run")));
    }
}

impl Own {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn initialise(&self, password: &str) {
        let file = self.folder.write("password", password);
        if let Some(Account { uid, gid }) = self.account {
            chown(&file, Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("a file cannot be given to the user postgres: {error}"));
        }
        let program = self.program("initdb").args(["--username", USER, "--auth=scram-sha-256", "--pwfile"]);
        let program = program.args([file.as_path()]);
        let program = program.args(["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions", "-D"]);
        self.fill("initdb", &program.args([self.data()]));
    }

    fn copy_from(&self, port: u16, password: &str) {
        let program = self.program("pg_basebackup").env("PGPASSWORD", password).args(["--write-recovery-conf"]);
        let program = program.args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--host=127.0.0.1"]);
        let program = program.args([format!("--port={port}"), format!("--username={USER}"), "--pgdata".to_owned()]);
        self.fill("pg_basebackup", &program.args([self.data()]));
    }

    /// Runs what makes the server's data.
    fn fill(&self, name: &str, program: &Program) {
        let process = Process::start(self.folder.path(), name, program);
        let log = self.folder.path().join(format!("{name}.log"));
        let status = process.wait(START_LIMIT);
        let said = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        assert!(status.success(), "{name}: {}", said());
    }

    /// Starts the server and waits until it accepts connections, or gives the end of its log.
    fn run(&self) -> Result<Process, String> {
        let on = |setting: &str, on: bool| format!("{setting}={}", if on { "on" } else { "off" });
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            // In the folder, so that nothing is left in /dev/shm of a server that was killed.
            "dynamic_shared_memory_type=mmap".to_owned(),
            on("fsync", self.options.durable),
            on("full_page_writes", self.options.durable),
        ];
        let program = self.program("postgres").args(["-D"]).args([self.data()]);
        let program = program.args(settings.iter().flat_map(|setting| ["-c", setting]));
        let mut process = Process::start(self.folder.path(), "postgres", &program);
        let started = until(START_LIMIT, "PostgreSQL to accept connections", || {
            if process.ended().is_some() {
                return Some(false);
            }
            self.is_ready(process.id()).then_some(true)
        });
        if started { Ok(process) } else { Err(process.log_tail()) }
    }

    /// Whether the server with that process id says so in its lock file, which is where `pg_ctl` looks as well.
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        let first = lines.next().and_then(|line| line.trim().parse::<u32>().ok());
        first == Some(pid) && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }

    fn program(&self, name: &str) -> Program {
        let program = match &self.account {
            Some(Account { uid, gid }) => Program::new("setpriv")
                .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()])
                .args([programs::postgres(name)]),
            None => Program::new(programs::postgres(name)),
        };
        // Messages of the server are read by people and tests, whatever language the machine speaks.
        program.env("LC_ALL", "C")
    }
}

impl Account {
    fn of_postgres() -> Self {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user = fields.find(|fields| fields.first() == Some(&"postgres"));
        let id = |at: usize| user.as_ref()?.get(at)?.parse::<u32>().ok();
        match (id(2), id(3)) {
            (Some(uid), Some(gid)) => Self { uid, gid },
            _ => {
                panic!("PostgreSQL does not run as root, and there is no user postgres; run the tests as another user")
            }
        }
    }
}

fn lock(process: &Mutex<Option<Process>>) -> MutexGuard<'_, Option<Process>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}
