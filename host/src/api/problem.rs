//! Errors as `application/problem+json` (RFC 9457), one entry for each bad field, nothing internal.

use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaMediaType, MetaResponse, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};

/// The media type of every error.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
pub struct FieldError {
    /// Where: a path into the body such as `items[0].quantity`, or the name of a parameter or header.
    pub field: String,
    /// What, for people.
    pub detail: String,
}

impl FieldError {
    /// Says what is wrong with a field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// The body of an error.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Problem")]
pub struct ProblemBody {
    /// The kind of problem, a URI that stays the same.
    #[oai(rename = "type")]
    pub kind: String,
    /// The kind of problem, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, for people.
    #[oai(skip_serializing_if_is_none)]
    pub detail: Option<String>,
    /// One entry for each bad field.
    #[oai(skip_serializing_if_is_none)]
    pub errors: Option<Vec<FieldError>>,
}

/// An error on its way to the caller.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: Option<String>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The kinds of problems. Their `type` is `urn:saga-host:problem:NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is not JSON.
    BadJson,
    /// A parameter or header is not what it should be.
    BadParameter,
    /// No valid token.
    Unauthenticated,
    /// The token does not open this.
    Forbidden,
    /// There is none, or it is another's.
    NotFound,
    /// The path exists, but not for this method.
    MethodNotAllowed,
    /// The dead letter was redriven before.
    AlreadyRedriven,
    /// The request, its head or its body, did not come in time.
    TooSlow,
    /// The body is over the limit.
    TooLarge,
    /// The body is not of a type that is read here.
    UnsupportedMediaType,
    /// The body is JSON, but no order.
    InvalidOrder,
    /// The key was used with another body.
    KeyReused,
    /// What the framework refused.
    Refused(StatusCode),
    /// The service is broken.
    Internal,
    /// Not now.
    Unavailable,
    /// It may have been done, or not.
    OutcomeUnknown,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadJson => (StatusCode::BAD_REQUEST, "bad-json", "The body is not JSON"),
            Self::BadParameter => (StatusCode::BAD_REQUEST, "bad-parameter", "A parameter is not valid"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "A valid bearer token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token lacks the scope for this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is nothing here"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here")
            }
            Self::AlreadyRedriven => (StatusCode::CONFLICT, "already-redriven", "The dead letter was redriven before"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too-slow", "The request did not come in time"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body's type is not supported")
            }
            Self::InvalidOrder => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-order", "The order is not valid"),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The Idempotency-Key was used with another body",
            ),
            Self::Refused(status) => (status, "refused", status.canonical_reason().unwrap_or("The request is refused")),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service is not available now"),
            Self::OutcomeUnknown => {
                (StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown", "It is not known whether this was done")
            }
        }
    }

    /// The status that it is answered with.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// The URI that names it.
    pub fn uri(self) -> String {
        format!("urn:saga-host:problem:{}", self.parts().1)
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        self.parts().2
    }
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: Kind) -> Self {
        let mut problem = Self { kind, detail: None, errors: Vec::new(), headers: Vec::new() };
        if kind == Kind::Unauthenticated {
            problem.headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        problem
    }

    /// Says what is wrong this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says what is wrong with each field.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A parameter is not what it should be.
    pub fn parameters(errors: Vec<FieldError>) -> Self {
        Self::new(Kind::BadParameter).errors(errors)
    }

    /// Nothing was done; try again after a moment.
    pub fn busy() -> Self {
        Self::new(Kind::Unavailable).repeatable()
    }

    /// The service failed: the error goes to the log, not to the caller.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Kind::Internal)
    }

    /// The store does not answer: the error goes to the log, not to the caller.
    pub fn unavailable(error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%error, "a request found the service unavailable");
        Self::busy()
    }

    /// It may have been done, or not: why goes to the log, and to the caller what it may do.
    pub fn outcome_unknown(why: &dyn std::fmt::Display, advice: &str) -> Self {
        tracing::warn!(%why, "it is not known whether a request was done");
        Self::new(Kind::OutcomeUnknown).detail(advice)
    }

    /// The caller may repeat the same request after a moment.
    #[must_use]
    pub fn repeatable(self) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))
    }

    /// Its body.
    pub fn body(&self) -> ProblemBody {
        let (status, _, title) = self.kind.parts();
        ProblemBody {
            kind: self.kind.uri(),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            errors: Some(self.errors.clone()).filter(|errors| !Vec::is_empty(errors)),
        }
    }
}

/// What a caller is asked to wait before it tries again: a batch is written in milliseconds, an outage lasts longer.
const RETRY_AFTER_SECONDS: u16 = 1;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        use poem_openapi::types::ToJSON;
        let body = self.body().to_json_string();
        let mut response =
            Response::builder().status(self.kind.status()).header(header::CONTENT_TYPE, PROBLEM_JSON).body(body);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<Problem> for poem::Error {
    fn from(problem: Problem) -> Self {
        Self::from_response(problem.into_response())
    }
}

/// The problem's part in the description of an operation: the statuses it may be answered with.
pub(super) fn describe(statuses: &[(u16, &'static str)]) -> Vec<MetaResponse> {
    let response = |&(status, description): &(u16, &'static str)| MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType { content_type: PROBLEM_JSON, schema: ProblemBody::schema_ref() }],
        headers: Vec::new(),
    };
    statuses.iter().map(response).collect()
}

/// Registers the problem's schema.
pub(super) fn register(registry: &mut Registry) {
    ProblemBody::register(registry);
}

/// Declares an error type that is a [`Problem`] and says, in the description, with which statuses it comes.
macro_rules! problems {
    ($(#[$doc:meta])* $name:ident { $($status:literal: $description:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name($crate::api::problem::Problem);

        impl From<$crate::api::problem::Problem> for $name {
            fn from(problem: $crate::api::problem::Problem) -> Self {
                Self(problem)
            }
        }

        impl From<$name> for poem::Error {
            fn from(problem: $name) -> Self {
                problem.0.into()
            }
        }

        impl poem_openapi::ApiResponse for $name {
            fn meta() -> poem_openapi::registry::MetaResponses {
                let responses = $crate::api::problem::describe(&[$(($status, $description)),+]);
                poem_openapi::registry::MetaResponses { responses }
            }

            fn register(registry: &mut poem_openapi::registry::Registry) {
                $crate::api::problem::register(registry);
            }
        }
    };
}
pub(crate) use problems;

impl ApiResponse for Problem {
    fn meta() -> poem_openapi::registry::MetaResponses {
        poem_openapi::registry::MetaResponses { responses: Vec::new() }
    }

    fn register(registry: &mut Registry) {
        register(registry);
    }
}
