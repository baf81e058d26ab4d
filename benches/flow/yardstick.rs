//! The same flow, written by hand: another program, measured in the same minutes.

use std::path::Path;
use std::process::Command;

/// What the hand-written program measured of itself.
pub(crate) struct Measured {
    pub(crate) orders_per_second: f64,
    pub(crate) p50_ms: f64,
}

/// Runs the program once, on a file in a temporary folder.
pub(crate) fn baseline(path: &Path, orders: usize) -> Measured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(path)
        .env("BENCH_SQLITE", folder.path().join("baseline.db"))
        .args(["sync=full", "b=256", "mode=json", "runs=1"])
        .arg(format!("n={orders}"))
        .output()
        .unwrap_or_else(|error| panic!("{} can not be run: {error}", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |key: &str| {
        let rest = text.split(key).nth(1).unwrap_or_else(|| panic!("the baseline said no {key}: {text}"));
        rest.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or_default()
    };
    Measured { orders_per_second: number("MEDIAN orders/s="), p50_ms: number("p50=") }
}
