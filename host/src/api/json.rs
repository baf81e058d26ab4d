//! JSON as it was written: duplicate keys are kept, so that they can be told, and numbers stay what they were.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool,
    /// A number without a fraction that fits.
    Integer(i64),
    /// Any other number.
    Number,
    String(String),
    Array(Vec<Json>),
    /// The members in the order in which they were written.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads JSON text; nesting deeper than 128 is refused.
    ///
    /// # Errors
    /// Where it is not JSON, without a word of it.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            if error.is_eof() {
                format!("the text ends too early, at line {line}, column {column}")
            } else {
                format!("the text is not JSON at line {line}, column {column}")
            }
        })
    }

    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Integer(_) | Self::Number => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(i64::try_from(number).map_or(Json::Number, Json::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_duplicate_key_when_read_then_both_are_kept() {
        let one = |n| ("a".to_owned(), Json::Integer(n));
        assert_eq!(Json::read(br#"{"a":1,"a":2}"#), Ok(Json::Object(vec![one(1), one(2)])));
    }

    #[test]
    fn given_what_is_no_json_when_read_then_the_error_does_not_repeat_it() {
        assert_eq!(Json::read(b"{\"a\":"), Err("the text ends too early, at line 1, column 5".to_owned()));
        assert_eq!(Json::read(b"secret"), Err("the text is not JSON at line 1, column 1".to_owned()));
        assert!(Json::read("[".repeat(100_000).as_bytes()).is_err(), "deep nesting is refused, not followed");
    }
}
