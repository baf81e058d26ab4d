use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use host::config::{AuthMode, BusUrl, Config, LogFormat, QueueKind, Roles, StoreUrl, key_names};
use secrecy::ExposeSecret;

/// Long enough, and easily found where it must not be.
const SECRET: &str = "SeCrEt-that-nobody-may-ever-see-anywhere";

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let shown = file.path().display().to_string();
    Config::load(Some(file.path()), environment).map_err(|error| error.to_string().replace(&shown, "saga.toml"))
}

fn env(environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::load(None, environment).map_err(|error| error.to_string())
}

#[test]
fn given_nothing_when_loaded_then_the_defaults_are_those_of_the_table() {
    let config = env(&[("PATH", "/bin"), ("SAGA_FAILPOINT", "P4:1")]).unwrap();
    assert_eq!(config.http.listen, "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
    assert_eq!(config.http.connections, 512);
    assert_eq!(config.store, StoreUrl::Sqlite("data/orders.db".into()));
    assert_eq!((config.roles, config.connections), (Roles::ALL, 16));
    assert_eq!(config.bus, BusUrl::Embedded);
    assert_eq!((config.rabbitmq.queues, config.rabbitmq.heartbeat), (QueueKind::Quorum, Duration::from_secs(5)));
    assert_eq!((config.rabbitmq.ca_file, config.rabbitmq.delivery_limit, config.rabbitmq.shards), (None, 20, 1));
    assert!(config.rabbitmq.local);
    let month = Some(Duration::from_secs(30 * 24 * 60 * 60));
    assert_eq!((config.retention.inbox, config.retention.journal, config.retention.redriven), (month, None, None));
    assert_eq!(config.retention.interval, Duration::from_secs(600));
    assert_eq!(config.payment.delay, Duration::from_secs(5));
    assert!((config.payment.success_rate - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.payment.seed, None);
    assert_eq!(config.payment.concurrency, 10_000);
    assert_eq!(config.expiration.interval, Duration::from_secs(60));
    assert_eq!(config.expiration.after, Duration::from_secs(600));
    assert_eq!(
        (config.retry.limit, config.retry.initial, config.retry.max),
        (3, Duration::from_secs(1), Duration::from_secs(30))
    );
    assert_eq!(config.auth.mode, AuthMode::None);
    assert!(config.auth.secret.is_none());
    assert_eq!((config.auth.issuer.as_str(), config.auth.audience.as_str()), ("saga-host", "saga-host"));
    assert_eq!(config.log.format, None);
    assert_eq!(config.log.filter, "info");
    assert_eq!(config.drain, Duration::from_secs(10));
}

const EVERYTHING: &str = r#"
[http]
listen = "0.0.0.0:9000"
connections = 99
[host]
roles = "api,saga,activities,expiry,relay"
[store]
url = "sqlite:///var/lib/orders.db"
connections = 20
[bus]
url = "embedded:"
queues = "classic"
heartbeat = "10s"
ca_file = "Cargo.toml"
delivery_limit = 5
shards = 8
local = false
[retention]
inbox = "7days"
journal = "365days"
redriven = "forever"
interval = "1h"
[payment]
delay = "250ms"
success_rate = 1
seed = 42
concurrency = 7
[expiration]
interval = "1s"
after = "2s"
[retry]
limit = 0
initial = "10ms"
max = "20ms"
[auth]
mode = "jwt"
secret = "SeCrEt-that-nobody-may-ever-see-anywhere"
issuer = "me"
audience = "you"
[log]
format = "json"
filter = "warn,saga_core=debug"
[shutdown]
drain = "1m"
"#;

#[test]
fn given_every_key_in_a_file_when_loaded_then_each_is_taken() {
    let config = load(EVERYTHING, &[]).unwrap();
    assert_eq!((config.http.listen.to_string().as_str(), config.http.connections), ("0.0.0.0:9000", 99));
    assert_eq!(config.store, StoreUrl::Sqlite("/var/lib/orders.db".into()));
    assert_eq!((config.roles, config.connections), (Roles::ALL, 20));
    assert_eq!((config.rabbitmq.queues, config.rabbitmq.heartbeat), (QueueKind::Classic, Duration::from_secs(10)));
    assert_eq!((config.rabbitmq.ca_file, config.rabbitmq.delivery_limit), (Some("Cargo.toml".into()), 5));
    assert_eq!((config.rabbitmq.shards, config.rabbitmq.local), (8, false));
    let day = Duration::from_secs(24 * 60 * 60);
    let kept = (config.retention.inbox, config.retention.journal, config.retention.redriven);
    assert_eq!(kept, (Some(7 * day), Some(365 * day), None));
    assert_eq!(config.retention.interval, Duration::from_secs(60 * 60));
    assert_eq!(config.payment.delay, Duration::from_millis(250));
    assert!((config.payment.success_rate - 1.0).abs() < f64::EPSILON);
    assert_eq!((config.payment.seed, config.payment.concurrency), (Some(42), 7));
    assert_eq!((config.expiration.interval, config.expiration.after), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!(
        (config.retry.limit, config.retry.initial, config.retry.max),
        (0, Duration::from_millis(10), Duration::from_millis(20))
    );
    assert_eq!(config.auth.mode, AuthMode::Jwt);
    assert_eq!(config.auth.secret.unwrap().expose_secret(), SECRET);
    assert_eq!((config.auth.issuer.as_str(), config.auth.audience.as_str()), ("me", "you"));
    assert_eq!(config.log.format, Some(LogFormat::Json));
    assert_eq!(config.log.filter, "warn,saga_core=debug");
    assert_eq!(config.drain, Duration::from_secs(60));
    let table: toml::Table = EVERYTHING.parse().unwrap();
    for key in key_names().filter(|key| *key != "auth.secret_file") {
        let (section, name) = key.split_once('.').unwrap();
        assert!(table[section].get(name).is_some(), "the file above lacks {key}");
    }
}

#[test]
fn given_the_largest_values_when_loaded_then_each_is_taken() {
    let day = Duration::from_secs(24 * 60 * 60);
    let toml = "[http]\nconnections = 100000\n[payment]\ndelay = \"1day\"\nconcurrency = 100000\n\
                [expiration]\ninterval = \"365days\"\nafter = \"365days\"\n[retry]\nlimit = 100";
    let config = load(toml, &[]).unwrap();
    assert_eq!(config.http.connections, 100_000);
    assert_eq!((config.payment.delay, config.payment.concurrency), (day, 100_000));
    assert_eq!((config.expiration.interval, config.expiration.after), (365 * day, 365 * day));
    assert_eq!(config.retry.limit, 100);
}

#[test]
fn given_a_file_and_the_environment_when_loaded_then_the_environment_wins() {
    let config = load("[payment]\ndelay = \"1s\"\nseed = 1", &[("SAGA__PAYMENT__DELAY", "2s")]).unwrap();
    assert_eq!((config.payment.delay, config.payment.seed), (Duration::from_secs(2), Some(1)));
    let underscored = env(&[("SAGA__PAYMENT__SUCCESS_RATE", "0.25")]).unwrap();
    assert!((underscored.payment.success_rate - 0.25).abs() < f64::EPSILON);
}

#[test]
fn given_a_secret_file_when_loaded_then_its_last_line_feed_is_no_part_of_the_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let config = env(&[("SAGA__AUTH__MODE", "jwt"), ("SAGA__AUTH__SECRET_FILE", path)]).unwrap();
    assert_eq!(config.auth.secret.unwrap().expose_secret(), SECRET);
    let over = load(
        "[auth]\nsecret = \"another secret that is long enough to be taken\"",
        &[("SAGA__AUTH__SECRET_FILE", path)],
    );
    assert_eq!(
        over.unwrap().auth.secret.unwrap().expose_secret(),
        SECRET,
        "the environment's file goes over the file's secret"
    );
}

#[test]
fn given_something_wrong_in_a_file_when_loaded_then_one_line_says_what() {
    let cases = [
        (
            "[http]\nlisten = \"localhost\"",
            r#"http.listen = "localhost" (from saga.toml): expected an address and a port, such as 127.0.0.1:8080"#,
        ),
        (
            "[payment]\ndelay = 5",
            r#"payment.delay = "5" (from saga.toml): expected a duration such as 5s or 500ms, at most 1day"#,
        ),
        (
            "[payment]\ndelay = \"86401s\"",
            r#"payment.delay = "86401s" (from saga.toml): expected a duration such as 5s or 500ms, at most 1day"#,
        ),
        (
            "[payment]\nsuccess_rate = 1.5",
            r#"payment.success_rate = "1.5" (from saga.toml): expected a number from 0 to 1, such as 0.5"#,
        ),
        (
            "[payment]\nseed = -1",
            r#"payment.seed = "-1" (from saga.toml): expected a whole number from 0 to 18446744073709551615"#,
        ),
        (
            "[payment]\nconcurrency = 0",
            r#"payment.concurrency = "0" (from saga.toml): expected a whole number from 1 to 100000"#,
        ),
        (
            "[payment]\nconcurrency = 100001",
            r#"payment.concurrency = "100001" (from saga.toml): expected a whole number from 1 to 100000"#,
        ),
        (
            "[expiration]\ninterval = \"0s\"",
            r#"expiration.interval = "0s" (from saga.toml): expected a duration such as 5s, 10m or 500ms, longer than 0, at most 365days"#,
        ),
        (
            "[expiration]\ninterval = \"366days\"",
            r#"expiration.interval = "366days" (from saga.toml): expected a duration such as 5s, 10m or 500ms, longer than 0, at most 365days"#,
        ),
        (
            "[expiration]\nafter = \"0s\"",
            r#"expiration.after = "0s" (from saga.toml): expected a duration such as 5s, 10m or 500ms, longer than 0, at most 365days"#,
        ),
        (
            "[expiration]\nafter = \"8761h\"",
            r#"expiration.after = "8761h" (from saga.toml): expected a duration such as 5s, 10m or 500ms, longer than 0, at most 365days"#,
        ),
        ("[retry]\nlimit = 101", r#"retry.limit = "101" (from saga.toml): expected a whole number from 0 to 100"#),
        (
            "[retry]\ninitial = \"1m\"",
            r#"retry.initial = "1m" (from saga.toml): expected a duration no longer than retry.max, which is 30s"#,
        ),
        ("[auth]\nmode = \"basic\"", r#"auth.mode = "basic" (from saga.toml): expected none or jwt"#),
        ("[auth]\nissuer = \"\"", r#"auth.issuer = "" (from saga.toml): expected a name of 1 to 200 characters"#),
        ("[log]\nformat = \"xml\"", r#"log.format = "xml" (from saga.toml): expected text or json"#),
        (
            "[log]\nfilter = \"info,=x=\"",
            r#"log.filter = "info,=x=" (from saga.toml): expected tracing directives, such as info,saga_core=debug"#,
        ),
        (
            "[log]\nfilter = [\"info\"]",
            r#"log.filter = "an array" (from saga.toml): expected tracing directives, such as info,saga_core=debug"#,
        ),
        (
            "[http]\nlisten = 2026-11-23",
            r#"http.listen = "a date" (from saga.toml): expected an address and a port, such as 127.0.0.1:8080"#,
        ),
        (
            "[payment]\ndelai = \"5s\"",
            r#"unknown key payment.delai = "5s" (from saga.toml): expected a key that exists, perhaps payment.delay"#,
        ),
        (
            "[http.listen]\nport = 1",
            r#"http.listen = "a table" (from saga.toml): expected an address and a port, such as 127.0.0.1:8080"#,
        ),
        (
            "[bus]\nurl = \"kafka://h\"",
            r#"bus.url = "kafka://h" (from saga.toml): expected embedded:, or amqp://USER:PASSWORD@HOST:PORT/VHOST (amqps:// over TLS)"#,
        ),
        (
            "[bus]\nurl = \"amqp://guest:pw@:5672\"",
            r#"bus.url = "amqp://***@:5672" (from saga.toml): expected embedded:, or amqp://USER:PASSWORD@HOST:PORT/VHOST (amqps:// over TLS)"#,
        ),
        ("[bus]\nqueues = \"mirrored\"", r#"bus.queues = "mirrored" (from saga.toml): expected quorum or classic"#),
        (
            "[bus]\nheartbeat = \"1s\"",
            r#"bus.heartbeat = "1s" (from saga.toml): expected a duration of whole seconds from 2s to 60s"#,
        ),
        (
            "[host]\nroles = \"api,cook\"",
            r#"host.roles = "api,cook" (from saga.toml): expected one or more of api, saga, activities, expiry, relay, separated by commas, or all"#,
        ),
        (
            "[host]\nroles = \"api,api\"",
            r#"host.roles = "api,api" (from saga.toml): expected one or more of api, saga, activities, expiry, relay, separated by commas, or all; api is named twice"#,
        ),
        (
            "[host]\nroles = \"api\"",
            r#"store.url = "sqlite://data/orders.db" (the default): expected postgres://… while host.roles leaves something to other hosts"#,
        ),
        (
            "[retention]\ninbox = \"0s\"",
            r#"retention.inbox = "0s" (from saga.toml): expected a duration such as 30days or 12h, longer than 0, at most 365days, or forever"#,
        ),
        (
            "[store]\nconnections = 1",
            r#"store.connections = "1" (from saga.toml): expected a whole number from 2 to 1000"#,
        ),
    ];
    for (toml, line) in cases {
        assert_eq!(load(toml, &[]).err().as_deref(), Some(line), "{toml}");
    }
}

#[test]
fn given_a_store_that_can_not_be_when_loaded_then_the_line_says_what_can() {
    let expected = "expected sqlite://PATH (sqlite:///PATH from the root), such as sqlite://data/orders.db, \
                    postgres://USER:PASSWORD@HOST:PORT/DATABASE, or memory:";
    for (url, shown, more) in [
        ("postgres://u:p@host:port/db", "postgres://***@host:port/db", ""),
        ("postgres://u:p@host", "postgres://***@host", ""),
        ("sqlite://", "sqlite://", ""),
        ("sqlite::memory:", "sqlite::memory:", ""),
        ("sqlite://data/", "sqlite://data/", ""),
        ("orders.db", "orders.db", ""),
        ("sqlite://a.db?mode=ro", "sqlite://a.db?***", "; options after the path are not supported"),
    ] {
        let error = env(&[("SAGA__STORE__URL", url)]).unwrap_err();
        assert_eq!(error, format!("store.url = {shown:?} (from SAGA__STORE__URL): {expected}{more}"));
    }
    assert_eq!(env(&[("SAGA__STORE__URL", "memory:")]).unwrap().store, StoreUrl::Memory);
}

#[test]
fn given_an_unknown_variable_when_loaded_then_the_line_lists_the_keys() {
    let error = env(&[("SAGA__FOO__BAR", "x")]).unwrap_err();
    assert!(error.starts_with(
        r#"unknown key foo.bar = "x" (from SAGA__FOO__BAR): expected one of http.listen, http.connections, host.roles, store.url, "#
    ));
    for key in key_names() {
        assert!(error.contains(key), "{key}");
    }
}

#[test]
fn given_no_toml_when_loaded_then_the_line_says_where_and_does_not_repeat_it() {
    let error = load(&format!("[auth]\nsecret = {SECRET}"), &[]).unwrap_err();
    assert!(error.starts_with("--config saga.toml: expected TOML, but line 2 is not: "), "{error}");
    assert!(!error.contains(SECRET) && !error.contains('\n'), "{error}");
    let missing = Config::load(Some("no/such/file.toml".as_ref()), []).unwrap_err().to_string();
    assert!(missing.starts_with("--config no/such/file.toml: expected a readable file, but "), "{missing}");
}

#[test]
fn given_no_tokens_on_an_open_address_when_loaded_then_the_line_says_what_to_set() {
    for listen in ["0.0.0.0:80", "[::]:80", "192.168.0.1:80"] {
        let error = env(&[("SAGA__HTTP__LISTEN", listen)]).unwrap_err();
        assert!(
            error.starts_with(&format!("http.listen = {listen:?} (from SAGA__HTTP__LISTEN): expected a loopback")),
            "{error}"
        );
        assert!(error.contains("set auth.mode to jwt and auth.secret_file"), "{error}");
    }
    for listen in ["127.0.0.1:80", "[::1]:80", "127.9.9.9:1"] {
        assert!(env(&[("SAGA__HTTP__LISTEN", listen)]).is_ok(), "{listen}");
    }
}

#[test]
fn given_jwt_without_a_secret_when_loaded_then_the_line_says_what_to_set() {
    let error = env(&[("SAGA__AUTH__MODE", "jwt")]).unwrap_err();
    assert!(
        error.starts_with(r#"auth.mode = "jwt" (from SAGA__AUTH__MODE): expected auth.secret_file (or auth.secret)"#),
        "{error}"
    );
    let both = [("SAGA__AUTH__SECRET", SECRET), ("SAGA__AUTH__SECRET_FILE", "/etc/secret")];
    let error = env(&both).unwrap_err();
    assert_eq!(
        error,
        "auth.secret_file = (not shown) (from SAGA__AUTH__SECRET_FILE): expected nothing, because auth.secret is set as well"
    );
}

#[test]
fn given_a_secret_anywhere_when_something_is_wrong_then_it_is_not_shown() {
    let short = "SeCrEt-too-short";
    let url = format!("postgres://user:{SECRET}@host:port/db");
    let broken = format!("user:{SECRET}@host");
    for environment in [
        [("SAGA__AUTH__SECRET", short)].as_slice(),
        &[("SAGA__AUTH__SECERT", SECRET)],
        &[("SAGA__ATH__SECRET", SECRET)],
        &[("SAGA__AUTH__SECRET_FILE", SECRET)],
        &[("SAGA__STORE__URL", &url)],
        &[("SAGA__BUS__URL", &broken)],
        &[("SAGA__STORE__URI", &url)],
        &[("SAGA__AUTH__SECRET", SECRET), ("SAGA__PAYMENT__DELAY", "x")],
        &[("SAGA__AUTH__SECRET", SECRET), ("SAGA__AUTH__SECRET_FILE", "/etc/secret")],
    ] {
        let error = env(environment).unwrap_err();
        assert!(!error.contains("SeCrEt"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let config = load(EVERYTHING, &[]).unwrap();
    assert!(!format!("{config:?} {config:#?}").contains("SeCrEt"));
    let (store, bus) = (format!("postgres://user:{SECRET}@host/db"), format!("amqp://user:{SECRET}@host/vhost"));
    let config = env(&[("SAGA__STORE__URL", &store), ("SAGA__BUS__URL", &bus)]).unwrap();
    let shown = format!("{config:?} {config:#?} {} {}", config.store, config.bus);
    assert!(!shown.contains("SeCrEt") && shown.contains("amqp://***@host/vhost"), "{shown}");
    let (StoreUrl::Postgres(kept), BusUrl::RabbitMq(carried)) = (&config.store, &config.bus) else { panic!() };
    assert_eq!((kept.expose(), carried.expose()), (store.as_str(), bus.as_str()));
    assert_eq!(
        load("auth.secret = 12345", &[]).unwrap_err(),
        "auth.secret = (not shown) (from saga.toml): expected at least 32 bytes; there are 5"
    );
}

#[test]
fn given_a_long_or_broken_value_when_told_then_it_is_one_short_line() {
    let error = env(&[("SAGA__HTTP__LISTEN", &format!("a\nb{}", "x".repeat(1000)))]).unwrap_err();
    assert!(error.len() < 300 && !error.contains('\n'), "{error}");
}

#[test]
fn given_roles_when_store_and_bus_are_shared_then_a_host_may_leave_the_rest_to_others() {
    let shared = [("SAGA__STORE__URL", "postgres://u@h/db"), ("SAGA__BUS__URL", "amqps://u:p@h:5671/v")];
    let config = env(&[shared[0], shared[1], ("SAGA__HOST__ROLES", "api, expiry")]).unwrap();
    let some = Roles { api: true, saga: false, activities: false, expiry: true, relay: false };
    assert_eq!(config.roles, some);
    assert_eq!(config.with_roles(Some(Roles::ALL)).unwrap().roles, Roles::ALL);
    let error = env(&[shared[0], ("SAGA__HOST__ROLES", "relay")]).unwrap_err();
    assert!(error.starts_with(r#"bus.url = "embedded:" (the default): expected amqp://"#), "{error}");
    let error = env(&[]).unwrap().with_roles(Some(some)).unwrap_err().to_string();
    assert!(error.starts_with("store.url = ") && error.contains("while host.roles leaves something"), "{error}");
    assert_eq!("all".parse::<Roles>(), Ok(Roles::ALL));
}
