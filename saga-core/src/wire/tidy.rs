//! JSON as .NET reads it, made into JSON as the standard has it.

use std::borrow::Cow;

use super::MAX_DEPTH;

/// The same JSON without comments and trailing commas: each is overwritten by spaces, so that the places which an error
/// names stay right. What is no JSON comes back as it is, for the parser to complain of.
///
/// # Errors
/// When it is nested deeper than [`MAX_DEPTH`].
pub(super) fn tidy(text: &str) -> Result<Cow<'_, str>, String> {
    let blanks = blanks(text.as_bytes())?;
    if blanks.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = text.as_bytes().to_vec();
    for (from, to) in blanks {
        for byte in &mut bytes[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    // Whole comments and commas are overwritten, so what was UTF-8 still is.
    Ok(String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned))
}

/// Whether a text can not be nested deeper than [`MAX_DEPTH`], because no more than that begins in it.
pub(super) fn is_flat(text: &str) -> bool {
    text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() <= MAX_DEPTH
}

/// Where the comments and the trailing commas are.
fn blanks(text: &[u8]) -> Result<Vec<(usize, usize)>, String> {
    let mut blanks = Vec::new();
    let mut depth = 0_usize;
    // What stands before this place, and where the comma is that may turn out to trail.
    let (mut before, mut comma) = (0, None);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let next = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'"' => end_of_string(text, at),
            b'/' => match end_of_comment(text, at) {
                Some(end) => {
                    blanks.push((at, end));
                    at = end;
                    continue;
                }
                None => at + 1,
            },
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("the body is nested deeper than {MAX_DEPTH} levels"));
                }
                at + 1
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                blanks.extend(comma.map(|comma| (comma, comma + 1)));
                at + 1
            }
            _ => at + 1,
        };
        comma = (byte == b',' && !matches!(before, 0 | b',' | b'[' | b'{' | b':')).then_some(at);
        before = byte;
        at = next;
    }
    Ok(blanks)
}

/// The end of the string that begins at `start`.
pub(super) fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The end of the comment that begins at `start`, if one does.
fn end_of_comment(text: &[u8], start: usize) -> Option<usize> {
    let rest = &text[start..];
    match rest.get(1)? {
        b'/' => Some(start + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())),
        b'*' => rest[2..].windows(2).position(|pair| pair == b"*/").map(|inside| start + 2 + inside + 2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_comments_and_trailing_commas_when_tidied_then_they_are_spaces_and_all_else_stays_in_place() {
        for (untidy, tidied) in [
            ("[1,]", "[1 ]"),
            (r#"{"a":1 , }"#, r#"{"a":1   }"#),
            ("[1,/* ü, */]", "[1          ]"),
            ("[1 // one\n,2]", "[1       \n,2]"),
            ("{}// the end", "{}          "),
            ("/*\n*/[]", "  \n  []"),
        ] {
            assert_eq!(tidy(untidy).as_deref(), Ok(tidied));
        }
    }

    #[test]
    fn given_text_that_only_looks_untidy_when_tidied_then_it_is_the_same() {
        for text in
            [r#"["// no, /* none */ ,]", "\",]"]"#, r#"{"a":[{},1]}"#, "", "\"open", "\"open\\", "[,]", "[1,,]", "{,}"]
        {
            assert!(matches!(tidy(text), Ok(Cow::Borrowed(same)) if same == text), "{text}");
        }
        assert_eq!(tidy("[1,,]").as_deref(), Ok("[1,,]"), "for the parser to refuse");
        assert_eq!(tidy("[1 /* no end").as_deref(), Ok("[1 /* no end"));
    }

    #[test]
    fn given_arrays_in_arrays_when_they_are_too_deep_then_it_is_said() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_flat(&nested(MAX_DEPTH)) && !is_flat(&nested(MAX_DEPTH + 1)));
        assert!(tidy(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(tidy(&nested(100_000)), Err("the body is nested deeper than 96 levels".to_owned()));
    }
}
