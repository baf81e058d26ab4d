//! The configuration: a file, and variables over it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use host::config::{Config, key_names};

/// Stands between the file and each variable.
const BETWEEN: u8 = 0;
/// What must never be shown, wherever it stands.
const SECRET: &str = "SeCrEt-SeCrEt-SeCrEt-SeCrEt-SeCrEt";

/// A file, and behind each zero a value for a key that its first byte names. An error is one line; secrets are not shown.
pub fn config(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == BETWEEN);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), parts.next().unwrap_or_default()).unwrap();
    let keys: Vec<_> = key_names().collect();
    let variables = parts.filter_map(|part| {
        let (key, value) = part.split_first()?;
        let key = keys[usize::from(*key) % keys.len()].replace('.', "__").to_uppercase();
        // A file that the fuzzer names must not be read: it may have no end.
        let is_file = key.ends_with("FILE");
        (!is_file).then(|| (OsString::from(format!("SAGA__{key}")), OsString::from_vec(value.to_vec())))
    });
    let secret = (OsString::from("SAGA__AUTH__SECRET"), OsString::from(SECRET));
    match Config::load(Some(file.path()), variables.chain([secret])) {
        Ok(config) => assert!(!format!("{config:?}").contains(SECRET)),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
            assert!(text.chars().count() < 4_096, "an error is one line of a log: {} characters", text.chars().count());
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}
