//! Logs and metrics.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// The crates that may log below `info`. What others log there holds what they send and receive, and with it secrets:
/// a broker's password, a query's values. No filter brings it back.
const OWN: [&str; 4] = ["saga_core", "order_saga", "host", "saga_host"];

/// How often histograms are folded together, so that they do not grow between scrapes.
pub const UPKEEP: Duration = Duration::from_secs(5);

const SECONDS: [f64; 13] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Starts to log, to standard error: standard output belongs to what commands answer.
///
/// # Errors
/// When the filter can not be read, or somebody else logs already.
pub fn start_logging(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&config.filter).context("log.filter can not be read")?;
    let terminal = std::io::stderr().is_terminal();
    let format = config.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let quiet = filter_fn(|metadata| may_log(metadata.target(), *metadata.level()));
    // The filters stand before the one layer, not at it: a filter at a layer remembers what a crate has only asked about,
    // and swallows the next line of that thread.
    let filtered = tracing_subscriber::registry().with(filter).with(quiet);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => filtered.with(lines.with_ansi(terminal)).try_init(),
        LogFormat::Json => filtered.with(lines.json().flatten_event(true)).try_init(),
    };
    started.context("the log can not be started")
}

/// Whether a target may log at a level, whatever the filter says.
fn may_log(target: &str, level: Level) -> bool {
    let own =
        OWN.iter().any(|name| target == *name || target.strip_prefix(name).is_some_and(|it| it.starts_with("::")));
    // poem tells at `info` that it listens; the service says that itself, once.
    let poem = target == "poem" || target.starts_with("poem::");
    own || level < Level::INFO || (level == Level::INFO && !poem)
}

/// The recorder of the process's metrics; the first call installs it.
///
/// # Errors
/// When somebody else has installed another one.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE.get_or_init(|| install().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZES)?
        .install_recorder()
        .context("the metrics can not be recorded")?;
    metrics::describe_counter!("saga_messages_handled_total", "Messages that an endpoint has handled, by outcome.");
    metrics::describe_counter!("saga_messages_retried_total", "Failed attempts that are made again later.");
    metrics::describe_counter!("saga_messages_faulted_total", "Messages that became dead letters.");
    metrics::describe_histogram!("saga_batch_size", "Messages that shared one commit.");
    metrics::describe_histogram!("saga_commit_seconds", "How long commits took.");
    metrics::describe_histogram!("saga_handler_seconds", "How long activities and consumers took for one attempt.");
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_targets_when_asked_then_others_log_at_info_at_most_and_poem_at_warn() {
        for (target, level, may) in [
            ("saga_core::runtime", Level::TRACE, true),
            ("host", Level::DEBUG, true),
            ("hostile", Level::DEBUG, false),
            ("amqprs::api", Level::TRACE, false),
            ("sqlx::query", Level::DEBUG, false),
            ("sqlx::query", Level::INFO, true),
            ("poem::server", Level::INFO, false),
            ("poem::server", Level::WARN, true),
        ] {
            assert_eq!(may_log(target, level), may, "{target} {level}");
        }
    }
}
