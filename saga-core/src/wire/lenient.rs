//! Bodies whose names are written with a capital.

use serde::de::DeserializeOwned;
use serde_json::Error;

use super::tidy::end_of_string;
use crate::message::Body;

impl Body {
    /// Reads the body as a value of type `T`. If it is not of that type as it stands, the first letter of every name is
    /// made small and it is tried once more: .NET reads names without regard to case, and some of its services write
    /// `OrderId` for `orderId`.
    ///
    /// That is all that is done. `orderID` or `order_id` is not read as `orderId`, the keys of a map are names too, and a
    /// type all of whose fields may be absent is read at the first try, with nothing in it.
    ///
    /// # Errors
    /// When the body is not of that type: the error of the first try, unless that is a name which is there with a capital.
    pub fn read_leniently<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read_leniently(self.as_str())
    }
}

/// As [`Body::read_leniently`].
pub(crate) fn read_leniently<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json).or_else(|error| match with_small_letters(json) {
        // Where a name was missing for its capital, what is wrong besides is found by the second try.
        Some(json) => serde_json::from_str(&json).map_err(|second| if misses_a_field(&error) { second } else { error }),
        None => Err(error),
    })
}

/// What serde says of a field that is not there; it has no code of its own.
fn misses_a_field(error: &Error) -> bool {
    error.to_string().starts_with("missing field ")
}

/// The JSON with the first letter of every name made small; `None`: they all are. Numbers stay as they are written.
fn with_small_letters(json: &str) -> Option<String> {
    let mut bytes = json.as_bytes().to_vec();
    let mut changed = false;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'"' {
            at += 1;
            continue;
        }
        let end = end_of_string(&bytes, at);
        let follows = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace());
        if follows == Some(&b':') && bytes[at + 1].is_ascii_uppercase() {
            bytes[at + 1].make_ascii_lowercase();
            changed = true;
        }
        at = end;
    }
    String::from_utf8(bytes).ok().filter(|_| changed)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn given_a_body_with_capitals_when_something_else_is_wrong_then_it_is_that_which_is_told() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Ordered {
            order_id: u32,
        }
        let error = |json| read_leniently::<Ordered>(json).unwrap_err().to_string();
        assert!(error(r#"{"OrderId":"much"}"#).starts_with("invalid type: string \"much\", expected u32"));
        assert!(error(r#"{"Else":1}"#).starts_with("missing field `orderId`"));
        assert!(error(r#"{"orderId":"much","Else":1}"#).starts_with("invalid type: string \"much\", expected u32"));
        assert_eq!(read_leniently::<Ordered>(r#"{"OrderId":7}"#).unwrap().order_id, 7);
    }

    #[test]
    fn given_names_with_capitals_when_made_small_then_values_stay_as_they_are() {
        let json = r#"{"OrderId" : "Big", "Items":[{"Price":19.90,"\"Odd":"X:"}],"ID":1e2,"":0}"#;
        let small = r#"{"orderId" : "Big", "items":[{"price":19.90,"\"Odd":"X:"}],"iD":1e2,"":0}"#;
        assert_eq!(with_small_letters(json).as_deref(), Some(small));
        assert_eq!(with_small_letters(small), None);
    }
}
