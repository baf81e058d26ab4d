//! What surrounds every request: its id, its log line, errors as problems.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, CatchUnwind};
use poem::endpoint::{BoxEndpoint, DynEndpoint};
use poem::http::{HeaderName, HeaderValue, StatusCode, Version, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use tracing::Instrument;

use super::problem::{Kind, Problem};
use super::{PAGES, READ_LIMIT, State, refusal};

/// Tells a request apart in logs and reports: taken from the caller if it is short and plain, else made here.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A caller's request id is taken up to this length.
const REQUEST_ID_MAX: usize = 64;

/// Which methods each path has, as the description says.
#[derive(Debug, Default)]
pub(super) struct Routes(Vec<(Vec<String>, Vec<String>)>);

impl Routes {
    /// The routes of an OpenAPI description.
    pub(super) fn of_spec(spec: &str) -> Self {
        let spec: serde_json::Value = serde_json::from_str(spec).unwrap_or_default();
        let mut routes = Self::default();
        for (path, operations) in spec["paths"].as_object().into_iter().flatten() {
            for method in operations.as_object().into_iter().flat_map(|it| it.keys()) {
                routes = routes.with(path, &method.to_uppercase());
            }
        }
        routes
    }

    /// One route more.
    pub(super) fn with(mut self, path: &str, method: &str) -> Self {
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        match self.0.iter_mut().find(|(other, _)| *other == segments) {
            Some((_, methods)) => methods.push(method.to_owned()),
            None => self.0.push((segments, vec![method.to_owned()])),
        }
        self
    }

    /// The `Allow` header of a path.
    pub(super) fn allowed(&self, path: &str) -> Option<HeaderValue> {
        let matches = |segments: &[String]| {
            let parts: Vec<_> = path.split('/').collect();
            parts.len() == segments.len()
                && segments.iter().zip(parts).all(|(it, part)| it == part || it.starts_with('{'))
        };
        let (_, methods) = self.0.iter().find(|(segments, _)| matches(segments))?;
        let mut methods = methods.clone();
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
        }
        HeaderValue::from_str(&methods.join(", ")).ok()
    }
}

/// Answers a request: with an id, a line in the log, and every error as a problem.
///
/// It is all that stands around the operations: each layer of the framework would move the request once more.
pub(super) struct Observed {
    pub(super) operations: BoxEndpoint<'static, Response>,
    pub(super) pages: BoxEndpoint<'static, Response>,
    pub(super) routes: Routes,
    pub(super) state: Arc<State>,
}

impl Endpoint for Observed {
    type Output = Response;

    fn call(&self, request: Request) -> impl Future<Output = poem::Result<Response>> + Send {
        let given = request.headers().get(REQUEST_ID).filter(|id| is_plain(id.as_bytes())).cloned();
        let made = || HeaderValue::from_str(&self.state.ids.next(self.state.now()).to_string()).ok();
        let id = given.or_else(made);
        // The path alone: a query may hold what is nobody's business.
        let (method, path) = (request.method(), request.uri().path());
        let span = tracing::info_span!("request", %method, path, id = id.as_ref().and_then(|it| it.to_str().ok()));
        let answer = self.answer(request).instrument(span);
        async move {
            let mut response = answer.await;
            if let Some(id) = id {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(response)
        }
    }
}

impl Observed {
    fn answer(&self, mut request: Request) -> impl Future<Output = Response> + Send {
        let path = request.uri().path().to_owned();
        let reads = request.method().is_safe();
        let call = names_one_host(&request).then(|| {
            request.extensions_mut().insert(self.state.clone());
            let endpoint = if PAGES.contains(&path.as_str()) { &self.pages } else { &self.operations };
            AssertUnwindSafe(DynEndpoint::call(&**endpoint, request)).catch_unwind()
        });
        async move {
            let response = self.answered(call, reads, &path).await;
            tracing::debug!(status = response.status().as_u16(), "answered");
            response
        }
    }

    /// What the call answers; without one, the request does not say to whom it goes.
    async fn answered(&self, call: Option<Call<'_>>, reads: bool, path: &str) -> Response {
        let Some(call) = call else {
            let problem = Problem::new(Kind::Refused(StatusCode::BAD_REQUEST));
            return problem.detail("exactly one Host header is expected").into_response();
        };
        // A change waits as long as it has to, and says itself what is known when that is too long.
        let answer = if reads { self.state.within(READ_LIMIT, call).await } else { Some(call.await) };
        match answer {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(error))) => refusal(error, &self.routes, path),
            Some(Err(_)) => Problem::internal(&"a request's handler panicked").into_response(),
            None => Problem::unavailable(&"the answer takes too long").into_response(),
        }
    }
}

/// A call of an endpoint; a panic costs its own request only.
type Call<'a> = CatchUnwind<AssertUnwindSafe<BoxFuture<'a, poem::Result<Response>>>>;

/// HTTP/1.1 wants one, and nobody may send two: whoever stands in front could have read the other one.
fn names_one_host(request: &Request) -> bool {
    match request.headers().get_all(header::HOST).iter().count() {
        0 => request.version() < Version::HTTP_11,
        count => count == 1,
    }
}

fn is_plain(id: &[u8]) -> bool {
    (1..=REQUEST_ID_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
