//! Every key: its name, what it expects, how it is read.

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use super::error::{ConfigError, Origin, quote};
use super::redact::{distance, may_be_secret, redact_url};
use super::sources::{Raw, Setting, read_text};
use super::url::{BusUrl, StoreUrl};
use super::{AuthMode, Config, LogFormat, QueueKind, Roles};

/// A shorter key can be guessed: HS256 wants one as long as its hash.
const SECRET_MIN: usize = 32;

/// A secret's file is read up to this size: a key is not longer, and a device file has no end.
const SECRET_FILE_LIMIT: u64 = 64 * 1024;

/// No duration is longer: so that a time plus a duration is always a time.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A payment that waits longer than this is no delay but a standstill: every place of `payment.concurrency` would be taken.
const PAYMENT_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// More retries than this are no policy but a loop.
const RETRIES_MAX: u32 = 100;

/// More calls at once than this need more memory than a process should take.
const CONCURRENCY_MAX: usize = 100_000;

/// Below the hundred deliveries after which the broker itself puts a message aside.
const DELIVERIES_MAX: u32 = 90;

/// More connections than this are more than PostgreSQL serves well.
const CONNECTIONS_MAX: u32 = 1_000;

/// Names of issuer and audience are no longer than this.
const NAME_MAX: usize = 200;

/// Why a parser does not take a value.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is not what the key expects; nothing more is to be said.
    Unexpected,
    /// It is not, for this reason.
    Because(String),
}

impl Refused {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self::Because(why.into())
    }
}

/// What may be shown of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    Url,
    Path,
    Nothing,
}

struct Key {
    name: &'static str,
    expected: &'static str,
    shown: Shown,
    set: fn(&mut Config, &str) -> Result<(), Refused>,
}

const fn key(
    name: &'static str,
    expected: &'static str,
    shown: Shown,
    set: fn(&mut Config, &str) -> Result<(), Refused>,
) -> Key {
    Key { name, expected, shown, set }
}

const DURATION: &str = "a duration such as 5s, 10m or 500ms, at most 365days";
const DURATION_SOME: &str = "a duration such as 5s, 10m or 500ms, longer than 0, at most 365days";

const KEPT: &str = "a duration such as 30days or 12h, longer than 0, at most 365days, or forever";

static KEYS: [Key; 33] = [
    key("http.listen", "an address and a port, such as 127.0.0.1:8080", Shown::Whole, |c, v| {
        c.http.listen = v.parse().map_err(|_| Refused::Unexpected)?;
        Ok(())
    }),
    key("http.connections", "a whole number from 1 to 100000", Shown::Whole, |c, v| {
        c.http.connections =
            number(v).filter(|count| (1..=CONCURRENCY_MAX).contains(count)).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("host.roles", Roles::EXPECTED, Shown::Whole, |c, v| {
        c.roles = Roles::parse(v)?;
        Ok(())
    }),
    key("store.url", StoreUrl::EXPECTED, Shown::Url, |c, v| {
        c.store = StoreUrl::parse(v)?;
        Ok(())
    }),
    key("store.connections", "a whole number from 2 to 1000", Shown::Whole, |c, v| {
        c.connections = number(v).filter(|count| (2..=CONNECTIONS_MAX).contains(count)).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("bus.url", BusUrl::EXPECTED, Shown::Url, |c, v| {
        c.bus = BusUrl::parse(v)?;
        Ok(())
    }),
    key("bus.queues", "quorum or classic", Shown::Whole, |c, v| {
        c.rabbitmq.queues = match v {
            "quorum" => QueueKind::Quorum,
            "classic" => QueueKind::Classic,
            _ => return Err(Refused::Unexpected),
        };
        Ok(())
    }),
    key("bus.heartbeat", "a duration of whole seconds from 2s to 60s", Shown::Whole, |c, v| {
        let seconds = |it: &Duration| it.subsec_nanos() == 0 && (2..=60).contains(&it.as_secs());
        c.rabbitmq.heartbeat = duration(v).ok().filter(seconds).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("bus.ca_file", "a readable PEM file", Shown::Path, |c, v| {
        read_text(Path::new(v), SECRET_FILE_LIMIT).map_err(|error| Refused::because(error.kind().to_string()))?;
        c.rabbitmq.ca_file = Some(v.into());
        Ok(())
    }),
    key("bus.delivery_limit", "a whole number from 1 to 90", Shown::Whole, |c, v| {
        c.rabbitmq.delivery_limit =
            number(v).filter(|limit| (1..=DELIVERIES_MAX).contains(limit)).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("bus.shards", "a whole number from 1 to 128", Shown::Whole, |c, v| {
        c.rabbitmq.shards =
            number(v).filter(|count| (1..=saga_core::BUCKETS).contains(count)).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("bus.local", "true or false", Shown::Whole, |c, v| {
        c.rabbitmq.local = v.parse().map_err(|_| Refused::Unexpected)?;
        Ok(())
    }),
    key("retention.inbox", KEPT, Shown::Whole, |c, v| {
        c.retention.inbox = kept(v)?;
        Ok(())
    }),
    key("retention.journal", KEPT, Shown::Whole, |c, v| {
        c.retention.journal = kept(v)?;
        Ok(())
    }),
    key("retention.redriven", KEPT, Shown::Whole, |c, v| {
        c.retention.redriven = kept(v)?;
        Ok(())
    }),
    key("retention.interval", DURATION_SOME, Shown::Whole, |c, v| {
        c.retention.interval = some_duration(v)?;
        Ok(())
    }),
    key("payment.delay", "a duration such as 5s or 500ms, at most 1day", Shown::Whole, |c, v| {
        c.payment.delay = duration(v).ok().filter(|it| *it <= PAYMENT_DELAY_MAX).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("payment.success_rate", "a number from 0 to 1, such as 0.5", Shown::Whole, |c, v| {
        c.payment.success_rate = number(v).filter(|rate| (0.0..=1.0).contains(rate)).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("payment.seed", "a whole number from 0 to 18446744073709551615", Shown::Whole, |c, v| {
        c.payment.seed = Some(number(v).ok_or(Refused::Unexpected)?);
        Ok(())
    }),
    key("payment.concurrency", "a whole number from 1 to 100000", Shown::Whole, |c, v| {
        c.payment.concurrency =
            number(v).filter(|count| (1..=CONCURRENCY_MAX).contains(count)).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("expiration.interval", DURATION_SOME, Shown::Whole, |c, v| {
        c.expiration.interval = some_duration(v)?;
        Ok(())
    }),
    key("expiration.after", DURATION_SOME, Shown::Whole, |c, v| {
        c.expiration.after = some_duration(v)?;
        Ok(())
    }),
    key("retry.limit", "a whole number from 0 to 100", Shown::Whole, |c, v| {
        c.retry.limit = number(v).filter(|limit| *limit <= RETRIES_MAX).ok_or(Refused::Unexpected)?;
        Ok(())
    }),
    key("retry.initial", DURATION_SOME, Shown::Whole, |c, v| {
        c.retry.initial = some_duration(v)?;
        Ok(())
    }),
    key("retry.max", DURATION_SOME, Shown::Whole, |c, v| {
        c.retry.max = some_duration(v)?;
        Ok(())
    }),
    key("auth.mode", "none or jwt", Shown::Whole, |c, v| {
        c.auth.mode = match v {
            "none" => AuthMode::None,
            "jwt" => AuthMode::Jwt,
            _ => return Err(Refused::Unexpected),
        };
        Ok(())
    }),
    key("auth.secret", "at least 32 bytes", Shown::Nothing, |c, v| {
        c.auth.secret = Some(secret(v)?);
        Ok(())
    }),
    key("auth.secret_file", "a readable file with at least 32 bytes", Shown::Path, |c, v| {
        let text =
            read_text(Path::new(v), SECRET_FILE_LIMIT).map_err(|error| Refused::because(error.kind().to_string()))?;
        c.auth.secret = Some(secret(text.trim_end_matches(['\r', '\n']))?);
        Ok(())
    }),
    key("auth.issuer", "a name of 1 to 200 characters", Shown::Whole, |c, v| {
        c.auth.issuer = name(v)?;
        Ok(())
    }),
    key("auth.audience", "a name of 1 to 200 characters", Shown::Whole, |c, v| {
        c.auth.audience = name(v)?;
        Ok(())
    }),
    key("log.format", "text or json", Shown::Whole, |c, v| {
        c.log.format = Some(match v {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(Refused::Unexpected),
        });
        Ok(())
    }),
    key("log.filter", "tracing directives, such as info,saga_core=debug", Shown::Whole, |c, v| {
        EnvFilter::builder().parse(v).map_err(|_| Refused::Unexpected)?;
        v.clone_into(&mut c.log.filter);
        Ok(())
    }),
    key("shutdown.drain", DURATION, Shown::Whole, |c, v| {
        c.drain = duration(v)?;
        Ok(())
    }),
];

/// The names of all keys.
pub fn key_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static str> {
    key_names().find(|key| *key == name)
}

/// Whether keys stand under that name.
pub(super) fn is_section(name: &str) -> bool {
    key_names().any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The error about a key that nobody knows.
pub(super) fn unknown(name: &str, raw: &Raw, origin: &Origin) -> ConfigError {
    let value = match raw {
        _ if may_be_secret(name) => "(not shown)".to_owned(),
        Raw::Scalar(text) => quote(&redact_url(text)),
        Raw::Other(what) => (*what).to_owned(),
    };
    let nearest = key_names().min_by_key(|key| distance(key, name)).filter(|key| distance(key, name) <= 3);
    let expected = match nearest {
        Some(key) => format!("a key that exists, perhaps {key}"),
        None => format!("one of {}", key_names().collect::<Vec<_>>().join(", ")),
    };
    ConfigError::line(format_args!("unknown key {name} = {value} ({origin}): expected {expected}"))
}

/// Reads one setting into the configuration.
pub(super) fn apply(config: &mut Config, setting: &Setting) -> Result<(), ConfigError> {
    let Some(key) = KEYS.iter().find(|key| key.name == setting.key) else { return Ok(()) };
    let (text, refused) = match &setting.raw {
        Raw::Scalar(text) => match (key.set)(config, text) {
            Ok(()) => return Ok(()),
            Err(refused) => (text.as_str(), refused),
        },
        Raw::Other(what) => (*what, Refused::Unexpected),
    };
    let expected = match refused {
        Refused::Unexpected => key.expected.to_owned(),
        Refused::Because(why) => format!("{}; {why}", key.expected),
    };
    let origin = setting.origin.clone();
    Err(match key.shown {
        Shown::Nothing => ConfigError::hidden(key.name, origin, expected),
        Shown::Path if !is_path(text) => ConfigError::hidden(key.name, origin, expected),
        Shown::Url => ConfigError::value(key.name, &redact_url(text), origin, expected),
        Shown::Whole | Shown::Path => ConfigError::value(key.name, text, origin, expected),
    })
}

/// Whether the text is surely a path, and not the secret itself, set at the wrong key.
fn is_path(text: &str) -> bool {
    text.contains('/') && Path::new(text).parent().is_some_and(Path::is_dir)
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn duration(text: &str) -> Result<Duration, Refused> {
    humantime::parse_duration(text).ok().filter(|it| *it <= DURATION_MAX).ok_or(Refused::Unexpected)
}

fn some_duration(text: &str) -> Result<Duration, Refused> {
    duration(text).and_then(|it| if it.is_zero() { Err(Refused::Unexpected) } else { Ok(it) })
}

/// How long something is kept; `None`: for ever.
fn kept(text: &str) -> Result<Option<Duration>, Refused> {
    if text == "forever" { Ok(None) } else { some_duration(text).map(Some) }
}

fn name(text: &str) -> Result<String, Refused> {
    let fits = (1..=NAME_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(Refused::Unexpected) }
}

fn secret(text: &str) -> Result<SecretString, Refused> {
    match text.len() {
        length if length < SECRET_MIN => Err(Refused::because(format!("there are {length}"))),
        _ => Ok(SecretString::from(text)),
    }
}
