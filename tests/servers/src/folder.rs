//! A server's folder, and the watchdog that removes it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const WATCHDOG: &str = include_str!("watchdog.sh");

/// A folder in the system's temporary one. When it is dropped, or this process ends in whatever way, the programs whose
/// ids stand in its `*.pid` files are ended and it is removed.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    watchdog: Child,
}

impl Folder {
    /// A new folder; `signal` is what ends the programs at the end, such as `KILL`.
    pub(crate) fn new(prefix: &str, signal: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir();
        let path = folder.unwrap_or_else(|error| panic!("no temporary folder can be made: {error}")).keep();
        // A group of its own: Ctrl-C at the terminal is for the test, which the watchdog has to outlive.
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&path)
            .arg(signal)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("the watchdog, a shell script, does not start: {error}"));
        Self { path, watchdog }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // Its own end is all that can be waited for; it has none but this to report to.
        let _ = self.watchdog.wait();
    }
}
