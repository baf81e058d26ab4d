use std::collections::BTreeSet;

use host::config::Config;
use serde_json::Value;

use crate::support::{Host, approved, guarded, quick};

async fn spec() -> Value {
    spec_of(&guarded()).await
}

async fn spec_of(config: &Config) -> Value {
    let host = Host::start(config, [approved()]).await;
    let answer = host.rest.get("/openapi.json").await.unwrap();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json().unwrap()
}

fn operations(spec: &Value) -> Vec<(String, &Value)> {
    let paths = spec["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, it)| (format!("{method} {path}"), it))
        })
        .collect()
}

#[tokio::test]
async fn given_the_description_when_read_then_every_route_is_in_it() {
    let spec = spec().await;
    assert_eq!(spec["openapi"], "3.0.0");
    let routes: BTreeSet<String> = operations(&spec).into_iter().map(|(route, _)| route).collect();
    let expected = [
        "post /api/orders",
        "get /api/orders",
        "get /api/orders/{id}",
        "get /api/orders/{id}/history",
        "get /api/orders/{id}/notifications",
        "get /api/dead-letters",
        "get /api/dead-letters/{id}",
        "post /api/dead-letters/{id}/redrive",
        "get /health/live",
        "get /health/ready",
        "get /metrics",
    ];
    assert_eq!(routes, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn given_the_description_when_read_then_every_reference_leads_somewhere_and_every_error_is_a_problem() {
    let spec = spec().await;
    let mut references = Vec::new();
    collect(&spec, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        assert!(spec.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    let mut ids = BTreeSet::new();
    for (route, operation) in operations(&spec) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{route} has an id of its own");
        assert!(operation["summary"].as_str().is_some(), "{route} says what it does");
        for (status, response) in operation["responses"].as_object().unwrap() {
            if status.starts_with(['4', '5']) {
                let content = response["content"].as_object().unwrap();
                assert_eq!(content.keys().collect::<Vec<_>>(), ["application/problem+json"], "{route} {status}");
            }
        }
        let open = route.contains("/health/") || route.contains("/metrics");
        assert_eq!(operation["security"].is_null(), open, "{route}");
    }
}

#[tokio::test]
async fn given_the_description_when_read_then_a_submission_is_described() {
    let spec = spec().await;
    let submit = &spec["paths"]["/api/orders"]["post"];
    let statuses: BTreeSet<_> = submit["responses"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(statuses, ["200", "201", "400", "401", "408", "413", "415", "422", "500", "503"].into());
    assert_eq!(submit["parameters"][0]["name"], "Idempotency-Key");
    assert_eq!(submit["parameters"][0]["required"], false);
    assert!(
        submit["responses"]["201"]["headers"]
            .as_object()
            .unwrap()
            .keys()
            .any(|name| name.eq_ignore_ascii_case("location"))
    );
    let body = &submit["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(body, "#/components/schemas/OrderRequest");
    assert_eq!(spec["components"]["schemas"]["ItemRequest"]["properties"]["price"]["type"], "string");
    for schema in ["OrderRequest", "ItemRequest"] {
        assert_eq!(spec["components"]["schemas"][schema]["additionalProperties"], false, "{schema}");
    }
    for parameter in spec["paths"]["/api/orders"]["get"]["parameters"].as_array().unwrap() {
        assert_eq!(parameter["allowEmptyValue"], true, "{parameter}");
    }
}

#[tokio::test]
async fn given_no_tokens_are_asked_for_when_the_description_is_read_then_it_speaks_of_none() {
    let spec = spec_of(&quick()).await;
    assert!(spec["components"]["securitySchemes"].is_null());
    for (route, operation) in operations(&spec) {
        assert!(operation["security"].is_null(), "{route}");
        for status in ["401", "403"] {
            assert!(operation["responses"][status].is_null(), "{route} {status}");
        }
    }
}

#[tokio::test]
async fn given_a_host_that_takes_no_orders_when_the_description_is_read_then_nothing_of_them_is_in_it() {
    let mut config = quick();
    config.roles.api = false;
    let spec = spec_of(&config).await;
    let ids: BTreeSet<_> = operations(&spec).into_iter().map(|(_, it)| it["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["live", "metrics", "ready"].into());
    assert!(spec["components"]["schemas"]["OrderRequest"].is_null());
}

#[tokio::test]
async fn given_the_description_when_its_links_are_followed_then_each_operation_takes_what_it_is_given() {
    let spec = spec().await;
    let operations = operations(&spec);
    let mut led_to = BTreeSet::new();
    for (route, operation) in &operations {
        for (status, response) in operation["responses"].as_object().unwrap() {
            for link in response["links"].as_object().into_iter().flat_map(|links| links.values()) {
                let (_, target) = operations.iter().find(|(_, it)| it["operationId"] == link["operationId"]).unwrap();
                led_to.insert(link["operationId"].as_str().unwrap());
                for (name, expression) in link["parameters"].as_object().unwrap() {
                    let takes = target["parameters"].as_array().unwrap().iter().any(|it| it["name"] == name.as_str());
                    assert!(takes, "{route} {status}: {link}");
                    let field = expression.as_str().unwrap().rsplit('/').next().unwrap();
                    let content = response["content"].as_object().unwrap().values().next().unwrap();
                    assert!(has_field(&spec, &content["schema"], field), "{route} {status}: {link}");
                }
            }
        }
    }
    let expected = ["getDeadLetter", "getHistory", "getOrder", "listDeadLetters", "listNotifications", "listOrders"];
    assert_eq!(led_to, [expected.as_slice(), &["redriveDeadLetter"]].concat().into_iter().collect());
}

/// Whether a schema, or the items of the list that it describes, has a field.
fn has_field(spec: &Value, schema: &Value, field: &str) -> bool {
    let follow = |schema: &Value| match schema["$ref"].as_str() {
        Some(reference) => spec.pointer(reference.strip_prefix('#').unwrap()).unwrap().clone(),
        None => schema.clone(),
    };
    let schema = follow(schema);
    !schema["properties"][field].is_null()
        || !follow(&schema["properties"]["items"]["items"])["properties"][field].is_null()
}

#[tokio::test]
async fn given_the_page_when_opened_then_it_needs_no_internet() {
    let host = Host::start(&quick(), [approved()]).await;
    let answer = host.rest.get("/docs").await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let page = answer.text();
    assert!(page.contains("SwaggerUIBundle"));
    for loads in ["<script src", "<link ", "@import", "@font-face"] {
        assert!(!page.contains(loads), "{loads}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" => references.push(reference.clone()),
                    member => collect(member, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
