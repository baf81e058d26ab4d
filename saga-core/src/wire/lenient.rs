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
    /// When the body is not of that type: the error of the first try.
    pub fn read_leniently<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read_leniently(self.as_str())
    }
}

/// As [`Body::read_leniently`].
pub(crate) fn read_leniently<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json).or_else(|error| match with_small_letters(json) {
        Some(json) => serde_json::from_str(&json).map_err(|_| error),
        None => Err(error),
    })
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
    use super::*;

    #[test]
    fn given_names_with_capitals_when_made_small_then_values_stay_as_they_are() {
        let json = r#"{"OrderId" : "Big", "Items":[{"Price":19.90,"\"Odd":"X:"}],"ID":1e2,"":0}"#;
        let small = r#"{"orderId" : "Big", "items":[{"price":19.90,"\"Odd":"X:"}],"iD":1e2,"":0}"#;
        assert_eq!(with_small_letters(json).as_deref(), Some(small));
        assert_eq!(with_small_letters(small), None);
    }
}
