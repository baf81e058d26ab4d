//! Where the database is, and the connections to it.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres};

use super::error::of_statement;
use crate::store::StoreError;

/// Connections for the flow: a load, a commit, a relay's sweep and a settlement for each of a few endpoints at once. More
/// would only wait for each other in the server.
pub(super) const CONNECTIONS: u32 = 10;
/// Connections for the application's own queries, which must not keep the flow from its connections.
const READERS: u32 = 5;
/// How long anybody waits for a connection: within a request's patience, and longer than a server needs to restart.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that the server works on one statement; the largest batches take a tenth of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a statement waits for rows that another transaction has; then it counts as a conflict. Longer than
/// the server needs to see a deadlock (1 s).
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that a transaction may wait for its client, who may be suspended or cut off, while others wait for its rows.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that anybody waits for the answer to one query, or to one transaction: longer than the server takes to
/// give up by itself, so it is the network that is at fault, and the connection is given up.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a reader that is given back may take to show that it still works.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements kept prepared on a connection: those of the store, and of the application's writers.
const PREPARED: usize = 256;

/// Ends a transaction that a cancelled call may have left open. `ROLLBACK` alone would make the server warn of each
/// connection that has none.
const RESET: &str = "BEGIN; ROLLBACK";

/// What every session of the flow works under, whatever the role's or the database's defaults are. A plan that was made
/// when the tables were empty serves when they are full, so none may scan a table; and no plan is made anew for each
/// batch. What is committed is durable, unless the server is told to be more careful still.
const FLOW_SETTINGS: &str = "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('enable_seqscan', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('jit', 'off', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END";

/// What every session of the application's queries works under: they can not write.
const READER_SETTINGS: &str =
    "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false),
    set_config('default_transaction_read_only', 'on', false)";

/// What the session works under that keeps the host's lease: it has nothing that must outlive the server.
const WATCH_SETTINGS: &str = "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false),
    set_config('synchronous_commit', 'off', false), set_config('enable_seqscan', 'off', false),
    set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false)";

/// The place of a database, and the connections to it.
#[derive(Clone)]
pub(super) struct Database {
    options: PgConnectOptions,
    /// Of the flow.
    pub(super) flow: PgPool,
    /// Of the application's queries.
    pub(super) readers: PgPool,
}

impl Database {
    /// Reads the URL; nothing is connected yet.
    pub(super) fn at(url: &str, connections: u32, application: &str) -> Result<Self, StoreError> {
        let options = read_url(url)?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name(application),
        };
        let options = options.statement_cache_capacity(PREPARED).disable_statement_logging();
        let flow = pool(connections, FLOW_SETTINGS).connect_lazy_with(options.clone());
        // A reader may be given back in the middle of a query whose answer will never come: it must not be waited for.
        let readers = pool(READERS, READER_SETTINGS).after_release(|connection, _| {
            Box::pin(async move {
                Ok(tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await.is_ok_and(|it| it.is_ok()))
            })
        });
        let readers = readers.connect_lazy_with(options.clone());
        Ok(Self { options, flow, readers })
    }

    /// A connection of the pool.
    pub(super) async fn acquire(&self, pool: &PgPool, what: &str) -> Result<PoolConnection<Postgres>, StoreError> {
        pool.acquire().await.map_err(|error| {
            if !matches!(error, sqlx::Error::PoolTimedOut) {
                return of_statement(what, &error);
            }
            // A server that refuses connections and a pool that has none left are one to sqlx.
            let most = pool.options().get_max_connections();
            let busy = pool.size().saturating_sub(u32::try_from(pool.num_idle()).unwrap_or(0));
            StoreError::Unavailable(if busy < most {
                format!("{what}: {} takes no connection", self.place())
            } else {
                format!("{what}: all {most} connections are busy")
            })
        })
    }

    /// The rows of one query. A connection that may not be sound afterwards is not used again.
    pub(super) async fn fetch(
        &self,
        pool: &PgPool,
        what: &str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut connection = self.acquire(pool, what).await?;
        let answer = in_time(what, query.fetch_all(&mut *connection)).await;
        keep_if_sound(&mut connection, &answer);
        answer
    }

    /// How many rows one statement has touched; as [`Database::fetch`], in the flow.
    pub(super) async fn execute(&self, what: &str, query: Query<'_, Postgres, PgArguments>) -> Result<u64, StoreError> {
        let mut connection = self.acquire(&self.flow, what).await?;
        let answer = in_time(what, query.execute(&mut *connection)).await;
        keep_if_sound(&mut connection, &answer);
        answer.map(|done| done.rows_affected())
    }

    /// A connection of its own, outside the pools, with the server's settings.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connecting = tokio::time::timeout(ACQUIRE_TIMEOUT, self.options.connect()).await;
        let connected = connecting.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        connected.map_err(|error| of_statement(format_args!("{} can not be reached", self.place()), &error))
    }

    /// A pool of one connection, for who listens.
    pub(super) fn watch(&self) -> PgPool {
        pool(1, WATCH_SETTINGS).max_lifetime(None).idle_timeout(None).connect_lazy_with(self.options.clone())
    }

    /// Where it is, for people; without user and password.
    pub(super) fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or(self.options.get_username());
        match self.options.get_socket() {
            Some(socket) => format!("{}/{database}", socket.display()),
            None => format!("{}:{}/{database}", self.options.get_host(), self.options.get_port()),
        }
    }
}

/// What `answering` answers, or that it does not in time.
pub(super) async fn in_time<T>(
    what: &str,
    answering: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answering).await {
        Ok(answer) => answer.map_err(|error| of_statement(what, &error)),
        Err(_) => Err(StoreError::Unavailable(format!("{what}: the server has not answered for {ANSWER_TIMEOUT:?}"))),
    }
}

/// After an answer that tells nothing about the connection, it is closed.
pub(super) fn keep_if_sound<T>(connection: &mut PoolConnection<Postgres>, answer: &Result<T, StoreError>) {
    if matches!(answer, Err(StoreError::Unavailable(_) | StoreError::Corrupt(_))) {
        connection.close_on_drop();
    }
}

fn pool(connections: u32, settings: &'static str) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(async move { connection.execute(RESET).await.map(|_| true) }))
        .after_connect(move |connection, _| {
            Box::pin(async move {
                let settings = sqlx::query(settings).persistent(false);
                let settings = settings.bind(millis(STATEMENT_TIMEOUT)).bind(millis(LOCK_TIMEOUT));
                settings.bind(millis(IDLE_TIMEOUT)).execute(connection).await.map(drop)
            })
        })
}

/// A duration as the server's settings have it.
pub(super) fn millis(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// What may stand in the URL behind the question mark; a name that is misspelt must not turn encryption off.
const PARAMETERS: [&str; 19] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "",
];

/// The options that the URL says. It may hold a password, so it is never repeated.
fn read_url(url: &str) -> Result<PgConnectOptions, StoreError> {
    let unusable = |why: &dyn Display| {
        StoreError::Unavailable(format!(
            "the URL is no PostgreSQL database's: {why}; expected postgres://user@host:5432/database?sslmode=verify-full"
        ))
    };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(unusable(&"it does not begin with postgres://"));
    }
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters).split('&');
    let mut names = parameters.map(|parameter| parameter.split('=').next().unwrap_or_default());
    if let Some(name) = names.find(|name| !PARAMETERS.contains(name) && !name.starts_with("options[")) {
        // What is no name may be a part of a password that has a question mark.
        let is_name = name.chars().all(|char| char.is_ascii_lowercase() || matches!(char, '-' | '_'));
        return Err(if is_name {
            unusable(&format_args!("it has the parameter {name:?}, which nobody reads"))
        } else {
            unusable(&"what stands behind its question mark is no parameter; in a password, write %3F")
        });
    }
    PgConnectOptions::from_str(url).map_err(|error| unusable(&error))
}
