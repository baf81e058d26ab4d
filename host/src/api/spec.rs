//! What the framework can not say in the description: which answer leads to which operation, whether tokens are asked for
//! at all, that fields which nobody knows are refused, and that an empty parameter is none.

use serde_json::{Map, Value, json};

/// An answer that holds what another operation takes.
struct Link {
    operation: &'static str,
    statuses: &'static [&'static str],
    leads_to: &'static str,
    parameter: &'static str,
    found_at: &'static str,
}

const fn link(
    operation: &'static str,
    statuses: &'static [&'static str],
    leads_to: &'static str,
    parameter: &'static str,
    found_at: &'static str,
) -> Link {
    Link { operation, statuses, leads_to, parameter, found_at }
}

const ID: &str = "$response.body#/id";
const FIRST_ID: &str = "$response.body#/items/0/id";
const NEXT_CURSOR: &str = "$response.body#/nextCursor";
const CORRELATION: &str = "$response.body#/correlationId";
const SUBMITTED: &[&str] = &["201", "200"];
const OK: &[&str] = &["200"];

static LINKS: [Link; 15] = [
    link("submitOrder", SUBMITTED, "getOrder", "id", ID),
    link("submitOrder", SUBMITTED, "getHistory", "id", ID),
    link("submitOrder", SUBMITTED, "listNotifications", "id", ID),
    link("listOrders", OK, "listOrders", "cursor", NEXT_CURSOR),
    link("listOrders", OK, "getOrder", "id", FIRST_ID),
    link("listOrders", OK, "getHistory", "id", FIRST_ID),
    link("listOrders", OK, "listNotifications", "id", FIRST_ID),
    link("getOrder", OK, "getHistory", "id", ID),
    link("getOrder", OK, "listNotifications", "id", ID),
    link("listDeadLetters", OK, "listDeadLetters", "cursor", NEXT_CURSOR),
    link("listDeadLetters", OK, "getDeadLetter", "id", FIRST_ID),
    link("listDeadLetters", OK, "redriveDeadLetter", "id", FIRST_ID),
    link("getDeadLetter", OK, "redriveDeadLetter", "id", ID),
    link("getDeadLetter", OK, "getHistory", "id", CORRELATION),
    link("redriveDeadLetter", &["202"], "getDeadLetter", "id", ID),
];

/// What a caller may send has no fields but those that are described.
const CLOSED: [&str; 2] = ["OrderRequest", "ItemRequest"];

/// What is answered to who may not come in; nobody is, while nobody is asked for a token.
const AT_THE_DOOR: [&str; 2] = ["401", "403"];

/// The description with its links; without tokens, if none are asked for.
pub(super) fn completed(spec: &str, asks_for_tokens: bool) -> String {
    let mut spec: Value = serde_json::from_str(spec).unwrap_or_default();
    for operation in operations(&mut spec) {
        if !asks_for_tokens {
            operation.remove("security");
        }
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            if parameter["in"] == "query" {
                parameter["allowEmptyValue"] = true.into();
            }
        }
        let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { continue };
        if !asks_for_tokens {
            responses.retain(|status, _| !AT_THE_DOOR.contains(&status.as_str()));
        }
        for link in LINKS.iter().filter(|link| link.operation == id) {
            for status in link.statuses {
                responses[*status]["links"][link.leads_to] =
                    json!({ "operationId": link.leads_to, "parameters": { link.parameter: link.found_at } });
            }
        }
    }
    for schema in CLOSED {
        if let Some(schema) = spec.pointer_mut(&format!("/components/schemas/{schema}")) {
            schema["additionalProperties"] = false.into();
        }
    }
    if !asks_for_tokens && let Some(components) = spec["components"].as_object_mut() {
        components.remove("securitySchemes");
    }
    spec.to_string()
}

fn operations(spec: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let paths = spec.get_mut("paths").and_then(Value::as_object_mut);
    let items = paths.into_iter().flat_map(|paths| paths.values_mut()).filter_map(Value::as_object_mut);
    items.flat_map(|item| item.values_mut()).filter_map(Value::as_object_mut)
}
