//! Kills the own process at a named point: for crash tests, never in a build that serves.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use async_trait::async_trait;
use saga_core::{Point, Probe};

/// The variable that says where: `P4:17` is the seventeenth time that P4 is reached.
pub const VARIABLE: &str = "SAGA_FAILPOINT";

/// Kills the process with SIGKILL when a point was reached so many times.
#[derive(Debug)]
pub struct KillAt {
    point: Point,
    times: u64,
    seen: AtomicU64,
}

impl KillAt {
    /// Reads `P4:17`; `P4` alone is the first time.
    ///
    /// # Errors
    /// When it is nothing of the kind.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let known = Point::ALL.map(Point::name).join(", ");
        let expected = || format!("{VARIABLE} = {text:?}: expected POINT:TIMES, such as P4:17, with one of {known}");
        let point = Point::from_name(name).with_context(expected)?;
        let times = times.parse().ok().filter(|times| *times > 0).with_context(expected)?;
        Ok(Self { point, times, seen: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Probe for KillAt {
    async fn reached(&self, point: Point) {
        if point != self.point || self.seen.fetch_add(1, Ordering::Relaxed) + 1 != self.times {
            return;
        }
        // A signal from outside: nothing in this process gets to run, not even a destructor.
        let kill = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        tracing::error!(?kill, "the process could not be killed");
        std::process::abort();
    }
}
