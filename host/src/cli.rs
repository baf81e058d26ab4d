//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use order_saga::Order;
use saga_core::{Clock, Machine, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::{self, TokenRequest};
use crate::check::{self, Options};
use crate::config::{Config, Roles};
use crate::serve::{Parts, Service};
use crate::{demo, health, stores, telemetry};

const EXAMPLES: &str = "Examples:
  saga-host                                             serve with the defaults, on 127.0.0.1:8080
  saga-host serve --config saga.toml                    serve as the file says
  SAGA__PAYMENT__DELAY=1s saga-host serve               the environment goes over the file
  saga-host migrate --config saga.toml                  make the tables, without serving
  SAGA__HTTP__LISTEN=127.0.0.1:8080 saga-host health    ask the service that listens there whether it is ready
  saga-host check --config saga.toml                    say whether what is stored is sound, while hosts work on it
  saga-host graph --format mermaid                      draw the order saga
  saga-host token --user anna --scope ops --ttl 1h      print a bearer token
  saga-host demo --orders 200                           run 200 orders in a temporary folder

The environment variable of a key is SAGA__SECTION__KEY, such as SAGA__AUTH__SECRET_FILE.";

const CHECK: &str = "Say whether what is stored is sound; exit code 0 if it is, 1 if not, 2 if it can not be looked at

Reads the store of this configuration, page by page, and writes nothing; hosts may work on it. Each page is read as it was at
one moment, and what looks wrong is read again before it is told. It says of each order
  - whether its history is one legal path of the table: no step missing, none twice, each message handled once by each
    endpoint, no timer fired that did not run, all ids of produced messages derived from their causes
  - whether the order, its saga, its notifications, the inbox and the dead letters agree with that history
  - whether each message that its steps have produced waits, was handled, or was given up
  - whether each message of it that waits to be sent has a cause in the history

What the database alone can not say: a message that is neither waiting nor handled is at a broker, or lost. On SQLite with the
embedded bus it is lost, because a row stays until its message is handled. On PostgreSQL other hosts may use RabbitMQ, whatever
bus.url says here: it is counted as `under way`, unless --at-rest says that the queues are empty, or that there are none. The
report says which of these it has assumed. What somebody has seen at a broker is compared with the history in the library,
by Machine::check_messages. Messages older than retention.inbox, and what others than the order process send, are not judged.

Dead letters are listed and are no violation. A state that this version does not know is one: check with the newest.";

/// Takes orders over REST and runs the order process.
#[derive(Debug, Parser)]
#[command(name = "saga-host", version, after_help = EXAMPLES)]
pub struct Cli {
    /// A TOML file with settings; environment variables SAGA__SECTION__KEY go over it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do; serve, if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGINT or SIGTERM; a second one ends at once
    #[command(after_help = "Examples:\n  saga-host serve --config saga.toml\n  saga-host serve --roles api,expiry")]
    Serve {
        /// What this host does, of api, saga, activities, expiry and relay; goes over host.roles. The rest is left to
        /// other hosts on the same PostgreSQL and RabbitMQ
        #[arg(long, value_name = "ROLES")]
        roles: Option<Roles>,
    },
    /// Make the tables that the store does not have
    #[command(after_help = "Example:\n  SAGA__STORE__URL=sqlite://data/orders.db saga-host migrate")]
    Migrate,
    /// Ask the service that runs with this configuration whether it is ready: exit code 0 if it is, else 1
    #[command(after_help = "Example:\n  SAGA__HTTP__LISTEN=127.0.0.1:8080 saga-host health")]
    Health,
    /// Say whether what is stored is sound; exit code 0 if it is, 1 if not, 2 if it can not be looked at
    #[command(
        long_about = CHECK,
        after_help = "Examples:\n  saga-host check --config saga.toml\n  \
                      SAGA__STORE__URL=sqlite://data/orders.db saga-host check --json"
    )]
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The broker's queues are empty, or there is none: what is neither waiting nor handled is lost
        #[arg(long)]
        at_rest: bool,
        /// How many violations, and how many dead letters, are listed; all are counted
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
    /// Print the order saga's table
    #[command(after_help = "Example:\n  saga-host graph --format dot | dot -Tsvg > order.svg")]
    Graph {
        /// In which form
        #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
        format: GraphFormat,
    },
    /// Print a bearer token, signed with auth.secret
    #[command(after_help = "Example:\n  curl -H \"Authorization: Bearer $(saga-host token --user anna)\" \
                            http://127.0.0.1:8080/api/orders")]
    Token {
        /// The user
        #[arg(long, value_parser = user)]
        user: String,
        /// The scopes, separated by spaces; `ops` opens the dead letters
        #[arg(long, default_value = "", value_parser = scope, hide_default_value = true)]
        scope: String,
        /// How long it is valid
        #[arg(long, default_value = "1h", value_parser = ttl)]
        ttl: Duration,
    },
    /// Run orders through the service, in a temporary folder with short delays, and show what became of them
    #[command(after_help = "Example:\n  saga-host demo --orders 200")]
    Demo {
        /// How many orders
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        orders: u32,
    },
}

/// A form of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A Mermaid state diagram
    Mermaid,
    /// A Graphviz digraph
    Dot,
    /// A Markdown table: every pair of state and event
    Table,
}

/// Why a command failed.
enum Failed {
    /// What was asked for can not be: exit code 2.
    Usage(String),
    /// It was done, and has told what is wrong: exit code 1.
    Unsound,
    /// It went wrong: exit code 1.
    Running(anyhow::Error),
}

impl From<crate::config::ConfigError> for Failed {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Running(error)
    }
}

impl Cli {
    /// Does it, and says how the process is to exit: 0 when done, 1 when it went wrong, 2 when it can not be.
    pub async fn run(self) -> ExitCode {
        match self.command().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failed::Usage(text)) => {
                eprintln!("saga-host: {text}");
                ExitCode::from(2)
            }
            Err(Failed::Unsound) => ExitCode::FAILURE,
            Err(Failed::Running(error)) => {
                eprintln!("saga-host: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    async fn command(self) -> Result<(), Failed> {
        let load = || Config::load(self.config.as_deref(), std::env::vars_os());
        match self.command.unwrap_or(Command::Serve { roles: None }) {
            Command::Serve { roles } => serve(&load()?.with_roles(roles)?).await,
            Command::Migrate => migrate(&load()?).await,
            Command::Health => ask(&load()?).await,
            Command::Check { json, at_rest, limit } => {
                look(&load()?, json, Options { at_rest, limit: limit.into() }).await
            }
            Command::Graph { format } => {
                print!("{}", graph(format));
                Ok(())
            }
            Command::Token { user, scope, ttl } => token(&load()?, &user, &scope, ttl),
            Command::Demo { orders } => Ok(demo::run(orders as usize).await?),
        }
    }
}

async fn serve(config: &Config) -> Result<(), Failed> {
    telemetry::start_logging(&config.log)?;
    let parts = parts(config)?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can not be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can not be heard")?;
    let service = Service::start(config, parts).await?;
    let stop = service.stopper();
    let signals = tokio::spawn(async move {
        const SIGINT: i32 = 130;
        const SIGTERM: i32 = 143;
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        stop.cancel();
        let code = tokio::select! { _ = interrupt.recv() => SIGINT, _ = terminate.recv() => SIGTERM };
        tracing::warn!("a second signal: ending at once; what is not finished is stored");
        std::process::exit(code);
    });
    let ended = service.ended().await;
    signals.abort();
    Ok(ended?)
}

#[cfg(feature = "failpoints")]
fn parts(config: &Config) -> Result<Parts, Failed> {
    use crate::failpoints::{CHARGES, FAILING_PAYMENTS, FailsFirst, KillAt, VARIABLE, WritesDown};
    let usage = |error: anyhow::Error| Failed::Usage(error.to_string());
    let mut parts = Parts::default();
    if let Ok(text) = std::env::var(VARIABLE) {
        parts.probe = Some(std::sync::Arc::new(KillAt::parse(&text).map_err(usage)?));
    }
    let mut gateway = crate::serve::by_chance(config)?;
    if let Ok(path) = std::env::var(CHARGES) {
        gateway = std::sync::Arc::new(WritesDown::to(&path, gateway).map_err(usage)?);
    }
    if let Ok(text) = std::env::var(FAILING_PAYMENTS) {
        gateway = std::sync::Arc::new(FailsFirst::parse(&text, gateway).map_err(usage)?);
    }
    parts.gateway = Some(gateway);
    Ok(parts)
}

#[cfg(not(feature = "failpoints"))]
fn parts(_: &Config) -> Result<Parts, Failed> {
    Ok(Parts::default())
}

async fn migrate(config: &Config) -> Result<(), Failed> {
    let applied = stores::migrate(config).await?;
    match applied.len() {
        0 => println!("{}: nothing to do", config.store),
        count => println!("{}: {count} migrations applied", config.store),
    }
    Ok(())
}

async fn ask(config: &Config) -> Result<(), Failed> {
    let listen = config.http.listen;
    if listen.port() == 0 {
        let text = format!("http.listen = {listen}: expected the port that the service listens on, to ask it");
        return Err(Failed::Usage(text));
    }
    Ok(health::ready(listen).await?)
}

async fn look(config: &Config, json: bool, options: Options) -> Result<(), Failed> {
    let checked = check::check(config, options, SystemClock.now()).await;
    let report = checked.map_err(|error| Failed::Usage(format!("{error:#}")))?;
    if json {
        println!("{}", serde_json::to_string(&report).context("the report can not be written")?);
    } else {
        println!("{report}");
    }
    if report.is_sound() { Ok(()) } else { Err(Failed::Unsound) }
}

/// The order saga's table in a form.
pub fn graph(format: GraphFormat) -> String {
    let machine = Machine::<Order>::new();
    match format {
        GraphFormat::Mermaid => machine.mermaid(),
        GraphFormat::Dot => machine.dot(),
        GraphFormat::Table => machine.table(),
    }
}

fn token(config: &Config, user: &str, scope: &str, ttl: Duration) -> Result<(), Failed> {
    let Some(secret) = &config.auth.secret else {
        let text = "auth.secret_file (or auth.secret) is not set: expected the key that tokens are signed with, at least \
                    32 bytes, the same as the service has";
        return Err(Failed::Usage(text.to_owned()));
    };
    let request = TokenRequest { user, scope, now: SystemClock.now(), ttl };
    println!("{}", auth::issue(&config.auth, secret, request)?);
    Ok(())
}

fn user(text: &str) -> Result<String, String> {
    let expected = || "a name of 1 to 200 characters, none of them a control character, is expected".to_owned();
    auth::is_user(text).then(|| text.to_owned()).ok_or_else(expected)
}

fn scope(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    plain.then(|| text.to_owned()).ok_or_else(|| "words separated by spaces are expected".to_owned())
}

fn ttl(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let duration = humantime::parse_duration(text).ok().filter(|it| (Duration::from_secs(1)..=MAX).contains(it));
    duration.ok_or_else(|| "a duration such as 1h or 30days, from 1s to 365days, is expected".to_owned())
}
