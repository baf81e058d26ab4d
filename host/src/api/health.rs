//! Whether the service lives and is ready, and what was measured.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use poem::Request;
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use saga_core::{Commit, Envelope, Message, StoreError, TimerKind, TimerRow};
use serde::{Deserialize, Serialize};

use super::metrics::Metrics;
use super::params::BadParams;
use super::problem::{Kind, problems};
use super::{Group, State};
use crate::config::redact_url;

/// A check that takes longer has failed: whoever asks waits not much longer itself.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the store's tables are as this version wants them.
#[async_trait]
pub trait Migrations: Send + Sync + 'static {
    /// How many migrations are still to be applied.
    ///
    /// # Errors
    /// When that can not be told, or one was changed after it was applied.
    async fn pending(&self) -> Result<usize, StoreError>;
}

/// What the store is asked to write and to remove again, in one commit, to see that it can write.
#[derive(Debug, Serialize, Deserialize)]
struct Checked {}

impl Message for Checked {
    const NAME: &'static str = "Host:Checked";
}

/// Tells whether the service is ready, and what was measured.
pub(super) struct HealthCheck {
    state: Arc<State>,
    metrics: Metrics,
}

/// The operations for whoever runs the service.
pub(super) struct HealthApi(pub(super) HealthCheck);

/// The process answers.
#[derive(Debug, Object)]
struct Live {
    /// Always `true`.
    live: bool,
}

/// How one part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Condition {
    Ok,
    Failed,
}

/// How one part is, and why.
#[derive(Debug, Object)]
struct Check {
    /// How it is.
    state: Condition,
    /// Why, if it is not ok.
    #[oai(skip_serializing_if_is_none)]
    reason: Option<String>,
}

/// How each part is.
#[derive(Debug, Object)]
struct Checks {
    /// Whether the store answers and can write.
    store: Check,
    /// Whether the bus can send and receive.
    bus: Check,
    /// Whether the store's tables are as this version wants them.
    migrations: Check,
}

/// The service is ready.
#[derive(Debug, Object)]
struct Ready {
    /// Always `true`.
    ready: bool,
    /// How each part is.
    checks: Checks,
}

/// The service is not ready: a problem that says how each part is.
#[derive(Debug, Object)]
struct NotReady {
    /// The kind of problem.
    #[oai(rename = "type")]
    kind: String,
    /// The kind of problem, for people.
    title: String,
    /// 503.
    status: u16,
    /// Always `false`.
    ready: bool,
    /// How each part is.
    checks: Checks,
}

/// A JSON object of the media type of problems.
struct ProblemJson<T>(T);

impl<T: poem_openapi::types::Type> Payload for ProblemJson<T> {
    const CONTENT_TYPE: &'static str = super::problem::PROBLEM_JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut poem_openapi::registry::Registry) {
        T::register(registry);
    }
}

impl<T: poem_openapi::types::ToJSON> poem::IntoResponse for ProblemJson<T> {
    fn into_response(self) -> poem::Response {
        poem::Response::builder().content_type(super::problem::PROBLEM_JSON).body(self.0.to_json_string())
    }
}

/// Whether the service is ready.
#[derive(ApiResponse)]
enum Readiness {
    /// It is.
    #[oai(status = 200)]
    Ready(Json<Ready>),
    /// It is not; `checks` says why.
    #[oai(status = 503)]
    NotReady(ProblemJson<NotReady>),
}

/// What was measured, in Prometheus' text format.
struct Exposition(String);

impl Payload for Exposition {
    const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")))
    }
}

impl poem::IntoResponse for Exposition {
    fn into_response(self) -> poem::Response {
        poem::Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

/// What was measured.
#[derive(ApiResponse)]
enum Measured {
    /// Prometheus' text format.
    #[oai(status = 200)]
    Text(Exposition),
}

problems! {
    /// How these may fail.
    HealthProblem {
        400: "A parameter is not valid.",
        500: "The service failed.",
    }
}

#[OpenApi(tag = "Group::Operations")]
impl HealthApi {
    /// Tells that the process answers
    #[oai(path = "/health/live", method = "get", operation_id = "live")]
    async fn live(&self, request: &Request) -> Result<Json<Live>, HealthProblem> {
        BadParams::of_query(request, &[]).finish()?;
        Ok(Json(Live { live: true }))
    }

    /// Tells whether store, bus and migrations are well
    #[oai(path = "/health/ready", method = "get", operation_id = "ready")]
    async fn ready(&self, request: &Request) -> Result<Readiness, HealthProblem> {
        BadParams::of_query(request, &[]).finish()?;
        let checks = self.0.checks().await;
        let ready = [&checks.store, &checks.bus, &checks.migrations].iter().all(|it| it.state == Condition::Ok);
        Ok(if ready {
            Readiness::Ready(Json(Ready { ready, checks }))
        } else {
            let (kind, status) = (Kind::Unavailable, Kind::Unavailable.status().as_u16());
            let (kind, title) = (kind.uri(), kind.title().to_owned());
            Readiness::NotReady(ProblemJson(NotReady { kind, title, status, ready, checks }))
        })
    }

    /// Tells what was measured, in Prometheus' text format
    #[oai(path = "/metrics", method = "get", operation_id = "metrics")]
    async fn metrics(&self, request: &Request) -> Result<Measured, HealthProblem> {
        BadParams::of_query(request, &[]).finish()?;
        Ok(Measured::Text(Exposition(self.0.metrics.render(&self.0.state).await)))
    }
}

impl HealthCheck {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state, metrics: Metrics::default() }
    }

    async fn checks(&self) -> Checks {
        let state = &self.state;
        let store = async { self.check_store().await.map_err(told) };
        let migrations = async {
            match state.migrations.pending().await.map_err(told)? {
                0 => Ok(()),
                count => Err(format!("{count} migrations are to be applied: run saga-host migrate")),
            }
        };
        let (store, migrations) =
            tokio::join!(state.within(CHECK_TIMEOUT, store), state.within(CHECK_TIMEOUT, migrations));
        let bus = state.client.bus_health().map_err(|reason| redact_url(&reason));
        Checks { store: check(store), bus: check(Some(bus)), migrations: check(migrations) }
    }

    /// Reads, and commits something that leaves nothing behind: a writer that is gone or stuck, and a full disk, are seen
    /// by nothing less. Checks that come together share a transaction, as all commits do.
    async fn check_store(&self) -> Result<(), StoreError> {
        let state = &self.state;
        state.store.next_due().await?;
        let now = state.now();
        let token = state.ids.next(now);
        let (endpoint, envelope) = (Checked::NAME.into(), Arc::new(Envelope::new(token, &Checked {})));
        let mut commit = Commit::new(now);
        // A commit applies its timers before what it cancels.
        commit.timers.push(TimerRow { token, endpoint, kind: TimerKind::Timer, due: now, envelope });
        commit.cancelled.push(token);
        state.store.commit(Arc::new(commit)).await.map(drop)
    }
}

/// `None` is no answer in time.
fn check(outcome: Option<Result<(), String>>) -> Check {
    let reason = match outcome {
        Some(Ok(())) => return Check { state: Condition::Ok, reason: None },
        Some(Err(reason)) => reason,
        None => format!("no answer within {} seconds", CHECK_TIMEOUT.as_secs()),
    };
    Check { state: Condition::Failed, reason: Some(reason) }
}

/// What is told of a store's failure: its kind. The rest goes to the log, because it may name what is nobody's business.
fn told(error: StoreError) -> String {
    tracing::warn!(%error, "the store is not ready");
    match error {
        StoreError::Corrupt(_) => "what is stored can not be read; the log says more".to_owned(),
        _ => "the store can not be read or written; the log says more".to_owned(),
    }
}
