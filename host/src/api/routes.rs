//! What surrounds every request: its id, its log line, errors as problems.

use std::sync::Arc;

use poem::http::{HeaderName, HeaderValue};
use poem::{Endpoint, Request, Response};
use tracing::Instrument;

use super::{State, refusal};

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
pub(super) struct Observed<E> {
    pub(super) endpoint: E,
    pub(super) routes: Routes,
    pub(super) state: Arc<State>,
}

impl<E: Endpoint<Output = Response>> Endpoint for Observed<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let given = request.headers().get(REQUEST_ID).filter(|id| is_plain(id.as_bytes())).cloned();
        let made = || HeaderValue::from_str(&self.state.ids.next(self.state.now()).to_string()).ok();
        let id = given.or_else(made);
        // The path alone: a query may hold what is nobody's business.
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let span = tracing::info_span!("request", %method, path, id = id.as_ref().and_then(|it| it.to_str().ok()));
        let answer = async {
            let response = match self.endpoint.call(request).await {
                Ok(response) => response,
                Err(error) => refusal(error, &self.routes, &path),
            };
            tracing::debug!(status = response.status().as_u16(), "answered");
            response
        };
        let mut response = answer.instrument(span).await;
        if let Some(id) = id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

fn is_plain(id: &[u8]) -> bool {
    (1..=REQUEST_ID_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
