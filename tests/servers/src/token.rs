//! Names and passwords that nobody else has.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that cannot be guessed.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .unwrap_or_else(|error| panic!("/dev/urandom cannot be read: {error}"));
    bytes
}

/// A password.
pub(crate) fn secret() -> String {
    hex(&random::<16>())
}

/// A name for a database or a virtual host that no other process uses, even on a server that many share.
pub(crate) fn unique_name() -> String {
    static PROCESS: OnceLock<String> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let process = PROCESS.get_or_init(|| hex(&random::<5>()));
    format!("test_{process}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
