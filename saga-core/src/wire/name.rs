//! What message types are called on RabbitMQ.

use super::{MAX_NAME, WireError};
use crate::message::strip_urn;

/// No longer text is taken for a type's name: of one that can be an exchange's, each character may stand for two.
const MAX_TYPE: usize = 2 * MAX_NAME;

/// The name of the exchange of a message type, as MassTransit's default formatter makes it:
///
/// ```
/// use saga_core::wire::entity_name;
/// # fn main() -> Result<(), saga_core::wire::WireError> {
/// assert_eq!(entity_name("Shop:OrderPaid")?, "Shop:OrderPaid");
/// assert_eq!(entity_name("Shop:Outer+Inner")?, "Shop:Outer-Inner");
/// assert_eq!(entity_name("MassTransit:Fault[[Shop:OrderPaid]]")?, "MassTransit:Fault--Shop:OrderPaid--");
/// assert_eq!(entity_name("Shop:Pair[[Shop:Left],[Else:Right]]")?, "Shop:Pair--Left::Else:Right--");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`WireError::Name`] when AMQP can not hold it, or it is no type's name.
pub fn entity_name(type_name: &str) -> Result<String, WireError> {
    let name = strip_urn(type_name);
    if name.len() > MAX_TYPE {
        return Err(wrong(name, "it is longer than 255 bytes"));
    }
    let mut written = String::with_capacity(name.len());
    match write_type(name, None, &mut written) {
        Some("") => {}
        _ => return Err(wrong(name, "its brackets do not match")),
    }
    if written.starts_with("amq.") {
        return Err(wrong(name, "names that begin with `amq.` are the broker's own"));
    }
    check(written)
}

/// Writes the type at the start of `text`; what follows it is left. `None`: its brackets do not match.
fn write_type<'a>(text: &'a str, scope: Option<&str>, written: &mut String) -> Option<&'a str> {
    let (head, mut rest) = head(text);
    let (namespace, name) = match head.split_once(':') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, head),
    };
    // An argument in the namespace of its own generic type does not repeat it.
    if let Some(namespace) = namespace.filter(|_| namespace != scope) {
        written.push_str(namespace);
        written.push(':');
    }
    written.push_str(&name.replace('+', "-"));
    while let Some(arguments) = rest.strip_prefix('[') {
        if let Some(after) = arguments.strip_prefix(']') {
            // An array.
            written.push_str("[]");
            rest = after;
            continue;
        }
        written.push_str("--");
        let mut left = write_type(arguments.strip_prefix('[')?, namespace, written)?.strip_prefix(']')?;
        while let Some(next) = left.strip_prefix(",[") {
            written.push_str("::");
            left = write_type(next, namespace, written)?.strip_prefix(']')?;
        }
        written.push_str("--");
        let (nested, after) = self::head(left.strip_prefix(']')?);
        written.push_str(&nested.replace('+', "-"));
        rest = after;
    }
    Some(rest)
}

/// What stands before the next bracket, and the rest.
fn head(text: &str) -> (&str, &str) {
    text.split_at(text.find(['[', ']']).unwrap_or(text.len()))
}

/// A name that AMQP can hold.
pub(super) fn check(name: String) -> Result<String, WireError> {
    let why = match () {
        () if name.trim().is_empty() => "it is empty",
        () if name.len() > MAX_NAME => "it is longer than 255 bytes",
        () if name.chars().any(char::is_control) => "it has a control character",
        () => return Ok(name),
    };
    Err(wrong(&name, why))
}

fn wrong(name: &str, why: &'static str) -> WireError {
    WireError::Name { name: shown(name), why }
}

/// The start of a text, for an error.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(64).collect();
    let end = if start.len() < text.len() { "…" } else { "" };
    format!("{}{end}", start.escape_debug())
}
