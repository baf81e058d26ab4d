//! Copies the log into the database, beside the writer and not inside its commits: a commit waits for its last few pages at
//! the most.

use std::cell::Cell;
use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::{io, thread};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::open::{Database, Lock};

/// Pages in the log before they are copied: 16 MB. A page that is written often is then copied once instead of four times,
/// and the log is short enough that it is soon written over its own old place.
const PAGES: c_int = 4_000;
/// How often the thread begins again for what was written while it copied: each time that is less.
const PASSES: usize = 4;
/// So few pages it leaves to the writer, about what two commits write under load.
const FEW: c_int = 600;

thread_local! {
    /// How many pages the log had after the last commit of this thread's connection.
    static LOGGED: Cell<c_int> = const { Cell::new(0) };
}

/// The writer's side.
pub(super) struct Checkpoints {
    /// Tells the thread to copy; it ends when this is dropped.
    copy: SyncSender<()>,
    /// The thread has been told, and has not finished.
    is_copying: Arc<AtomicBool>,
    /// Most of the log is copied; what was written meanwhile is not.
    is_due: bool,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    /// Starts the thread. It holds the lock, too, until it has ended.
    pub(super) fn start(database: Database, lock: Lock) -> io::Result<Self> {
        let (copy, told) = sync_channel(1);
        let is_copying = Arc::new(AtomicBool::new(false));
        let copier = Copier { database, told, is_copying: is_copying.clone(), lock };
        let thread = thread::Builder::new().name("saga-sqlite-log".to_owned()).spawn(move || copier.run())?;
        Ok(Self { copy, is_copying, is_due: false, thread })
    }

    /// Watches the log of this connection, in place of SQLite's own checkpoints.
    pub(super) fn watch(connection: &Connection) {
        connection.wal_hook(Some(|_: &Wal, pages| {
            LOGGED.set(pages);
            Ok(())
        }));
    }

    /// Ends the thread, and waits until its connection is closed.
    pub(super) fn end(self) {
        drop(self.copy);
        if self.thread.join().is_err() {
            tracing::warn!("the thread that copies the log has panicked; nothing is lost");
        }
    }

    /// Called after each commit. The thread copies nearly everything; the few pages of the commits meanwhile are copied
    /// here, because only a log that is copied as a whole is written from its beginning again.
    pub(super) fn committed(&mut self, connection: &Connection) {
        if LOGGED.get() < PAGES {
            // It was copied as a whole, and has begun anew.
            self.is_due = false;
            return;
        }
        // A thread that has ended, by a panic, copies nothing any more: then the writer does, or the log would grow for ever.
        if self.is_copying.load(Ordering::Acquire) && !self.thread.is_finished() {
            return;
        }
        if std::mem::take(&mut self.is_due) {
            checkpoint(connection);
            return;
        }
        self.is_due = true;
        self.is_copying.store(true, Ordering::Release);
        if self.copy.try_send(()).is_err() {
            // Without its thread the writer copies by itself.
            self.is_copying.store(false, Ordering::Release);
        }
    }
}

/// The thread's side.
struct Copier {
    database: Database,
    told: Receiver<()>,
    is_copying: Arc<AtomicBool>,
    #[expect(dead_code, reason = "held until the thread has ended")]
    lock: Lock,
}

impl Copier {
    fn run(self) {
        let mut connection = None;
        while self.told.recv().is_ok() {
            if connection.is_none() {
                connection = self.database.connect_writer(false).ok();
            }
            if let Some(connection) = &connection {
                copy_most(connection);
            }
            self.is_copying.store(false, Ordering::Release);
        }
    }
}

/// Copies until little was written since, so that the writer has little to copy while everybody waits for it.
fn copy_most(connection: &Connection) {
    let mut copied = 0;
    for _ in 0..PASSES {
        let before = std::mem::replace(&mut copied, checkpoint(connection));
        if copied - before < FEW {
            break;
        }
    }
}

/// As much as can be copied without waiting for anybody; how many pages of the log are copied now. What fails is tried
/// again: the log keeps what is not copied.
fn checkpoint(connection: &Connection) -> c_int {
    let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2));
    copied.unwrap_or_else(|error| {
        tracing::warn!(%error, "the log can not be copied into the database; trying again after the next commits");
        0
    })
}
