//! What is wrong with a configuration, in one line.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Environment(name) => write!(f, "from {name}"),
        }
    }
}

/// What is wrong, in one line, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// A value is shown up to this many characters: enough to know it again, and still one line.
const SHOWN: usize = 120;

impl ConfigError {
    /// A key has a value that it can not have. The value is shown: see to it that it is no secret.
    pub(super) fn value(key: &str, shown: &str, origin: Origin, expected: impl fmt::Display) -> Self {
        Self::line(format_args!("{key} = {} ({origin}): expected {expected}", quote(shown)))
    }

    /// As [`ConfigError::value`], of a value that must not be shown.
    pub(super) fn hidden(key: &str, origin: Origin, expected: impl fmt::Display) -> Self {
        Self::line(format_args!("{key} = (not shown) ({origin}): expected {expected}"))
    }

    /// Anything else.
    pub(super) fn line(text: impl fmt::Display) -> Self {
        let text = text.to_string();
        Self(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }
}

/// The value in quotes, on one line, cut when it is long.
pub(super) fn quote(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN).collect();
    if value.chars().count() > SHOWN {
        shown.push('…');
    }
    format!("{shown:?}")
}
