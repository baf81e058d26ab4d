//! What the repository shows to a newcomer is run and compared: the examples, the README, the architecture.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test binary: its fixtures are for itself")]
#![allow(clippy::duplicate_mod, reason = "two of the examples share a file")]

mod architecture;
mod containers;
mod flows;
mod readme;
mod stories;

use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path} can not be read: {error}"))
}

/// The files of a folder that end so, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}
