//! The configuration: defaults, under a TOML file, under the environment.
//!
//! Every key stands once, in one table; whatever is wrong is told in one line that names key, value, where it came
//! from and what is expected, and never shows a secret.

mod error;
mod keys;
mod redact;
mod roles;
mod sources;
mod url;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use saga_core::{Retention, RetryPolicy};
use secrecy::SecretString;

pub use error::{ConfigError, Origin};
pub use keys::key_names;
pub use redact::redact_url;
pub use roles::Roles;
pub use url::{BusUrl, ServerUrl, StoreUrl};

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http.*`
    pub http: HttpConfig,
    /// `host.roles`
    pub roles: Roles,
    /// `store.url`
    pub store: StoreUrl,
    /// `store.connections`: how many connections to PostgreSQL at the most.
    pub connections: u32,
    /// `bus.url`
    pub bus: BusUrl,
    /// The other keys of `bus.*`
    pub rabbitmq: RabbitMqConfig,
    /// `retention.*`
    pub retention: Retention,
    /// `payment.*`
    pub payment: PaymentConfig,
    /// `expiration.*`
    pub expiration: ExpirationConfig,
    /// `retry.*`
    pub retry: RetryPolicy,
    /// `auth.*`
    pub auth: AuthConfig,
    /// `log.*`
    pub log: LogConfig,
    /// `shutdown.drain`: how long a shutdown may take before what is in hand is left to the next start.
    pub drain: Duration,
}

/// Where the service listens.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How many connections there may be at the same time; further ones wait until one ends.
    pub connections: usize,
}

/// How RabbitMQ is used.
#[derive(Debug, Clone)]
pub struct RabbitMqConfig {
    /// The kind of the queues that are declared.
    pub queues: QueueKind,
    /// How often each side says that it lives; one that is silent for twice as long is given up.
    pub heartbeat: Duration,
    /// Whom TLS trusts, a PEM file; the machine's own authorities if not set.
    pub ca_file: Option<PathBuf>,
    /// How often a message may be delivered without being handled, before it is a dead letter.
    pub delivery_limit: u32,
    /// Into how many shards the orders are parted, over whichever bus.
    pub shards: usize,
    /// Whether a command to an endpoint of this host goes straight there, and not over the broker.
    pub local: bool,
}

/// A kind of queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// Kept by a quorum of brokers; deliveries are counted.
    Quorum,
    /// Kept by one broker.
    Classic,
}

/// The pretended payment gateway.
#[derive(Debug, Clone)]
pub struct PaymentConfig {
    /// How long a payment takes.
    pub delay: Duration,
    /// The share that is approved, from 0 to 1.
    pub success_rate: f64,
    /// Makes the outcomes the same at each run.
    pub seed: Option<u64>,
    /// How many payments wait at the same time.
    pub concurrency: usize,
}

/// The expiry job.
#[derive(Debug, Clone)]
pub struct ExpirationConfig {
    /// How often it looks.
    pub interval: Duration,
    /// How long an order may stand still.
    pub after: Duration,
}

/// Who may come in.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// How users are told apart.
    pub mode: AuthMode,
    /// The key that tokens are signed with; always there under [`AuthMode::Jwt`].
    pub secret: Option<SecretString>,
    /// Who issues the tokens.
    pub issuer: String,
    /// Whom the tokens are for.
    pub audience: String,
}

/// How users are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Not at all; allowed on a loopback address only.
    None,
    /// By a bearer token, HS256.
    Jwt,
}

/// How the log looks.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Its format; not set: text on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// What is logged, as tracing directives.
    pub filter: String,
}

/// A format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Connections at the same time: fewer than the 1,024 descriptors that a process is commonly given, so that store and broker
/// find theirs. A proxy in front needs far fewer.
const CONNECTIONS: usize = 512;

impl Default for Config {
    fn default() -> Self {
        Self {
            http: HttpConfig { listen: SocketAddr::from(([127, 0, 0, 1], 8080)), connections: CONNECTIONS },
            roles: Roles::ALL,
            store: StoreUrl::Sqlite("data/orders.db".into()),
            connections: 16,
            bus: BusUrl::Embedded,
            rabbitmq: RabbitMqConfig {
                queues: QueueKind::Quorum,
                heartbeat: Duration::from_secs(5),
                ca_file: None,
                delivery_limit: 20,
                shards: 1,
                local: true,
            },
            retention: Retention::default(),
            payment: PaymentConfig {
                delay: Duration::from_secs(5),
                success_rate: 0.5,
                seed: None,
                concurrency: 10_000,
            },
            expiration: ExpirationConfig { interval: Duration::from_secs(60), after: Duration::from_secs(600) },
            retry: RetryPolicy::default(),
            auth: AuthConfig {
                mode: AuthMode::None,
                secret: None,
                issuer: "saga-host".to_owned(),
                audience: "saga-host".to_owned(),
            },
            log: LogConfig { format: None, filter: "info".to_owned() },
            drain: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Reads the configuration: defaults, under `file`, under the variables of `environment` that begin with `SAGA__`.
    ///
    /// # Errors
    /// The first thing that is wrong, in one line.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = sources::Settings::default();
        if let Some(path) = file {
            sources::read_file(path, &mut settings)?;
        }
        sources::read_environment(environment, &mut settings)?;
        let mut config = Self::default();
        for setting in settings.iter() {
            keys::apply(&mut config, setting)?;
        }
        config.check(&settings)?;
        Ok(config)
    }

    /// What no key can tell alone.
    fn check(&self, settings: &sources::Settings) -> Result<(), ConfigError> {
        if self.retry.initial > self.retry.max {
            let max = humantime::format_duration(self.retry.max);
            let initial = humantime::format_duration(self.retry.initial).to_string();
            let expected = format!("a duration no longer than retry.max, which is {max}");
            return Err(ConfigError::value("retry.initial", &initial, settings.origin("retry.initial"), expected));
        }
        self.check_roles(settings)?;
        match self.auth.mode {
            AuthMode::Jwt if self.auth.secret.is_none() => {
                let expected = "auth.secret_file (or auth.secret) to be set as well: the key that tokens are signed with, \
                                at least 32 bytes";
                Err(ConfigError::value("auth.mode", "jwt", settings.origin("auth.mode"), expected))
            }
            AuthMode::None if !self.http.listen.ip().is_loopback() => {
                let listen = self.http.listen.to_string();
                let expected = "a loopback address such as 127.0.0.1:8080 while auth.mode is none, because anybody who \
                                reaches another one could order for anybody; to listen there, set auth.mode to jwt and \
                                auth.secret_file to a file with at least 32 bytes";
                Err(ConfigError::value("http.listen", &listen, settings.origin("http.listen"), expected))
            }
            _ => Ok(()),
        }
    }

    /// The same with other roles, if any are named: the command line goes over everything.
    ///
    /// # Errors
    /// When others could not do the rest.
    pub fn with_roles(mut self, roles: Option<Roles>) -> Result<Self, ConfigError> {
        self.roles = roles.unwrap_or(self.roles);
        self.check_roles(&sources::Settings::default())?;
        Ok(self)
    }

    /// What one host leaves to others, those must be able to reach.
    fn check_roles(&self, settings: &sources::Settings) -> Result<(), ConfigError> {
        if self.roles == Roles::ALL || (self.store.is_shared() && self.bus.is_shared()) {
            return Ok(());
        }
        let (key, shown, expected) = if self.store.is_shared() {
            ("bus.url", self.bus.to_string(), "amqp://… while host.roles leaves something to other hosts")
        } else {
            ("store.url", self.store.to_string(), "postgres://… while host.roles leaves something to other hosts")
        };
        Err(ConfigError::value(key, &shown, settings.origin(key), expected))
    }
}
