//! Where the database is, and the connections to it.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres};

use super::connections::{ACQUIRE_TIMEOUT, Connections, Lent};
use super::error::of_statement;
use crate::mutation::{Mutation, is_out};
use crate::store::StoreError;

/// Connections for the flow: a load, a commit, a relay's sweep and a settlement for each of a few endpoints at once. More
/// would only wait for each other in the server.
pub(super) const CONNECTIONS: u32 = 10;
/// Connections for the application's own queries, which must not keep the flow from its connections.
const READERS: u32 = 5;
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

/// What every session of the flow works under, whatever the role's or the database's defaults are. A plan that was made
/// when the tables were empty serves when they are full, so none may scan a table; and no plan is made anew for each
/// batch. What is committed is durable, unless the server is told to be more careful still.
const FLOW: &str = "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('enable_seqscan', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('jit', 'off', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END";

/// What every session of the application's queries works under: they can not write.
const READER: &str = "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false),
    set_config('default_transaction_read_only', 'on', false)";

/// What the session works under that keeps the host's lease: it has nothing that must outlive the server.
const WATCH: &str = "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false),
    set_config('synchronous_commit', 'off', false), set_config('enable_seqscan', 'off', false),
    set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false)";

/// Ends a transaction that a cancelled call has left open on a reader: sqlx gives it back all the same. `ROLLBACK` alone
/// would make the server warn of each connection that has none.
const RESET: &str = "BEGIN; ROLLBACK";

/// The place of a database, and the connections to it.
pub(super) struct Database {
    options: PgConnectOptions,
    flow: Connections,
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
        let readers = PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    let reset = if is_out(Mutation::Rollback) { "" } else { RESET };
                    connection.execute(reset).await.map(|_| true)
                })
            })
            .after_connect(|connection, _| Box::pin(prepare(connection, READER)))
            // It may come back in the middle of a query whose answer never comes, which must not be waited for.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let answer = tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await;
                    Ok(matches!(answer, Ok(Ok(()))))
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { options, flow: Connections::new(connections), readers })
    }

    /// A connection of the flow.
    pub(super) async fn take(&self, what: &str) -> Result<Lent<'_>, StoreError> {
        let connect = async {
            let mut connection = self.connect().await?;
            in_time(what, prepare(&mut connection, FLOW)).await?;
            Ok(connection)
        };
        self.flow.take(what, connect).await
    }

    /// The rows of one query of the flow.
    pub(super) async fn ask(
        &self,
        what: &str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut lent = self.take(what).await?;
        let answer = in_time(what, query.fetch_all(&mut lent.connection)).await;
        lent.give_back(is_sound(&answer));
        answer
    }

    /// How many rows one statement of the flow has touched.
    pub(super) async fn tell(&self, what: &str, query: Query<'_, Postgres, PgArguments>) -> Result<u64, StoreError> {
        let mut lent = self.take(what).await?;
        let answer = in_time(what, query.execute(&mut lent.connection)).await;
        lent.give_back(is_sound(&answer));
        answer.map(|done| done.rows_affected())
    }

    /// The rows of one query that an application or an operator asks.
    pub(super) async fn look(
        &self,
        what: &str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let acquired = self.readers.acquire().await;
        let mut connection = acquired.map_err(|error| match error {
            // A server that takes no connection and readers that are all busy are one to sqlx.
            sqlx::Error::PoolTimedOut if self.readers.size() < READERS => {
                StoreError::Unavailable(format!("{what}: {} takes no connection", self.place()))
            }
            sqlx::Error::PoolTimedOut => {
                StoreError::Unavailable(format!("{what}: all {READERS} connections for reading are busy"))
            }
            error => of_statement(what, &error),
        })?;
        let answer = in_time(what, query.fetch_all(&mut *connection)).await;
        if !is_sound(&answer) {
            connection.close_on_drop();
        }
        answer
    }

    /// A connection with the server's own settings.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connecting = tokio::time::timeout(ACQUIRE_TIMEOUT, self.options.connect()).await;
        let failed = |why: &dyn Display| format!("{} takes no connection: {why}", self.place());
        match connecting {
            Ok(connected) => connected.map_err(|error| StoreError::Unavailable(failed(&error))),
            Err(_) => Err(StoreError::Unavailable(failed(&format_args!("no answer within {ACQUIRE_TIMEOUT:?}")))),
        }
    }

    /// A pool of one connection, for who listens.
    pub(super) fn watch(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            .after_connect(|connection, _| Box::pin(prepare(connection, WATCH)))
            .connect_lazy_with(self.options.clone())
    }

    /// Ends what is at rest, and waits for what is not.
    pub(super) async fn close(&self) {
        self.flow.close().await;
        self.readers.close().await;
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

/// Whether a connection can be used again after this answer.
pub(super) fn is_sound<T>(answer: &Result<T, StoreError>) -> bool {
    !matches!(answer, Err(StoreError::Unavailable(_) | StoreError::Corrupt(_)))
}

/// Gives a session its settings.
async fn prepare(connection: &mut PgConnection, settings: &'static str) -> Result<(), sqlx::Error> {
    let settings = sqlx::query(settings).persistent(false);
    let settings = settings.bind(millis(STATEMENT_TIMEOUT)).bind(millis(LOCK_TIMEOUT)).bind(millis(IDLE_TIMEOUT));
    settings.execute(connection).await.map(drop)
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
pub(super) fn read_url(url: &str) -> Result<PgConnectOptions, StoreError> {
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
