//! One message as it went over the wire.

use std::fs;
use std::path::{Path, PathBuf};

use amqprs::{BasicProperties, FieldTable, FieldValue};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One message as it went over the wire, with who sent it and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Which library sent it, and by which of its calls.
    pub sender: String,
    /// The exchange that it was published to; empty: the default one.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its AMQP properties by their names; those that are absent are not there. Headers have the letter of their AMQP type.
    pub properties: Map<String, Value>,
    /// Its body, which was UTF-8 each time.
    pub body: String,
}

impl Recording {
    /// The recording of that name in `tests/foreign/recorded`.
    ///
    /// # Panics
    /// When there is none, or it can not be read.
    pub fn of(name: &str) -> Self {
        let path = path(name);
        let read = fs::read(&path).with_context(|| path.display().to_string());
        let recording = read.and_then(|json| Ok(serde_json::from_slice(&json)?));
        recording.unwrap_or_else(|error| panic!("the recording {name} can not be read: {error:#}"))
    }

    /// What a consumer of theirs has read, by its name in `tests/foreign/recorded/read`.
    ///
    /// # Panics
    /// When there is none.
    pub fn read(name: &str) -> String {
        let path = path(&format!("read/{name}"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The properties, to send the message again.
    ///
    /// # Errors
    /// When the recording has a property that AMQP has not.
    pub fn basic_properties(&self) -> anyhow::Result<BasicProperties> {
        let mut properties = BasicProperties::default();
        for (name, value) in &self.properties {
            let text = || value.as_str().with_context(|| format!("{name} is no text"));
            let octet =
                || value.as_u64().and_then(|it| u8::try_from(it).ok()).with_context(|| format!("{name}: {value}"));
            match name.as_str() {
                "contentType" => properties.with_content_type(text()?),
                "contentEncoding" => properties.with_content_encoding(text()?),
                "correlationId" => properties.with_correlation_id(text()?),
                "replyTo" => properties.with_reply_to(text()?),
                "expiration" => properties.with_expiration(text()?),
                "messageId" => properties.with_message_id(text()?),
                "type" => properties.with_message_type(text()?),
                "userId" => properties.with_user_id(text()?),
                "appId" => properties.with_app_id(text()?),
                "deliveryMode" => properties.with_delivery_mode(octet()?),
                "priority" => properties.with_priority(octet()?),
                "timestamp" => properties.with_timestamp(value.as_u64().context("timestamp is no number")?),
                "headers" => properties.with_headers(table(value)?),
                _ => bail!("AMQP has no property {name}"),
            };
        }
        Ok(properties.finish())
    }

    /// The properties of a message, as a recording keeps them.
    ///
    /// # Errors
    /// When a header has a type that is not recorded.
    pub fn properties_of(properties: &BasicProperties) -> anyhow::Result<Map<String, Value>> {
        let text = |it: Option<&String>| it.map(|it| json!(it));
        let headers = properties.headers().map(headers).transpose()?;
        let all = [
            ("contentType", text(properties.content_type())),
            ("contentEncoding", text(properties.content_encoding())),
            ("headers", headers),
            ("deliveryMode", properties.delivery_mode().map(|it| json!(it))),
            ("priority", properties.priority().map(|it| json!(it))),
            ("correlationId", text(properties.correlation_id())),
            ("replyTo", text(properties.reply_to())),
            ("expiration", text(properties.expiration())),
            ("messageId", text(properties.message_id())),
            ("timestamp", properties.timestamp().map(|it| json!(it))),
            ("type", text(properties.message_type())),
            ("userId", text(properties.user_id())),
            ("appId", text(properties.app_id())),
        ];
        Ok(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded").join(name).with_extension("json")
}

/// Headers, each as `{"S": "a text"}`: the letter is the type's in AMQP.
fn headers(table: &FieldTable) -> anyhow::Result<Value> {
    let mut headers = Map::new();
    for (name, value) in table.as_ref() {
        let typed = match value {
            FieldValue::t(it) => json!({ "t": it }),
            FieldValue::I(it) => json!({ "I": it }),
            FieldValue::l(it) => json!({ "l": it }),
            FieldValue::d(it) => json!({ "d": it }),
            FieldValue::S(it) => json!({ "S": it.to_string() }),
            FieldValue::T(it) => json!({ "T": it }),
            FieldValue::V => json!({ "V": null }),
            FieldValue::F(it) => json!({ "F": self::headers(it)? }),
            other => bail!("the header {name} is of a type that is not recorded: {other:?}"),
        };
        headers.insert(name.to_string(), typed);
    }
    Ok(Value::Object(headers))
}

fn table(headers: &Value) -> anyhow::Result<FieldTable> {
    let mut table = FieldTable::new();
    for (name, typed) in headers.as_object().context("headers are no object")? {
        let typed = typed.as_object().filter(|it| it.len() == 1).with_context(|| format!("{name} has no type"))?;
        let Some((letter, value)) = typed.iter().next() else { bail!("{name} has no type") };
        let wrong = || format!("{name} is no {letter}: {value}");
        let field = match letter.as_str() {
            "t" => FieldValue::t(value.as_bool().with_context(wrong)?),
            "I" => FieldValue::I(i32::try_from(value.as_i64().with_context(wrong)?)?),
            "l" => FieldValue::l(value.as_i64().with_context(wrong)?),
            "d" => FieldValue::d(value.as_f64().with_context(wrong)?),
            "S" => FieldValue::S(value.as_str().with_context(wrong)?.try_into()?),
            "T" => FieldValue::T(value.as_u64().with_context(wrong)?),
            "V" => FieldValue::V,
            "F" => FieldValue::F(self::table(value)?),
            _ => bail!(wrong()),
        };
        table.insert(name.as_str().try_into()?, field);
    }
    Ok(table)
}
