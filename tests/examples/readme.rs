//! What the README shows is what there is.

use std::path::Path;
use std::time::Duration;

use host::config::{AuthMode, Config};
use order_saga::{Order, OrderSubmitted};
use saga_core::{Headers, Machine, Message, Saga, SqliteStore, wire};

use super::{files, read, root};

/// The fenced blocks of a language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let block = |part: &str| part.split_once("\n```").map(|(block, _)| format!("{block}\n"));
    text.split(&fence).skip(1).filter_map(block).collect()
}

/// The links to files of the repository.
pub(crate) fn broken_links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let local = targets.filter(|target| !target.contains("://"));
    local.filter(|target| !root().join(target).exists()).map(str::to_owned).collect()
}

#[test]
fn the_picture_is_that_of_the_machine() {
    let picture = Machine::<Order>::new().mermaid();
    assert_eq!(blocks(&read("README.md"), "mermaid"), std::slice::from_ref(&picture));
    assert_eq!(read("order-saga/order.mmd"), picture);
}

#[test]
fn the_smallest_saga_is_the_example() {
    assert_eq!(blocks(&read("README.md"), "rust"), [read("examples/first_saga.rs")]);
}

#[test]
fn the_foreign_order_is_an_order() {
    let readme = read("README.md");
    let order =
        blocks(&readme, "json").into_iter().find(|it| it.contains("urn:message:Orders:OrderSubmitted")).unwrap();
    let incoming = wire::Incoming {
        body: order.as_bytes(),
        content_type: Some(wire::ENVELOPE),
        content_encoding: None,
        message_id: None,
        correlation_id: None,
        headers: Headers::new(),
        endpoint: Order::ENDPOINT,
        handles: &[OrderSubmitted::NAME],
        base: &wire::BusAddress::new("mq", None, "/"),
    };
    let wire::Read::Message(envelope) = wire::read(&incoming) else { panic!("it is no message: {order}") };
    let submitted = envelope.message.read::<OrderSubmitted>().unwrap();
    assert!(readme.contains(&envelope.message_id.to_string()) && readme.contains(&submitted.order_id.to_string()));
}

#[test]
fn every_example_is_listed() {
    let readme = read("README.md");
    let single = files("examples", ".rs");
    let folders = files("examples", "").into_iter().filter(|path| path.join("main.rs").exists());
    let names: Vec<_> = single.iter().chain(&folders.collect::<Vec<_>>()).map(|path| stem(path)).collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not listed");
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

#[test]
fn links_lead_somewhere() {
    for file in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        assert_eq!(broken_links(&read(file)), [""; 0], "{file}");
    }
}

/// The rows of the configuration's table: key and default.
fn rows() -> Vec<(String, String)> {
    let readme = read("README.md");
    let section = readme.split("\n## Configuration\n").nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    rows.map(|line| line.split('|').collect::<Vec<_>>()).map(|cells| (cell(cells[1]), cell(cells[2]))).collect()
}

#[test]
fn the_configuration_is_that_of_the_host() {
    let keys: Vec<_> = rows().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, host::config::key_names().collect::<Vec<_>>());
    let load = |rows: Vec<(String, String)>| {
        let variable = |key: &str| format!("SAGA__{}", key.replace('.', "__").to_uppercase());
        let set = rows.into_iter().filter(|(_, default)| !default.is_empty());
        Config::load(None, set.map(|(key, default)| (variable(&key).into(), default.into()))).unwrap()
    };
    assert_eq!(format!("{:?}", load(rows())), format!("{:?}", load(Vec::new())), "a default is another");
    assert_eq!(load(rows()).auth.mode, AuthMode::None);
    assert_eq!(load(rows()).expiration.after, Duration::from_secs(600));
}

#[tokio::test]
async fn the_queries_for_operators_are_understood_by_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::builder(&format!("sqlite://{}/orders.db", folder.path().display())).open().await.unwrap();
    store.migrate(&sqlx::migrate!("migrations/sqlite")).await.unwrap();
    let readme = read("README.md");
    let block = blocks(&readme, "sh").into_iter().find(|block| block.starts_with("sqlite3")).unwrap();
    let sql: String = block.lines().skip(1).filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let queries: Vec<_> = sql.split(';').map(str::trim).filter(|query| !query.is_empty()).collect();
    assert!(queries.len() >= 6, "{queries:?}");
    for query in queries {
        let rows = sqlx::query(sqlx::AssertSqlSafe(query.to_owned())).fetch_all(&store.reader()).await;
        assert_eq!(rows.unwrap_or_else(|error| panic!("{query}: {error}")).len(), 0);
    }
    store.close().await;
}
