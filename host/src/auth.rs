//! Who is asking: bearer tokens, or nobody is asked.

use std::fmt;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use order_saga::MAX_USER_ID;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::config::{AuthConfig, AuthMode};

/// The user when nobody is asked.
pub const LOCAL_USER: &str = "local";

/// The scope that opens the dead letters.
pub const OPS_SCOPE: &str = "ops";

/// A token counts this long after it expired, and before it begins: clocks differ.
const LEEWAY_SECONDS: f64 = 30.0;

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: String,
    /// Whether the dead letters are open to them.
    pub ops: bool,
}

/// Nobody that may come in. Why is not told: it would help an attacker only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unauthenticated;

/// Tells who is asking.
pub struct Auth(Door);

enum Door {
    /// Nobody is asked.
    Open,
    /// Who has a valid token comes in.
    Guarded(Box<Verifier>),
    /// Nobody comes in: there is no key that a token could be signed with.
    Shut,
}

struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    scope: String,
    exp: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
}

#[derive(Serialize)]
struct Issued<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    iat: i64,
    exp: i64,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Auth").field(&if self.asks_for_tokens() { "jwt" } else { "none" }).finish()
    }
}

impl Auth {
    /// What the configuration says. Under [`AuthMode::Jwt`] without a secret, or with an empty one, nobody comes in.
    pub fn new(config: &AuthConfig) -> Self {
        let secret = config.secret.as_ref().map(|secret| secret.expose_secret().as_bytes());
        Self(match (config.mode, secret) {
            (AuthMode::None, _) => Door::Open,
            (AuthMode::Jwt, None | Some([])) => Door::Shut,
            (AuthMode::Jwt, Some(secret)) => {
                let mut validation = Validation::new(Algorithm::HS256);
                validation.set_issuer(&[&config.issuer]);
                validation.set_audience(&[&config.audience]);
                validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
                // Checked below, by the clock that the service was given.
                validation.validate_exp = false;
                Door::Guarded(Box::new(Verifier { key: DecodingKey::from_secret(secret), validation }))
            }
        })
    }

    /// Whether nobody comes in without a token.
    pub fn asks_for_tokens(&self) -> bool {
        !matches!(self.0, Door::Open)
    }

    /// Who sends this `Authorization` header.
    ///
    /// # Errors
    /// When tokens are wanted and it holds none that is valid at `now`.
    pub fn caller(&self, authorization: Option<&str>, now: DateTime<Utc>) -> Result<Caller, Unauthenticated> {
        let verifier = match &self.0 {
            Door::Open => return Ok(Caller { user: LOCAL_USER.to_owned(), ops: true }),
            Door::Shut => return Err(Unauthenticated),
            Door::Guarded(verifier) => verifier,
        };
        let (scheme, token) = authorization.and_then(|it| it.split_once(' ')).ok_or(Unauthenticated)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Unauthenticated);
        }
        let claims = jsonwebtoken::decode::<Claims>(token.trim(), &verifier.key, &verifier.validation)
            .map_err(|_| Unauthenticated)?
            .claims;
        let now = now.timestamp_millis() as f64 / 1000.0;
        let in_time = claims.exp + LEEWAY_SECONDS > now && claims.nbf.is_none_or(|nbf| nbf - LEEWAY_SECONDS <= now);
        if !in_time || !is_user(&claims.sub) {
            return Err(Unauthenticated);
        }
        Ok(Caller { ops: claims.scope.split(' ').any(|scope| scope == OPS_SCOPE), user: claims.sub })
    }
}

/// Whether a user may be named so: 1 to 200 characters, none of them a control character.
pub fn is_user(name: &str) -> bool {
    (1..=MAX_USER_ID).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// What a token says.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest<'a> {
    /// The user.
    pub user: &'a str,
    /// The scopes, separated by spaces; empty for none.
    pub scope: &'a str,
    /// When it is issued.
    pub now: DateTime<Utc>,
    /// How long it is valid.
    pub ttl: std::time::Duration,
}

/// Writes a token that [`Auth`] takes, if it is made from the same configuration.
///
/// # Errors
/// When the time it would expire at is out of range, or the token can not be signed.
pub fn issue(config: &AuthConfig, secret: &SecretString, request: TokenRequest<'_>) -> anyhow::Result<String> {
    let exp = request.now + chrono::Duration::from_std(request.ttl)?;
    let claims = Issued {
        iss: &config.issuer,
        aud: &config.audience,
        sub: request.user,
        scope: request.scope,
        iat: request.now.timestamp(),
        exp: exp.timestamp(),
    };
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}
