//! The real program's commands.

use host::config::Config;
use host::rest::Rest;
use sqlx::Connection;

use crate::support::{Host, SECRET, Served, approved, guarded, program, small};

fn output(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = program(arguments).envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn given_help_when_asked_then_every_command_has_an_example() {
    let (code, help, _) = output(&["--help"], &[]);
    assert_eq!(code, Some(0));
    for command in ["serve", "migrate", "health", "check", "graph", "token", "demo"] {
        assert!(
            help.lines().any(|line| line.trim_start().contains(&format!("saga-host {command}"))),
            "{command}: {help}"
        );
        let (code, help, _) = output(&[command, "--help"], &[]);
        assert_eq!(code, Some(0));
        assert!(
            (help.contains("Example:\n") || help.contains("Examples:\n"))
                && help.contains(&format!("saga-host {command}")),
            "{help}"
        );
    }
}

#[test]
fn given_graph_when_printed_then_it_is_the_golden_one() {
    let golden =
        |name: &str| std::fs::read_to_string(format!("{}/../order-saga/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(output(&["graph"], &[]), (Some(0), golden("order.mmd"), String::new()));
    assert_eq!(output(&["graph", "--format", "mermaid"], &[]).1, golden("order.mmd"));
    assert_eq!(output(&["graph", "--format", "table"], &[]).1, golden("order.table.md"));
    let (code, dot, _) = output(&["graph", "--format", "dot"], &[]);
    assert_eq!(code, Some(0));
    assert!(dot.starts_with("digraph \"order\" {") && dot.ends_with("}\n"), "{dot}");
    assert_eq!(output(&["graph", "--format", "svg"], &[]).0, Some(2));
}

#[test]
fn given_a_bad_setting_when_started_then_it_is_exit_code_2_and_one_line() {
    for (arguments, environment) in [
        (["serve"].as_slice(), [("SAGA__HTTP__LISTEN", "nowhere")].as_slice()),
        (&[], &[("SAGA__STORE__URL", "postgres://u:SeCrEt@h")]),
        (&["migrate"], &[("SAGA__BUS__URL", "amqp://u:SeCrEt@:1")]),
        (&["token", "--user", "anna"], &[("SAGA__AUTH__SECRET", "SeCrEt")]),
        (&["token", "--user", "anna"], &[]),
        (&["serve", "--config", "no/such/file.toml"], &[]),
        (&["serve"], &[("SAGA__HTTP__LISTEN", "0.0.0.0:0")]),
        (&["health"], &[("SAGA__HTTP__LISTEN", "127.0.0.1:0")]),
    ] {
        let (code, out, error) = output(arguments, environment);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.starts_with("saga-host: ") && error.contains("expected") && !error.contains("SeCrEt"), "{error}");
    }
}

#[test]
fn given_bad_arguments_when_started_then_it_is_exit_code_2() {
    for arguments in [
        ["token"].as_slice(),
        &["token", "--user", ""],
        &["token", "--user", "anna", "--ttl", "0s"],
        &["demo", "--orders", "0"],
        &["nothing"],
        &["serve", "--port", "1"],
    ] {
        assert_eq!(output(arguments, &[]).0, Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn given_a_token_when_printed_then_the_service_takes_it() {
    let arguments = ["token", "--user", "anna", "--scope", "ops", "--ttl", "1m"];
    let (code, token, error) = output(&arguments, &[("SAGA__AUTH__SECRET", SECRET)]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let host = Host::start(&guarded(), [approved()]).await;
    let anna = Rest::new(host.service.address).with_token(token.trim());
    let order: serde_json::Value = anna.post("/api/orders", &small().to_string(), &[]).await.unwrap().json().unwrap();
    assert_eq!(order["userId"], "anna");
    assert_eq!(anna.get("/api/dead-letters").await.unwrap().status, 200);
}

#[test]
fn given_a_new_folder_when_migrated_twice_then_the_second_time_there_is_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/new/orders.db", folder.path().display());
    let (code, first, error) = output(&["migrate"], &[("SAGA__STORE__URL", &url)]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(first.ends_with("migrations applied\n"), "{first}");
    let (_, second, _) = output(&["migrate"], &[("SAGA__STORE__URL", &url)]);
    assert_eq!(second, format!("{url}: nothing to do\n"));
}

#[tokio::test]
async fn given_a_service_when_its_health_is_asked_then_the_exit_code_tells() {
    let ask = |address: std::net::SocketAddr| output(&["health"], &[("SAGA__HTTP__LISTEN", &address.to_string())]);
    // A port that only the system could serve, and does not.
    let (code, out, error) = ask("127.0.0.1:1".parse().unwrap());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.starts_with("saga-host: 127.0.0.1:1 does not answer: "), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let store = format!("sqlite://{}", path.display());
    let served = Served::start(program(&[]).env("SAGA__STORE__URL", &store));
    assert_eq!(ask(served.address), (Some(0), String::new(), String::new()));

    let mut database = sqlx::SqliteConnection::connect(&store).await.unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 2").execute(&mut database).await.unwrap();
    let (code, _, error) = ask(served.address);
    let reason = "is not ready (503); migrations: 1 migrations are to be applied: run saga-host migrate\n";
    assert_eq!((code, error), (Some(1), format!("saga-host: {} {reason}", served.address)));
}

#[test]
fn given_demo_when_run_then_every_order_is_final_and_notified() {
    let (code, table, error) = output(&["demo", "--orders", "12"], &[]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(['│', '┆']).map(str::trim).collect()).collect();
    let rows: Vec<_> = rows.iter().filter(|row| matches!(row.get(1), Some(&"completed" | &"expired"))).collect();
    let sum = |column: usize| rows.iter().map(|row| row[column].parse::<u32>().unwrap()).sum::<u32>();
    assert_eq!((sum(2), sum(3)), (12, 12), "{table}");
}

#[tokio::test]
async fn given_no_command_when_started_then_it_serves_and_logs_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saga.toml");
    let toml = format!(
        "[auth]\nmode = \"jwt\"\nsecret = \"{SECRET}\"\n[log]\nfilter = \"trace\"\n[store]\nurl = \"memory:\"\n"
    );
    std::fs::write(&file, toml).unwrap();
    assert!(Config::load(Some(&file), []).is_ok());
    let log = {
        let served = Served::start(&mut program(&["--config", file.to_str().unwrap()]));
        assert_eq!(served.rest.get("/api/orders").await.unwrap().status, 401);
        served.signal("-TERM");
        served.whole_log()
    };
    assert!(log.contains("stopped"), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}
