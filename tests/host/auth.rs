use chrono::{DateTime, Utc};
use host::auth::{Auth, Caller, TokenRequest, Unauthenticated, issue};
use host::config::AuthConfig;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{Host, SECRET, approved, assert_problem, guarded, quick, small};

fn config() -> AuthConfig {
    guarded().auth
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn claims() -> Value {
    let now = now().timestamp();
    json!({ "iss": "saga-host", "aud": "saga-host", "sub": "anna", "iat": now, "exp": now + 60 })
}

fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn signed(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    format!("Bearer {}", jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap())
}

fn hs256(changes: Value) -> String {
    signed(&with(changes), Algorithm::HS256, SECRET)
}

#[test]
fn given_a_valid_token_when_asked_then_the_subject_is_the_user() {
    let auth = Auth::new(&config());
    let caller = |ops| Ok(Caller { user: "anna".to_owned(), ops });
    assert_eq!(auth.caller(Some(&hs256(json!({}))), now()), caller(false));
    assert_eq!(auth.caller(Some(&hs256(json!({ "scope": "read ops" }))), now()), caller(true));
    assert_eq!(auth.caller(Some(&hs256(json!({ "scope": "opsx" }))), now()), caller(false));
    assert_eq!(auth.caller(Some(&hs256(json!({ "aud": ["other", "saga-host"] }))), now()), caller(false));
    assert_eq!(auth.caller(Some(&hs256(json!({})).replace("Bearer", "bearer")), now()), caller(false));
}

#[test]
fn given_a_token_that_is_not_valid_when_asked_then_nobody_comes_in() {
    let auth = Auth::new(&config());
    let at = now().timestamp();
    let unsigned = {
        use base64::Engine;
        let part = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        format!("Bearer {}.{}.", part(json!({ "alg": "none", "typ": "JWT" })), part(claims()))
    };
    let cases = [
        ("another secret", signed(&claims(), Algorithm::HS256, "another secret, which is just as long as it")),
        ("HS384", signed(&claims(), Algorithm::HS384, SECRET)),
        ("alg none", unsigned),
        ("expired", hs256(json!({ "exp": at - 31 }))),
        ("not yet valid", hs256(json!({ "nbf": at + 31 }))),
        ("no expiry", hs256(json!({ "exp": null }))),
        ("another issuer", hs256(json!({ "iss": "other" }))),
        ("no issuer", hs256(json!({ "iss": null }))),
        ("another audience", hs256(json!({ "aud": "other" }))),
        ("no audience", hs256(json!({ "aud": null }))),
        ("no subject", hs256(json!({ "sub": null }))),
        ("an empty subject", hs256(json!({ "sub": "" }))),
        ("a long subject", hs256(json!({ "sub": "x".repeat(201) }))),
        ("a subject with a line feed", hs256(json!({ "sub": "a\nb" }))),
        ("a subject that is a number", hs256(json!({ "sub": 1 }))),
        ("no token", "Bearer".to_owned()),
        ("another scheme", "Basic YTpi".to_owned()),
        ("no JWT", "Bearer abc".to_owned()),
    ];
    for (what, header) in cases {
        assert!(auth.caller(Some(&header), now()).is_err(), "{what}");
    }
    assert!(auth.caller(None, now()).is_err(), "no header");
}

#[test]
fn given_a_small_skew_when_asked_then_the_token_counts() {
    let auth = Auth::new(&config());
    let at = now().timestamp();
    assert!(auth.caller(Some(&hs256(json!({ "exp": at - 29 }))), now()).is_ok());
    assert!(auth.caller(Some(&hs256(json!({ "nbf": at + 29 }))), now()).is_ok());
}

#[test]
fn given_no_tokens_when_asked_then_the_user_is_local_and_may_everything() {
    let auth = Auth::new(&quick().auth);
    assert_eq!(auth.caller(None, now()), Ok(Caller { user: "local".to_owned(), ops: true }));
}

#[test]
fn given_the_secret_when_printed_then_it_is_not_shown() {
    assert!(!format!("{:?} {:?}", Auth::new(&config()), config()).contains(SECRET));
}

fn token(user: &str, scope: &str) -> String {
    let request = TokenRequest { user, scope, now: Utc::now(), ttl: std::time::Duration::from_secs(60) };
    issue(&config(), config().secret.as_ref().unwrap(), request).unwrap()
}

#[tokio::test]
async fn given_tokens_are_wanted_when_there_is_none_then_every_operation_on_data_is_401() {
    let host = Host::start(&guarded(), [approved()]).await;
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    for path in [
        "/api/orders".to_owned(),
        format!("/api/orders/{id}"),
        format!("/api/orders/{id}/history"),
        format!("/api/orders/{id}/notifications"),
        "/api/dead-letters".to_owned(),
        format!("/api/dead-letters/{id}"),
    ] {
        let answer = host.rest.get(&path).await.unwrap();
        let problem = assert_problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        assert_eq!(problem.get("detail"), None, "why is not told");
    }
    let answer = host.rest.post("/api/orders", &small().to_string(), &[]).await.unwrap();
    assert_problem(&answer, 401, "unauthenticated");
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    assert_problem(&host.rest.post("/api/orders", "{}", &twice).await.unwrap(), 401, "unauthenticated");
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"] {
        assert_eq!(host.rest.get(path).await.unwrap().status, 200, "{path} is open");
    }
}

#[tokio::test]
async fn given_two_users_when_they_look_then_each_sees_their_own_only() {
    let host = Host::start(&guarded(), [approved()]).await;
    let anna = host.rest.clone().with_token(token("anna", ""));
    let ben = host.rest.clone().with_token(token("ben", "ops"));
    let key = [("idempotency-key", "same-key")];
    let order: Value = anna.post("/api/orders", &small().to_string(), &key).await.unwrap().json().unwrap();
    assert_eq!(order["userId"], "anna");
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    assert_eq!(anna.get(&path).await.unwrap().status, 200);
    for path in [
        path.clone(),
        format!("{path}/history"),
        format!("{path}/history?format=flow"),
        format!("{path}/notifications"),
    ] {
        assert_problem(&ben.get(&path).await.unwrap(), 404, "not-found");
    }
    let list: Value = ben.get("/api/orders").await.unwrap().json().unwrap();
    assert_eq!(list, json!({ "items": [] }));
    let answer = ben.post("/api/orders", &small().to_string(), &key).await.unwrap();
    assert_eq!(answer.status, 201, "keys belong to their user");
    assert_ne!(answer.json::<Value>().unwrap()["id"], order["id"]);
}

#[tokio::test]
async fn given_dead_letters_when_the_token_lacks_the_scope_then_it_is_403() {
    let host = Host::start(&guarded(), [approved()]).await;
    let anna = host.rest.clone().with_token(token("anna", "read"));
    let ben = host.rest.clone().with_token(token("ben", "read ops"));
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_problem(&anna.get("/api/dead-letters").await.unwrap(), 403, "forbidden");
    assert_problem(&anna.get(&format!("/api/dead-letters/{id}")).await.unwrap(), 403, "forbidden");
    assert_problem(&anna.post(&format!("/api/dead-letters/{id}/redrive"), "", &[]).await.unwrap(), 403, "forbidden");
    assert_eq!(ben.get("/api/dead-letters").await.unwrap().status, 200);
}

#[test]
fn given_no_secret_when_asked_then_nobody_comes_in() {
    for secret in [None, Some("".into())] {
        let auth = Auth::new(&AuthConfig { secret, ..config() });
        let signed_with_nothing = signed(&claims(), Algorithm::HS256, "");
        for authorization in [None, Some(signed_with_nothing.as_str()), Some(hs256(json!({})).as_str())] {
            assert_eq!(auth.caller(authorization, now()), Err(Unauthenticated), "{authorization:?}");
        }
    }
}
