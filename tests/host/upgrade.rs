//! What each version has stored, read and carried on by this one.
//!
//! `upgrade/goldens/v…` holds, for each version, a database of either kind with orders at every stage, as a crash has left
//! it, and an envelope of each message. They are never written again: a new version adds a folder of its own,
//! with `cargo test -p host --test host -- --ignored upgrade::record`.

mod carry_on;
mod envelopes;
mod record;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use test_servers::Postgres;

/// The orders of a golden database, by what became of them before the crash.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Orders {
    completed: String,
    expired: String,
    /// Expired while its payment was under way, which was then approved.
    refunded: String,
    /// Its payment was given up, and completed by a redrive.
    redriven: String,
    /// Its payment was declined: it waits for its expiry.
    declined: String,
    /// Its payment was given up: a dead letter waits for an operator.
    given_up: String,
    /// Its payment has failed once: another attempt waits to be due.
    retried: String,
    /// Its payment waits in the outbox.
    processing: String,
}

fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/host/upgrade/goldens")
}

/// The folder of this version.
fn of_this_version() -> PathBuf {
    goldens().join(concat!("v", env!("CARGO_PKG_VERSION")))
}

/// The folders of all versions.
fn versions() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(goldens()).unwrap().map(|it| it.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.contains(&of_this_version()), "this version has no goldens: record them before it is released");
    folders
}

/// A new database of either kind that holds a dump; its URL, and the folder that it may be in.
async fn loaded(kind: &str, dump: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    // The dumps stand in this repository.
    let sql = AssertSqlSafe(dump.to_owned());
    let url = match kind {
        "sqlite" => format!("sqlite://{}", folder.path().join("orders.db").display()),
        _ => Postgres::shared().database(),
    };
    if kind == "sqlite" {
        let mut database = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
        database.execute(sqlx::raw_sql(sql)).await.unwrap();
        database.close().await.unwrap();
    } else {
        let mut database = PgConnection::connect(&url).await.unwrap();
        database.execute(sqlx::raw_sql(sql)).await.unwrap();
        database.close().await.unwrap();
    }
    (url, folder)
}
