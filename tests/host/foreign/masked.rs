//! JSON without what differs from run to run.

use chrono::DateTime;
use uuid::Uuid;

/// Who sent a message: another machine, another process.
const HOST: [&str; 6] =
    ["machineName", "processName", "assembly", "assemblyVersion", "frameworkVersion", "operatingSystemVersion"];

/// The JSON byte for byte, but ids, times, addresses up to their last part, and who sent it.
pub(super) fn masked(json: &str) -> String {
    let (mut out, mut key, mut rest) = (String::new(), String::new(), json);
    while let Some(at) = rest.find('"') {
        let (before, text) = rest.split_at(at);
        let end = 1 + text[1..].find('"').unwrap() + 1;
        out.push_str(&masked_number(&key, before));
        let (text, after) = text.split_at(end);
        let inner = &text[1..end - 1];
        if after.trim_start().starts_with(':') {
            inner.clone_into(&mut key);
            out.push_str(text);
        } else {
            out.push_str(&format!("\"{}\"", masked_text(&key, inner)));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn masked_text(key: &str, text: &str) -> String {
    if HOST.contains(&key) {
        "<host>".to_owned()
    } else if text.parse::<Uuid>().is_ok() {
        "<id>".to_owned()
    } else if DateTime::parse_from_rfc3339(text).is_ok() {
        "<time>".to_owned()
    } else if let Some(address) = text.strip_prefix("rabbitmq://") {
        format!("rabbitmq://<broker>/{}", address.rsplit('/').next().unwrap_or_default())
    } else {
        text.to_owned()
    }
}

/// What stands between two texts; behind `processId` it has a number.
fn masked_number(key: &str, between: &str) -> String {
    let digits = |letter: char| letter.is_ascii_digit();
    match between.find(digits) {
        Some(at) if key == "processId" => {
            format!("{}<number>{}", &between[..at], between[at..].trim_start_matches(digits))
        }
        _ => between.to_owned(),
    }
}

#[test]
fn given_json_when_it_is_masked_then_all_else_is_byte_for_byte_the_same() {
    let json = r#"{ "id":"0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11", "at" : ["2026-03-01T09:15:02Z",7],
        "host":{"machineName":"web1","processId":17},"to":"rabbitmq://mq:5673/shop/order-saga","total":"19.90"}"#;
    let expected = r#"{ "id":"<id>", "at" : ["<time>",7],
        "host":{"machineName":"<host>","processId":<number>},"to":"rabbitmq://<broker>/order-saga","total":"19.90"}"#;
    assert_eq!(masked(json), expected);
}
