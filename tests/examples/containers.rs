//! The image and the composition are as they should be, as far as files can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

use host::config::{AuthMode, Config};
use serde_json::Value;

use super::{read, root};

/// The instructions of the Dockerfile's last stage, continued lines joined.
fn last_stage() -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", "");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    let stage = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    lines[stage..].to_vec()
}

fn argument<'a>(stage: &'a [String], instruction: &str) -> &'a str {
    let mut found = stage.iter().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '));
    found.next_back().unwrap_or_else(|| panic!("there is no {instruction}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("compose.yaml")).unwrap()
}

/// What `.env.example` sets.
fn example() -> BTreeMap<String, String> {
    let text = read(".env.example");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A text with its `${NAME:-default}` and `${NAME:?message}` filled in; each must be in `.env.example`.
fn filled(text: &str) -> String {
    let example = example();
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap();
        let name = variable.split(':').next().unwrap();
        filled += example.get(name).unwrap_or_else(|| panic!("{name} is not in .env.example"));
        filled += rest;
    }
    filled
}

fn environment(service: &Value) -> BTreeMap<&str, String> {
    let environment = service["environment"].as_object().into_iter().flatten();
    environment.map(|(name, value)| (name.as_str(), filled(value.as_str().unwrap()))).collect()
}

#[test]
fn the_image_ends_without_root_and_with_a_health_check() {
    let stage = last_stage();
    let user = argument(&stage, "USER").split(':').next().unwrap().parse::<u32>();
    assert!(user.is_ok_and(|id| id != 0), "a user by number, so that nobody has to look it up, and not root");
    assert!(argument(&stage, "HEALTHCHECK").ends_with(r#"CMD ["/usr/local/bin/saga-host", "health"]"#));
    assert_eq!(argument(&stage, "ENTRYPOINT"), r#"["/usr/local/bin/saga-host"]"#);
    let base = argument(&stage, "FROM");
    assert!(base.rsplit('/').next().unwrap().contains(':') && !base.ends_with(":latest"), "{base}");
}

#[test]
fn the_image_is_built_by_a_compiler_that_can() {
    let (dockerfile, manifest) = (read("Dockerfile"), read("Cargo.toml"));
    let version = |text: &str, before: &str| -> (u32, u32) {
        let rest = text.split_once(before).unwrap().1;
        let (major, minor) = rest.split_once('.').unwrap();
        let minor = minor.split(|it: char| !it.is_ascii_digit()).next().unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    };
    assert!(version(&dockerfile, "FROM rust:") >= version(&manifest, "rust-version = \""));
}

#[test]
fn what_goes_into_the_build_is_listed_and_exists() {
    let text = read(".dockerignore");
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "nothing, but");
    for line in lines {
        let path = line.strip_prefix('!').unwrap_or_else(|| panic!("{line} is no exception"));
        assert!(root().join(path).exists(), "there is no {path}");
    }
}

#[test]
fn every_service_is_watched_and_may_do_no_more_than_it_needs() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let names = services.keys().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(names, BTreeSet::from(["host", "postgres", "rabbitmq"]));
    for (name, service) in services {
        assert_eq!(service["healthcheck"]["test"][0], "CMD", "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        assert_eq!(service["security_opt"][0], "no-new-privileges:true", "{name}");
        assert_eq!(service["networks"], serde_json::json!(["saga"]), "{name}");
        for key in ["privileged", "cap_add", "network_mode", "pid", "ipc", "devices"] {
            assert_eq!(service[key], Value::Null, "{name}.{key}");
        }
        let ports = service["ports"].as_array().into_iter().flatten();
        for port in ports.map(|port| port.as_str().unwrap()) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is open to the network: {port}");
        }
    }
    for dependency in ["postgres", "rabbitmq"] {
        assert_eq!(services["host"]["depends_on"][dependency]["condition"], "service_healthy");
    }
}

#[test]
fn the_host_understands_what_the_composition_says() {
    let compose = compose();
    let mut settings = environment(&compose["services"]["host"]);
    let keys: Vec<_> = host::config::key_names().map(|key| key.replace('.', "__").to_uppercase()).collect();
    for name in settings.keys() {
        assert!(keys.iter().any(|key| Some(key.as_str()) == name.strip_prefix("SAGA__")), "{name} is no key");
    }
    assert!(settings["SAGA__STORE__URL"].starts_with("postgres://saga:"));
    assert!(settings["SAGA__BUS__URL"].starts_with("amqp://saga:"));
    let stage = last_stage();
    for setting in argument(&stage, "ENV").split_whitespace() {
        let (name, value) = setting.split_once('=').unwrap();
        settings.insert(name, value.to_owned());
    }
    let variables = settings.into_iter().map(|(name, value)| (name.into(), value.into()));
    let config = Config::load(None, variables).unwrap();
    assert_eq!((config.auth.mode, config.http.listen.port()), (AuthMode::Jwt, 8080));
    assert!(config.http.listen.ip().is_unspecified());
}

#[test]
fn the_servers_know_the_users_that_the_host_is() {
    let compose = compose();
    let services = &compose["services"];
    let (postgres, rabbit) = (environment(&services["postgres"]), environment(&services["rabbitmq"]));
    let host = environment(&services["host"]);
    let [user, password, database] = ["USER", "PASSWORD", "DB"].map(|it| &postgres[format!("POSTGRES_{it}").as_str()]);
    assert_eq!(host["SAGA__STORE__URL"], format!("postgres://{user}:{password}@postgres:5432/{database}"));
    let (user, password) = (&rabbit["RABBITMQ_DEFAULT_USER"], &rabbit["RABBITMQ_DEFAULT_PASS"]);
    assert_eq!(host["SAGA__BUS__URL"], format!("amqp://{user}:{password}@rabbitmq:5672/%2f"));
}

#[test]
fn secrets_stay_out_of_the_repository_and_the_image() {
    assert!(read(".gitignore").lines().any(|line| line == ".env"));
    assert!(!read(".dockerignore").contains(".env"));
    let text = read("compose.yaml") + &read("Dockerfile");
    for (name, value) in example().into_iter().filter(|(name, _)| !name.ends_with("PORT")) {
        assert!(value.contains("change-me"), "{name} looks like a secret");
        assert!(!text.contains(&value), "{name} is written out");
        assert!(text.contains(&format!("${{{name}:?")), "{name} has a default");
        let plain = |it: char| it.is_ascii_alphanumeric() || it == '-';
        assert!(value.chars().all(plain), "{name} would have to be encoded in a URL");
    }
}

#[test]
fn scripts_can_be_run() {
    for script in [".ci/run", ".ci/containers", "tests/run"] {
        let mode = root().join(script).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script}");
    }
}
