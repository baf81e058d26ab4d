//! Parameters that never fail to be extracted: what is wrong with each is collected and told together.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use order_saga::OrderStatus;
use poem::Request;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseFromParameter, ParseResult, Type};
use uuid::Uuid;

use super::problem::{FieldError, Problem};

/// How many entries a page has when nobody says.
const LIMIT_DEFAULT: usize = 20;

/// How many entries a page may have.
const LIMIT_MAX: usize = 100;

/// A value that can be read from a parameter.
pub(crate) trait FromText: Sized + Send + Sync {
    /// How it is described.
    fn schema() -> MetaSchema;

    /// Reads it; the error says what is expected.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A parameter: a value, nothing (an empty one is not said), or what is wrong with it.
pub(crate) struct Param<T>(Result<Option<T>, String>);

impl<T: FromText> Type for Param<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(T::schema()))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: FromText> ParseFromParameter for Param<T> {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Ok(Self(if value.is_empty() { Ok(None) } else { T::from_text(value).map(Some) }))
    }
}

/// What is wrong with the parameters of a request.
pub(crate) struct BadParams(Vec<FieldError>);

impl BadParams {
    /// Begins with the query's names: each one known, and there once.
    pub(crate) fn of_query(request: &Request, known: &[&str]) -> Self {
        let mut seen: Vec<String> = Vec::new();
        let mut bad = Vec::new();
        let query = request.original_uri().query().unwrap_or_default();
        // Said in full: `Type`, which is in scope, has an `is_empty` of its own that is always false.
        for pair in query.split('&').filter(|pair| !str::is_empty(pair)) {
            let name = pair.split('=').next().unwrap_or_default();
            if !known.contains(&name) {
                let expected = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
                let shown: String = name.chars().take(64).collect();
                bad.push(FieldError::new(shown, format!("is unknown; {expected} is expected")));
            } else if seen.iter().any(|other| other == name) {
                bad.push(FieldError::new(name, "is there more than once"));
            } else {
                seen.push(name.to_owned());
            }
        }
        Self(bad)
    }

    /// Takes an optional parameter.
    pub(crate) fn take<T>(&mut self, name: &str, param: Option<Param<T>>) -> Option<T> {
        match param?.0 {
            Ok(value) => value,
            Err(expected) => {
                self.0.push(FieldError::new(name, expected));
                None
            }
        }
    }

    /// Ends: nothing is wrong, or everything that is.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::parameters(self.0)) }
    }
}

/// Takes the one parameter of a path.
pub(crate) fn path_id(param: Param<Id>) -> Result<Uuid, Problem> {
    match param.0 {
        Ok(Some(Id(id))) => Ok(id),
        Ok(None) => Err(Problem::parameters(vec![FieldError::new("id", ID_EXPECTED)])),
        Err(expected) => Err(Problem::parameters(vec![FieldError::new("id", expected)])),
    }
}

const ID_EXPECTED: &str = "a UUID is expected, such as 01890a5d-ac96-774b-bcce-b302099a8057";

/// The id of an order or a dead letter.
pub(crate) struct Id(Uuid);

impl FromText for Id {
    fn schema() -> MetaSchema {
        MetaSchema::new_with_format("string", "uuid")
    }

    fn from_text(text: &str) -> Result<Self, String> {
        // The hyphenated form alone: one order has one address.
        let id = (text.len() == 36).then(|| text.parse().ok()).flatten();
        id.map(Self).ok_or_else(|| ID_EXPECTED.to_owned())
    }
}

/// How many entries a page has.
pub(crate) struct Limit(usize);

impl Limit {
    pub(crate) fn or_default(limit: Option<Self>) -> usize {
        limit.map_or(LIMIT_DEFAULT, |limit| limit.0)
    }
}

impl FromText for Limit {
    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(LIMIT_MAX as f64),
            default: Some(LIMIT_DEFAULT.into()),
            ..MetaSchema::new("integer")
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let limit = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.map(Self).ok_or_else(|| format!("a whole number from 1 to {LIMIT_MAX} is expected"))
    }
}

impl FromText for OrderStatus {
    fn schema() -> MetaSchema {
        let names = OrderStatus::ALL.into_iter().map(|status| status.name().into());
        MetaSchema { enum_items: names.collect(), ..MetaSchema::new("string") }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let names = || OrderStatus::ALL.map(OrderStatus::name).join(", ");
        Self::from_name(text).ok_or_else(|| format!("one of {} is expected", names()))
    }
}

/// In which form a history is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Flow,
}

impl FromText for Format {
    fn schema() -> MetaSchema {
        let enum_items = vec!["json".into(), "flow".into()];
        MetaSchema { enum_items, default: Some("json".into()), ..MetaSchema::new("string") }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "flow" => Ok(Self::Flow),
            _ => Err("json or flow is expected".to_owned()),
        }
    }
}

/// Where a page of orders begins: behind this order.
pub(crate) struct OrderCursor(pub(crate) Uuid);

/// Where a page of dead letters begins: behind this one.
pub(crate) struct DeadLetterCursor(pub(crate) DateTime<Utc>, pub(crate) Uuid);

/// A cursor begins with a letter, so that one of another list is not taken for one of this.
const ORDER: u8 = b'o';
const DEAD_LETTER: u8 = b'd';

const CURSOR_EXPECTED: &str = "the nextCursor of an earlier page is expected";

/// The format tells tools one list's cursors from the other's; nobody is to look into one.
fn cursor_schema(format: &'static str) -> MetaSchema {
    MetaSchema { max_length: Some(64), ..MetaSchema::new_with_format("string", format) }
}

impl OrderCursor {
    pub(crate) fn write(&self) -> String {
        let mut bytes = vec![ORDER];
        bytes.extend_from_slice(self.0.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl FromText for OrderCursor {
    fn schema() -> MetaSchema {
        cursor_schema("order-cursor")
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        match bytes.split_first() {
            Some((&ORDER, id)) => Uuid::from_slice(id).map(Self).map_err(|_| CURSOR_EXPECTED.to_owned()),
            _ => Err(CURSOR_EXPECTED.to_owned()),
        }
    }
}

impl DeadLetterCursor {
    pub(crate) fn write(&self) -> String {
        let mut bytes = vec![DEAD_LETTER];
        bytes.extend_from_slice(&self.0.timestamp().to_be_bytes());
        bytes.extend_from_slice(&self.0.timestamp_subsec_nanos().to_be_bytes());
        bytes.extend_from_slice(self.1.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&tag, rest) = bytes.split_first()?;
        let (seconds, rest) = rest.split_first_chunk::<8>()?;
        let (nanos, id) = rest.split_first_chunk::<4>()?;
        let at = DateTime::from_timestamp(i64::from_be_bytes(*seconds), u32::from_be_bytes(*nanos))?;
        (tag == DEAD_LETTER).then_some(Self(at, Uuid::from_slice(id).ok()?))
    }
}

impl FromText for DeadLetterCursor {
    fn schema() -> MetaSchema {
        cursor_schema("dead-letter-cursor")
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| CURSOR_EXPECTED.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_cursors_when_written_and_read_then_they_are_the_same_and_never_the_other_list_s() {
        let id = Uuid::from_u128(7);
        let at = DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap();
        let (order, dead) = (OrderCursor(id).write(), DeadLetterCursor(at, id).write());
        assert_eq!(OrderCursor::from_text(&order).ok().map(|it| it.0), Some(id));
        assert_eq!(DeadLetterCursor::from_text(&dead).ok().map(|it| (it.0, it.1)), Some((at, id)));
        assert!(OrderCursor::from_text(&dead).is_err());
        assert!(DeadLetterCursor::from_text(&order).is_err());
        assert!(OrderCursor::from_text("?").is_err());
    }
}
