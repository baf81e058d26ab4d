//! Where the servers' programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const POSTGRES: &str = "PostgreSQL 13 or later is needed to run these tests; on Debian: apt-get install postgresql";
const RABBIT: &str = "RabbitMQ 3.8 or later is needed to run these tests; on Debian: apt-get install rabbitmq-server";

/// A program of PostgreSQL: of the newest version that is installed, as Debian does it, else the one in `PATH`.
///
/// # Panics
/// When there is none, with what is to be installed.
pub(crate) fn postgres(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(|entry| entry.ok());
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").is_file() && path.join("bin/postgres").is_file())
        .max_by_key(|path| path.file_name().and_then(|it| it.to_str()?.parse::<u32>().ok()));
    let found = newest.map(|path| path.join("bin").join(name)).filter(|path| path.is_file());
    found.or_else(|| in_path(name)).unwrap_or_else(|| panic!("{name} was not found. {POSTGRES}"))
}

/// A program of RabbitMQ: not Debian's wrapper, which runs the server of the system, but what that starts.
///
/// # Panics
/// When there is none, with what is to be installed.
pub(crate) fn rabbit(name: &str) -> PathBuf {
    let path = Path::new("/usr/lib/rabbitmq/bin").join(name);
    let found = path.is_file().then_some(path);
    found.or_else(|| in_path(name)).unwrap_or_else(|| panic!("{name} was not found. {RABBIT}"))
}

/// A program of Erlang, which RabbitMQ needs.
///
/// # Panics
/// When there is none, with what is to be installed.
pub(crate) fn erlang(name: &str) -> PathBuf {
    let path = Path::new("/usr/lib/erlang/bin").join(name);
    let found = path.is_file().then_some(path);
    found.or_else(|| in_path(name)).unwrap_or_else(|| panic!("{name} of Erlang was not found. {RABBIT}"))
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
