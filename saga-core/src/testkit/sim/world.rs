//! What all parts of a simulation share: its time, its phase, and the book of what happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::message::Envelope;
use crate::testkit::sim::fault::{Fault, Faults};
use crate::testkit::sim::options::{Protection, SimOptions};
use crate::testkit::sim::trace::{self, Line};

/// So many calls of a port no simulation needs; one that makes them goes round in a circle.
const STEPS: u64 = 3_000_000;

pub(super) struct World {
    pub(super) options: SimOptions,
    started: Instant,
    calm: AtomicBool,
    steps: AtomicU64,
    /// Told when there were too many steps.
    pub(super) circling: Notify,
    book: Mutex<Book>,
}

struct Book {
    /// Kept only where somebody will read it.
    trace: Option<Vec<Line>>,
    faults: Faults,
    violations: Vec<String>,
}

impl World {
    pub(super) fn new(options: SimOptions, traced: bool) -> Arc<Self> {
        let book = Book { trace: traced.then(Vec::new), faults: Faults::default(), violations: Vec::new() };
        Arc::new(Self {
            options,
            started: Instant::now(),
            calm: AtomicBool::new(false),
            steps: AtomicU64::new(0),
            circling: Notify::new(),
            book: Mutex::new(book),
        })
    }

    /// How much time has passed.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether nothing goes wrong any more.
    pub(super) fn calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.note("world", "calm", None, String::new);
    }

    /// How often something goes wrong now.
    pub(super) fn rate(&self, permille: u32) -> u32 {
        if self.calm() { 0 } else { permille }
    }

    pub(super) fn lacks(&self, protection: Protection) -> bool {
        self.options.unprotected == Some(protection)
    }

    /// Counts a call of a port; one too many never returns, so that a loop that goes round in a circle is found.
    pub(super) async fn step(&self) {
        if self.steps.fetch_add(1, Ordering::Relaxed) >= STEPS {
            self.circling.notify_one();
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Writes a line into the trace, if there is one.
    pub(super) fn note(
        &self,
        place: &str,
        what: &'static str,
        envelope: Option<&Arc<Envelope>>,
        note: impl FnOnce() -> String,
    ) {
        let at = self.elapsed();
        if let Some(trace) = &mut self.book().trace {
            trace.push(Line { at, place: place.to_owned(), what, envelope: envelope.cloned(), note: note() });
        }
    }

    /// A fault has really happened.
    pub(super) fn count(&self, fault: Fault) {
        self.book().faults.count(fault);
    }

    /// Something happened that must not.
    pub(super) fn violated(&self, text: String) {
        self.note("world", "VIOLATION", None, || text.clone());
        self.book().violations.push(text);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.book().violations.clone()
    }

    pub(super) fn faults(&self) -> Faults {
        self.book().faults.clone()
    }

    pub(super) fn trace(&self) -> String {
        trace::table(self.book().trace.as_deref().unwrap_or_default())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
