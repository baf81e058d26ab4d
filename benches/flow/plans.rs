//! How the database finds what every batch asks for: instances, inbox, outbox, due timers.

use std::time::Duration;

use host::config::StoreUrl;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _};

use crate::entry::Entry;
use crate::filled::Filled;
use crate::order::stop;
use crate::orders::Flow;
use crate::place::{Pairing, Place, postgres};

const TABLES: [&str; 4] = ["saga_inbox", "saga_instances", "saga_outbox", "saga_timers"];
/// Orders enough that the server plans for good: the first five times it plans anew.
const ORDERS: usize = 200;
const WINDOW: usize = 20;

/// The plans on a database that nobody works on. Of a server that is not this process's own nothing is told: its log
/// would have to be read, and its settings changed.
pub(crate) async fn of(pairing: &Pairing, place: &Place) -> Value {
    match &place.store {
        StoreUrl::Sqlite(_) => on_sqlite(place).await,
        StoreUrl::Postgres(_) if pairing.store == "postgres:" => on_postgres(pairing, place).await,
        StoreUrl::Postgres(_) | StoreUrl::Memory => Value::Null,
    }
}

/// As the server's own log tells of the queries of a flow that runs.
async fn on_postgres(pairing: &Pairing, place: &Place) -> Value {
    let database = Filled::open(place).await;
    for setting in ["session_preload_libraries = auto_explain", "auto_explain.log_min_duration = 0"] {
        let set = format!("EXECUTE format('ALTER DATABASE %I SET {setting}', current_database())");
        database.execute(&format!("DO $$ BEGIN {set}; END $$")).await;
    }
    database.close().await;
    let flow = Flow::start(pairing.again(place), 1, Duration::ZERO).await;
    let way = flow.way(Entry::Runtime).await;
    flow.backlog(&way, ORDERS, WINDOW).await;
    stop(flow, way).await;
    let (log, mut plans) = (postgres().log(), Vec::<(String, String)>::new());
    for entry in log.split(" plan:\n").skip(1) {
        let lines: Vec<_> = entry.lines().take_while(|line| line.starts_with('\t')).map(|it| &it[1..]).collect();
        let begin = lines.iter().position(|line| line.contains("(cost=")).unwrap_or(lines.len());
        let query = words(&lines[..begin].join(" ")).replacen("Query Text: ", "", 1);
        let plan = lines[begin..].join("\n");
        // The last plan of a query is the one that stays.
        match plans.iter_mut().find(|(known, _)| *known == query) {
            _ if !is_of_interest(&query) => {}
            Some((_, known)) => *known = plan,
            None => plans.push((query, plan)),
        }
    }
    plans.into_iter().map(|(query, plan)| json!({ "asked": folded(&query), "plan": plan })).collect()
}

/// The queries as they stand in the store's source.
async fn on_sqlite(place: &Place) -> Value {
    const SOURCES: [&str; 2] = [
        include_str!("../../saga-core/src/store/sqlite/load.rs"),
        include_str!("../../saga-core/src/store/sqlite/read.rs"),
    ];
    let Filled::Sqlite(pool) = Filled::open(place).await else { return Value::Null };
    let mut plans = Vec::new();
    let literals = SOURCES.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    for query in literals.filter(|it| is_of_interest(it)) {
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"))).fetch_all(&pool).await;
        let rows = explained.unwrap_or_else(|error| panic!("{query}: {error}"));
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        plans.push(json!({ "asked": folded(&words(query)), "plan": plan.join("\n") }));
    }
    pool.close().await;
    plans.into()
}

fn is_of_interest(query: &str) -> bool {
    let reads = ["SELECT", "WITH"].iter().any(|word| query.trim_start().starts_with(word));
    reads && TABLES.iter().any(|table| query.contains(&format!("FROM {table}")))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// In lines that a table can show.
fn folded(text: &str) -> String {
    const WIDTH: usize = 70;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| line.len() + word.len() > WIDTH) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
            line.push(' ');
        }
    }
    lines.join("\n")
}
