//! Where settings come from: a TOML file and the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::error::{ConfigError, Origin};
use super::keys;

/// What environment variables of ours begin with.
const PREFIX: &str = "SAGA__";

/// A configuration file is read up to this size: nobody writes a longer one, and a device file has no end.
const FILE_LIMIT: u64 = 1024 * 1024;

/// A value as it was written.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// A text, a number or a boolean.
    Scalar(String),
    /// Something that no key takes: its TOML type's name.
    Other(&'static str),
}

/// A setting of a key that exists.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// What was set; what is set later replaces what was set before.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.values()
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.0.get(key).map_or(Origin::Default, |setting| setting.origin.clone())
    }

    fn set(&mut self, name: &str, raw: Raw, origin: Origin) -> Result<(), ConfigError> {
        let Some(key) = keys::find(name) else { return Err(keys::unknown(name, &raw, &origin)) };
        // The secret and the file that it is in are one thing: setting either replaces what an earlier source said.
        let twin = match key {
            "auth.secret" => "auth.secret_file",
            "auth.secret_file" => "auth.secret",
            _ => "",
        };
        if let Some(other) = self.0.get(twin) {
            if std::mem::discriminant(&other.origin) == std::mem::discriminant(&origin) {
                return Err(ConfigError::hidden(key, origin, format_args!("nothing, because {twin} is set as well")));
            }
            self.0.remove(twin);
        }
        self.0.insert(key, Setting { key, raw, origin });
        Ok(())
    }
}

/// Reads a TOML file.
pub(super) fn read_file(path: &Path, settings: &mut Settings) -> Result<(), ConfigError> {
    let shown = path.display();
    let text = read_text(path, FILE_LIMIT)
        .map_err(|error| ConfigError::line(format_args!("--config {shown}: expected a readable file, but {error}")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(1, |span| 1 + text.as_bytes()[..span.start].iter().filter(|&&b| b == b'\n').count());
        // The message alone: the error's own text would quote the line, and a secret with it.
        ConfigError::line(format_args!("--config {shown}: expected TOML, but line {line} is not: {}", error.message()))
    })?;
    let origin = Origin::File(path.to_owned());
    flatten("", table, &mut |name, raw| settings.set(name, raw, origin.clone()))
}

/// Reads the variables that begin with `SAGA__`.
pub(super) fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    settings: &mut Settings,
) -> Result<(), ConfigError> {
    let ours = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        name.starts_with(PREFIX).then_some((name, value))
    };
    let sorted: BTreeMap<String, OsString> = environment.into_iter().filter_map(ours).collect();
    for (variable, value) in sorted {
        let name = variable[PREFIX.len()..].to_lowercase().replace("__", ".");
        let value = value.into_string().map_or(Raw::Other("text that is not UTF-8"), Raw::Scalar);
        settings.set(&name, value, Origin::Environment(variable))?;
    }
    Ok(())
}

/// Reads a file as text, up to a limit.
pub(super) fn read_text(path: &Path, limit: u64) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read};
    let mut text = String::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    Ok(text)
}

fn flatten(
    prefix: &str,
    table: toml::Table,
    set: &mut impl FnMut(&str, Raw) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let raw = match value {
            toml::Value::Table(inner)
                if keys::find(&name).is_none() && (!inner.is_empty() || keys::is_section(&name)) =>
            {
                flatten(&name, inner, set)?;
                continue;
            }
            toml::Value::String(text) => Raw::Scalar(text),
            toml::Value::Integer(number) => Raw::Scalar(number.to_string()),
            toml::Value::Float(number) => Raw::Scalar(number.to_string()),
            toml::Value::Boolean(flag) => Raw::Scalar(flag.to_string()),
            toml::Value::Datetime(_) => Raw::Other("a date"),
            toml::Value::Array(_) => Raw::Other("an array"),
            toml::Value::Table(_) => Raw::Other("a table"),
        };
        set(&name, raw)?;
    }
    Ok(())
}
