//! The members of a JSON object, not parsed until somebody asks.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// No object with more members is read as an envelope, which has fourteen: what is kept of one must not be many times as
/// large as what came.
const MAX_MEMBERS: usize = 256;
/// As many as an envelope has: there is room for them from the beginning.
const USUAL_MEMBERS: usize = 15;

/// The members of a JSON object, in their order.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> Members<'a> {
    /// The value of that name, without regard to its case; of several, the last. A `null` is a value.
    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        let found = self.0.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// The value of that name, without regard to its case; `None`: there is none, or it is `null`.
    pub(super) fn some(&self, name: &str) -> Option<&str> {
        self.get(name).map(RawValue::get).filter(|value| *value != "null")
    }

    /// Puts another value in the place of the one of that name.
    pub(super) fn replace(&mut self, name: &str, value: Box<RawValue>) {
        if let Some((_, place)) = self.0.iter_mut().rev().find(|(key, _)| key == name) {
            *place = Cow::Owned(value);
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members(Vec::with_capacity(USUAL_MEMBERS));
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if members.0.len() == MAX_MEMBERS {
                        return Err(A::Error::custom(format_args!(
                            "an envelope has no more than {MAX_MEMBERS} members"
                        )));
                    }
                    members.0.push((name, Cow::Borrowed(value)));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, &**value)))
    }
}

/// A text, borrowed where it is written without escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}
