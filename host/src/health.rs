//! Whether a service that runs with this configuration is ready: what a container's health check asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::rest::{Answer, Rest};

/// The service gives its checks two seconds, all at the same time; one that needs longer to say so is not well either.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Readiness {
    checks: BTreeMap<String, Check>,
}

#[derive(Deserialize)]
struct Check {
    reason: Option<String>,
}

/// Asks the service that listens there.
///
/// # Errors
/// When it does not answer in time or is not ready, with the reasons that it gives.
pub(crate) async fn ready(listen: SocketAddr) -> anyhow::Result<()> {
    let address = reachable(listen);
    let rest = Rest::new(address);
    let answer = tokio::time::timeout(ANSWER_LIMIT, rest.get("/health/ready")).await;
    let answer =
        answer.with_context(|| format!("{address} does not answer within {} seconds", ANSWER_LIMIT.as_secs()))?;
    let answer = answer.with_context(|| format!("{address} does not answer"))?;
    match answer.status {
        200 => Ok(()),
        status => bail!("{address} is not ready ({status}){}", reasons(&answer)),
    }
}

/// Where the service can be asked: one that listens on every address does so on loopback as well.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What the answer says of each part that is not well; nothing, if it is not such an answer.
fn reasons(answer: &Answer) -> String {
    let checks = answer.json::<Readiness>().map(|it| it.checks).unwrap_or_default();
    let failed = checks.into_iter().filter_map(|(part, check)| Some((part, check.reason?)));
    failed.map(|(part, reason)| format!("; {part}: {reason}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_loopback() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(asked("[::]:8080"), "[::1]:8080");
        assert_eq!(asked("192.0.2.1:80"), "192.0.2.1:80");
    }
}
