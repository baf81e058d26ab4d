//! The same flow, written by hand: another program, measured in the same minutes.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use crate::place::{postgres, rabbit};

/// What the hand-written program measured of itself.
pub(crate) struct Measured {
    pub(crate) orders_per_second: f64,
    pub(crate) p50_ms: f64,
}

/// Runs the program once, on a file in a temporary folder.
pub(crate) fn on_sqlite(path: &Path, orders: usize) -> Measured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(path);
    command.env("BENCH_SQLITE", folder.path().join("baseline.db")).args(["sync=full", "b=256", "mode=json"]);
    measured(&mut command, path, orders)
}

/// Runs the program once, on a new database and on quorum queues of its own.
pub(crate) fn on_servers(path: &Path, orders: usize) -> Measured {
    static GUEST: Once = Once::new();
    // It knows no other user.
    GUEST.call_once(|| {
        rabbit().ctl(&["add_user", "guest", "guest"]);
        rabbit().ctl(&["set_permissions", "guest", ".*", ".*", ".*"]);
    });
    let port = rabbit().url().rsplit(':').next().and_then(|it| it.split('/').next()).unwrap_or_default();
    let mut command = Command::new(path);
    command.env("BENCH_PG_URL", postgres().database()).env("BENCH_AMQP_PORT", port);
    command.args(["b=256", "pf=512", "relay=handoff", "hops=4", "qt=quorum", "window=2000"]);
    measured(&mut command, path, orders)
}

fn measured(command: &mut Command, path: &Path, orders: usize) -> Measured {
    let output = command
        .args(["runs=1".to_owned(), format!("n={orders}")])
        .output()
        .unwrap_or_else(|error| panic!("{} can not be run: {error}", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |key: &str| {
        let rest = text.split(key).nth(1).unwrap_or_else(|| panic!("the baseline said no {key}: {text}"));
        rest.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or_default()
    };
    Measured { orders_per_second: number("MEDIAN orders/s="), p50_ms: number("p50=") }
}
