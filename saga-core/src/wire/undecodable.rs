//! What nobody could decode, kept with its bytes as they came.

use std::borrow::Cow;
use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::message::{Body, Envelope, Headers, header};

/// The name of the reserved type of an envelope around what nobody could decode.
pub const UNDECODABLE: &str = "SagaCore:Undecodable";

/// No reason is longer, in bytes: a parser's complaint may quote what it complains of.
const MAX_REASON: usize = 1_024;

/// A delivery that nobody could decode, as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Raw {
    /// The body.
    pub bytes: Vec<u8>,
    /// AMQP property `content_type`.
    pub content_type: Option<String>,
    /// AMQP property `content_encoding`.
    pub content_encoding: Option<String>,
    /// AMQP property `message_id`.
    pub message_id: Option<String>,
    /// AMQP property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The AMQP headers.
    pub headers: Headers,
}

/// How it is stored: part of the durable contract.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept<'a> {
    reason: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_encoding: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    headers: Cow<'a, Headers>,
    /// The bytes, where they are a text that people and databases can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    /// Any other bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'a, str>>,
}

impl Envelope {
    /// An envelope around a delivery that nobody could decode, and why.
    pub fn undecodable(message_id: Uuid, raw: &Raw, reason: impl Display) -> Self {
        let text = std::str::from_utf8(&raw.bytes).ok().filter(|text| is_readable(text));
        let kept = Kept {
            reason: Cow::Owned(legible(&reason.to_string())),
            content_type: raw.content_type.as_deref().map(Cow::Borrowed),
            content_encoding: raw.content_encoding.as_deref().map(Cow::Borrowed),
            message_id: raw.message_id.as_deref().map(Cow::Borrowed),
            correlation_id: raw.correlation_id.as_deref().map(Cow::Borrowed),
            headers: Cow::Borrowed(&raw.headers),
            text: text.map(Cow::Borrowed),
            base64: if text.is_some() { None } else { Some(Cow::Owned(STANDARD.encode(&raw.bytes))) },
        };
        Self::raw(message_id, UNDECODABLE, Body::of(&kept))
    }

    /// Why nobody could decode it; of any other message, `None`.
    pub fn undecodable_reason(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Reason {
            reason: String,
        }
        let said = self.is_undecodable().then(|| self.message.read::<Reason>())?;
        Some(match said {
            Ok(it) if it.reason.is_empty() => "nobody can decode it, and nobody has said why".to_owned(),
            Ok(it) => it.reason,
            Err(error) => format!("it is no {UNDECODABLE} as this version writes it: {error}"),
        })
    }

    /// The delivery that nobody could decode, as it came; of any other message, `None`. A redrive publishes it so, with
    /// the number of redrives in its headers.
    pub fn as_raw(&self) -> Option<Raw> {
        let kept: Kept<'_> = self.is_undecodable().then(|| self.message.read().ok())??;
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        let bytes = match (kept.text, kept.base64) {
            (Some(text), _) => text.into_owned().into_bytes(),
            (None, Some(base64)) => STANDARD.decode(&*base64).ok()?,
            (None, None) => return None,
        };
        let mut headers = kept.headers.into_owned();
        if self.redrives() > 0 {
            headers.insert(Cow::Borrowed(header::REDRIVE_COUNT), Value::from(self.redrives()));
        }
        Some(Raw {
            bytes,
            content_type: owned(kept.content_type),
            content_encoding: owned(kept.content_encoding),
            message_id: owned(kept.message_id),
            correlation_id: owned(kept.correlation_id),
            headers,
        })
    }

    fn is_undecodable(&self) -> bool {
        self.name() == UNDECODABLE
    }
}

/// Whether a text has no control characters but those of its layout; a database may keep no other.
fn is_readable(text: &str) -> bool {
    !text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'))
}

/// A text for logs and databases: of one line, and not too long.
fn legible(text: &str) -> String {
    let mut legible = String::new();
    for letter in text.chars() {
        if legible.len() + letter.len_utf8() > MAX_REASON {
            legible.push('…');
            break;
        }
        legible.push(if letter.is_control() { ' ' } else { letter });
    }
    legible
}
