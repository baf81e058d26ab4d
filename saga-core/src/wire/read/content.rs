//! What the properties of a delivery say of its body.

use crate::wire::{ENVELOPE, MAX_BODY, RAW_JSON};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An envelope.
    Envelope,
    /// JSON: an envelope, or the message itself.
    Json,
}

/// What the body is by its properties.
pub(super) fn form(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<Form, String> {
    let encoding = content_encoding.map(str::trim).unwrap_or_default();
    let is_plain = |it: &str| ["", "identity", "utf-8", "utf8"].iter().any(|plain| it.eq_ignore_ascii_case(plain));
    if !is_plain(encoding) {
        return Err(format!("the content encoding {} is not read here; send identity", shown(encoding)));
    }
    let content_type = content_type.map(str::trim).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let charset =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    if let Some((_, charset)) = charset {
        let charset = charset.trim().trim_matches('"');
        if !is_plain(charset) && !charset.eq_ignore_ascii_case("us-ascii") {
            return Err(format!("the charset {} is not read here; send utf-8", shown(charset)));
        }
    }
    match media_type {
        "" => Ok(Form::Json),
        it if it.eq_ignore_ascii_case(ENVELOPE) => Ok(Form::Envelope),
        it if it.eq_ignore_ascii_case(RAW_JSON) => Ok(Form::Json),
        it => Err(format!("the content type {} is not read here; send {ENVELOPE} or {RAW_JSON}", shown(it))),
    }
}

/// The body's text.
pub(super) fn text(body: &[u8]) -> Result<&str, String> {
    if body.len() > MAX_BODY {
        return Err(format!("the body is {} bytes long; no more than {MAX_BODY} are read", body.len()));
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    if text.trim().is_empty() {
        return Err("the body is empty".to_owned());
    }
    Ok(text)
}

fn shown(text: &str) -> String {
    let start: String = text.chars().take(100).collect();
    format!("`{}`", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_properties_when_they_are_looked_at_then_json_in_utf_8_is_read_and_nothing_else() {
        for (content_type, encoding, read) in [
            (Some("application/vnd.masstransit+json"), None, Ok(Form::Envelope)),
            (Some("Application/VND.MassTransit+JSON; charset=\"UTF-8\""), Some("identity"), Ok(Form::Envelope)),
            (Some("application/json;charset=utf-8"), Some("utf-8"), Ok(Form::Json)),
            (Some(" "), Some(""), Ok(Form::Json)),
            (None, None, Ok(Form::Json)),
            (None, Some("gzip"), Err("the content encoding `gzip` is not read here; send identity")),
            (Some("application/json; charset=utf-16"), None, Err("the charset `utf-16` is not read here; send utf-8")),
            (
                Some("text/plain"),
                None,
                Err(
                    "the content type `text/plain` is not read here; send application/vnd.masstransit+json or application/json",
                ),
            ),
        ] {
            assert_eq!(form(content_type, encoding), read.map_err(str::to_owned), "{content_type:?} {encoding:?}");
        }
    }

    #[test]
    fn given_bodies_that_are_no_text_when_they_are_looked_at_then_it_is_said() {
        assert_eq!(text(b"\xef\xbb\xbf{}"), Ok("{}"));
        assert_eq!(text(b" \n"), Err("the body is empty".to_owned()));
        assert!(text(b"{\xff}").unwrap_err().starts_with("the body is not UTF-8: invalid utf-8 sequence"));
        assert_eq!(
            text(&vec![b' '; MAX_BODY + 1]),
            Err("the body is 16777217 bytes long; no more than 16777216 are read".to_owned())
        );
    }
}
