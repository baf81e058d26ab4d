//! Who is asking, as the operations take it.

use std::sync::Arc;

use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::State;
use super::problem::{Kind, Problem};
use crate::auth::Caller;

/// The scheme's name in the description.
const SCHEME: &str = "bearer";

/// A user.
pub(super) struct User(pub(super) String);

/// Somebody to whom the dead letters are open.
pub(super) struct Operator;

fn caller(request: &Request) -> Result<Caller, Problem> {
    let unauthenticated = || Problem::new(Kind::Unauthenticated);
    let state = request.data::<Arc<State>>().ok_or_else(|| Problem::internal(&"the request has no state"))?;
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let authorization = match (headers.next(), headers.next()) {
        (None, _) => None,
        (Some(value), None) => Some(value.to_str().map_err(|_| unauthenticated())?),
        (Some(_), Some(_)) => return Err(unauthenticated()),
    };
    state.auth.caller(authorization, state.now()).map_err(|_| unauthenticated())
}

fn register_scheme(registry: &mut Registry) {
    let scheme = MetaSecurityScheme {
        ty: "http",
        description: Some(
            "A bearer token signed with HS256; `sub` is the user. Not asked for while `auth.mode` is `none`.",
        ),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: Some("JWT"),
        flows: None,
        openid_connect_url: None,
    };
    registry.create_security_scheme(SCHEME, scheme);
}

macro_rules! security {
    ($name:ident, $from:expr) => {
        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                register_scheme(registry);
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![SCHEME]
            }

            async fn from_request(
                request: &'a Request,
                _: &mut RequestBody,
                _: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let from: fn(Caller) -> Result<Self, Problem> = $from;
                Ok(from(caller(request)?)?)
            }
        }
    };
}

security!(User, |caller| Ok(User(caller.user)));
security!(Operator, |caller| if caller.ops { Ok(Operator) } else { Err(Problem::new(Kind::Forbidden)) });
