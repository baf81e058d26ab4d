//! What happened, in order: one line for each thing.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::message::Envelope;

/// One thing that happened.
pub(super) struct Line {
    pub(super) at: Duration,
    /// Where: `h1.2` is the second life of host 1.
    pub(super) place: String,
    pub(super) what: &'static str,
    pub(super) envelope: Option<Arc<Envelope>>,
    pub(super) note: String,
}

/// The lines as a table.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    // A String can always be written to.
    let _ =
        writeln!(text, "{:>10} {:<6} {:<18} {:<26} {:>9} {:>9}  note", "ms", "place", "what", "message", "id", "about");
    for Line { at, place, what, envelope, note } in lines {
        let (name, id, about) = match envelope {
            Some(it) => (it.name(), short(Some(it.message_id)), short(it.correlation_id)),
            None => ("", String::new(), String::new()),
        };
        let line = format!("{:>10} {place:<6} {what:<18} {name:<26} {id:>9} {about:>9}  {note}", at.as_millis());
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The end of an id: enough to tell a run's messages apart.
pub(super) fn short(id: Option<Uuid>) -> String {
    id.map(|id| id.simple().to_string()[23..].to_owned()).unwrap_or_default()
}
