//! The REST interface, described by OpenAPI.

mod caller;
mod dead_letters;
mod health;
mod history;
mod json;
mod key;
mod metrics;
mod order_body;
mod orders;
mod params;
mod problem;
mod routes;
mod spec;
mod types;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::body::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use order_saga::Orders;
use poem::endpoint::BoxEndpoint;
use poem::{Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Response, Route, endpoint, http::header};
use poem_openapi::{OpenApi, OpenApiService, Tags};
use saga_core::{Client, Clock, Point, Probe, Store};
use uuid::{ContextV7, Timestamp, Uuid};

use crate::auth::Auth;
use health::HealthCheck;

use routes::{Observed, Routes};

pub use health::Migrations;
pub(crate) use problem::{Kind, Problem};

/// What the interface stands on.
pub struct State {
    /// Orders and notifications, to be read.
    pub orders: Arc<dyn Orders>,
    /// Journals and dead letters, to be read.
    pub store: Arc<dyn Store>,
    /// The way into the runtime.
    pub client: Client,
    /// Who may come in.
    pub auth: Auth,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Ids,
    /// What was measured.
    pub metrics: PrometheusHandle,
    /// Whether the tables are there.
    pub migrations: Arc<dyn Migrations>,
    /// Whether this host answers orders; if not, health and metrics alone.
    pub takes_orders: bool,
    /// Who is told of named points, in crash tests.
    pub probe: Option<Arc<dyn Probe>>,
}

impl State {
    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// What the work answers, if it does so before `limit` has passed by the service's clock. No time is taken for what
    /// is done at once.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut passed) = (pin!(work), None);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => passed.get_or_insert_with(|| self.clock.sleep(limit)).as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    async fn reached(&self, point: Point) {
        if let Some(probe) = &self.probe {
            probe.reached(point).await;
        }
    }
}

/// Makes ids (UUIDv7): later ones are larger, within a millisecond too, so that lists by id are lists by age.
#[derive(Debug, Default)]
pub struct Ids(std::sync::Mutex<ContextV7>);

impl Ids {
    /// The next id, at `now`.
    pub fn next(&self, now: DateTime<Utc>) -> Uuid {
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        let context = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Uuid::new_v7(Timestamp::from_unix(&*context, seconds, now.timestamp_subsec_nanos()))
    }
}

/// A change is waited for so long, then the caller is told that its outcome is not known: a commit takes milliseconds,
/// and whoever asks seldom waits longer than half a minute itself.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// An answer that changes nothing is waited for so long: reading takes milliseconds, and may be repeated at any time.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How the operations are grouped in the description.
#[derive(Tags)]
enum Group {
    /// Orders, their history and notifications. A user sees their own only.
    Orders,
    /// Messages that nobody could handle. For operators: under `jwt` the scope `ops` is needed.
    DeadLetters,
    /// For whoever runs the service; open to everybody that reaches it.
    Operations,
}

const DESCRIPTION: &str = "Takes orders and runs the order process.\n\n\
    Every error is `application/problem+json`. What can not be read (bad JSON, a bad parameter, cursor or id) is 400; \
    JSON that is no valid order is 422, with one entry in `errors` for each bad field.\n\n\
    Money is a decimal in a string with two decimals; times are RFC 3339 in UTC.";

/// The whole interface, or that of a host that takes no orders: routes, description, page, and every error as a problem.
pub fn endpoint(state: Arc<State>) -> impl Endpoint<Output = Response> + 'static {
    let operations = health::HealthApi(HealthCheck::new(state.clone()));
    if !state.takes_orders {
        return described(operations, state);
    }
    let apis = (
        orders::OrdersApi(state.clone()),
        history::HistoryApi(state.clone()),
        dead_letters::DeadLettersApi(state.clone()),
        operations,
    );
    described(apis, state)
}

fn described(apis: impl OpenApi + 'static, state: Arc<State>) -> Observed {
    let service = OpenApiService::new(apis, "Orders", env!("CARGO_PKG_VERSION")).description(DESCRIPTION);
    let spec = spec::completed(&service.spec(), state.auth.asks_for_tokens());
    let mut routes = Routes::of_spec(&spec);
    for page in PAGES {
        routes = routes.with(page, "GET");
    }
    let pages = pages(spec, service.swagger_ui_html());
    Observed { operations: service.into_endpoint(), pages, routes, state }
}

/// What is told about the interface: its description, for programs and for people.
const PAGES: [&str; 2] = ["/openapi.json", "/docs"];

fn pages(spec: String, html: String) -> BoxEndpoint<'static, Response> {
    let page = |content_type: &'static str, text: Bytes| {
        let page = move |_| Response::builder().header(header::CONTENT_TYPE, content_type).body(text.clone());
        poem::get(endpoint::make_sync(page))
    };
    let [description, docs] = PAGES;
    let routes = Route::new().at(description, page("application/json", spec.into()));
    routes.at(docs, page("text/html; charset=utf-8", html.into())).boxed()
}

/// Whatever the framework refuses, as a problem.
fn refusal(error: poem::Error, routes: &Routes, path: &str) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    match error.status() {
        poem::http::StatusCode::NOT_FOUND => Problem::new(Kind::NotFound).into_response(),
        poem::http::StatusCode::METHOD_NOT_ALLOWED => {
            let problem = Problem::new(Kind::MethodNotAllowed);
            match routes.allowed(path) {
                Some(allowed) => problem.header(header::ALLOW, allowed).into_response(),
                None => problem.into_response(),
            }
        }
        status if status.is_server_error() => Problem::internal(&error).into_response(),
        status => Problem::new(Kind::Refused(status)).into_response(),
    }
}
