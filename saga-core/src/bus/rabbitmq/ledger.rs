//! What is to be published, and what the broker has not confirmed yet.
//!
//! It outlives the connections: whatever a connection ends by, what it had not confirmed waits at the front again. So each
//! message that came in gets exactly one confirm, and none is forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::connection::{Cause, Loss};
use super::events::{Confirmed, Returned};
use super::parcel::Parcel;
use super::receipts::Receipts;
use crate::bus::{Confirm, SendError};
use crate::commit::OutboxId;

/// How many messages may be published and not confirmed: a few hundred keep the broker busy, and what a connection had not
/// confirmed is published again after it.
const WINDOW: usize = 1_024;
/// How long the broker may confirm nothing before the bus says that it is blocked.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may confirm nothing before the connection is replaced. A broker out of memory or disk confirms nothing for
/// as long as that lasts, and connecting anew does not help it; this is for a connection that is broken in one direction.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The codes by which a broker closes over what it was sent: too large, nowhere to go, or not to be read.
const AT_FAULT: [u16; 6] = [311, 404, 406, 501, 502, 505];
/// How often the broker may close a connection over one message, sent alone, before that message is given up.
const STRIKES: u8 = 3;
/// What a negative confirm says, which is little.
const REFUSED: &str = "the broker refused it: a queue that it goes to is full, or failed just now";
/// The pause before a message that moves and that the broker did not take is published again.
const MOVE_PAUSE: Duration = Duration::from_secs(1);

/// All that is to be published.
pub(super) struct Ledger {
    book: Mutex<Book>,
    /// There is something to publish.
    work: Notify,
    confirms: OnceLock<mpsc::UnboundedSender<Confirm>>,
    receipts: Arc<Receipts>,
}

#[derive(Default)]
struct Book {
    waiting: VecDeque<Waiting>,
    /// Published and not confirmed, by its number on the channel.
    pending: BTreeMap<u64, Pending>,
    last_tag: u64,
    /// Numbers the connections; what an earlier one still does counts for nothing.
    session: u64,
    /// Whether the broker has answered on this connection. Until it has, one message is published to see.
    answered: bool,
    /// So many at the front were in flight when the broker closed a connection over something it was sent: they are
    /// published one at a time, to find out over which.
    suspects: usize,
    /// Since when the broker is expected to confirm and does not, over all connections and on this one.
    silent_since: Option<Instant>,
    silent_here: Option<Instant>,
    /// Messages that move and wait a little.
    later: VecDeque<(Instant, Parcel)>,
    closed: bool,
}

struct Waiting {
    parcel: Parcel,
    strikes: u8,
}

struct Pending {
    waiting: Waiting,
    /// What it is told by when it comes back; `None`: it can not come back.
    key: Option<Key>,
    returned: Option<String>,
}

/// What the broker names when it returns a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) message_id: Option<String>,
}

impl Ledger {
    pub(super) fn new(receipts: Arc<Receipts>) -> Self {
        Self { book: Mutex::default(), work: Notify::new(), confirms: OnceLock::new(), receipts }
    }

    /// Says who is told of the outcomes; false if that was said before.
    pub(super) fn confirm_to(&self, confirms: mpsc::UnboundedSender<Confirm>) -> bool {
        self.confirms.set(confirms).is_ok()
    }

    /// Whether nobody listens to the outcomes any more; `None`: nobody has yet.
    pub(super) fn is_deaf(&self) -> Option<bool> {
        self.confirms.get().map(mpsc::UnboundedSender::is_closed)
    }

    pub(super) fn push(&self, parcels: impl IntoIterator<Item = Parcel>) {
        let mut book = self.book();
        if book.closed {
            drop(book);
            parcels.into_iter().for_each(|it| self.give_back(it));
            return;
        }
        book.waiting.extend(parcels.into_iter().map(|parcel| Waiting { parcel, strikes: 0 }));
        drop(book);
        self.work.notify_one();
    }

    /// A new connection begins to publish; its number.
    pub(super) fn begin(&self) -> u64 {
        let mut book = self.book();
        book.session += 1;
        book.last_tag = 0;
        book.answered = false;
        book.silent_here = None;
        book.session
    }

    /// The connection has ended. What it had not confirmed waits at the front again, in its order.
    pub(super) fn end(&self, loss: &Loss, now: Instant) {
        let mut book = self.book();
        book.session += 1;
        let pending = std::mem::take(&mut book.pending);
        // Another code tells of the broker, or of what it permits, and not of a message.
        let refused = loss.cause == Cause::Refused && loss.code.is_none_or(|code| AT_FAULT.contains(&code));
        let alone = pending.len() == 1;
        if refused {
            book.suspects = book.suspects.max(pending.len());
        }
        for (_, Pending { mut waiting, .. }) in pending.into_iter().rev() {
            waiting.strikes += u8::from(refused && alone);
            if waiting.strikes >= STRIKES && !matches!(waiting.parcel, Parcel::Moved(_)) {
                book.suspects = book.suspects.saturating_sub(1);
                let why = SendError::Unroutable(format!("the broker does not bear it: {}", loss.why));
                self.outcome(&mut book, waiting.parcel, Err(why), now);
            } else {
                book.waiting.push_front(waiting);
            }
        }
        book.silent_here = None;
        if !is_long(book.silent_since, SILENCE, now) {
            book.silent_since = None;
        }
    }

    /// The next message to publish, when there is one and the window has room for it. It stays until it is
    /// [published](Self::published) or [settled](Self::settle).
    pub(super) fn next(&self, session: u64, now: Instant) -> Option<Parcel> {
        let mut book = self.book();
        while book.later.front().is_some_and(|(due, _)| *due <= now) {
            let parcel = book.later.pop_front().map(|(_, parcel)| Waiting { parcel, strikes: 0 });
            book.waiting.extend(parcel);
        }
        let window = if book.answered && book.suspects == 0 { WINDOW } else { 1 };
        if book.session != session || book.closed || book.pending.len() >= window {
            return None;
        }
        book.waiting.front().map(|it| it.parcel.clone())
    }

    /// When a message is due that waits a little, if one does.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.book().later.front().map(|(due, _)| *due)
    }

    /// The next message is being published. Called before it is, so that none is forgotten.
    pub(super) fn published(&self, session: u64, key: Option<Key>, now: Instant) -> bool {
        let mut book = self.book();
        if book.session != session {
            return false;
        }
        let Some(waiting) = book.waiting.pop_front() else { return false };
        book.last_tag += 1;
        let tag = book.last_tag;
        book.pending.insert(tag, Pending { waiting, key, returned: None });
        book.silent_since.get_or_insert(now);
        book.silent_here.get_or_insert(now);
        true
    }

    /// The next message can not be published: its outcome is known already.
    pub(super) fn settle(&self, session: u64, why: SendError, now: Instant) {
        let mut book = self.book();
        if book.session != session {
            return;
        }
        let Some(waiting) = book.waiting.pop_front() else { return };
        book.suspects = book.suspects.saturating_sub(1);
        self.outcome(&mut book, waiting.parcel, Err(why), now);
    }

    /// No queue has taken a message; the broker confirms it next.
    pub(super) fn returned(&self, session: u64, returned: &Returned) {
        let mut book = self.book();
        if book.session != session {
            return;
        }
        // Ids are almost always told apart by the first look: what comes back does so in the order of publishing.
        let matches = |it: &Key| {
            it.exchange == returned.exchange
                && it.routing_key == returned.routing_key
                && it.message_id == returned.message_id
        };
        let mut pending = book.pending.values_mut();
        if let Some(it) = pending.find(|it| it.returned.is_none() && it.key.as_ref().is_some_and(matches)) {
            it.returned = Some(returned.why.clone());
        }
    }

    /// The broker has taken a message (and all before it), or refused it.
    pub(super) fn confirmed(&self, session: u64, it: Confirmed, now: Instant) {
        let Confirmed { tag, multiple, taken } = it;
        let mut book = self.book();
        if book.session != session {
            return;
        }
        let settled = if multiple {
            let rest = book.pending.split_off(&tag.saturating_add(1));
            std::mem::replace(&mut book.pending, rest)
        } else {
            book.pending.remove_entry(&tag).into_iter().collect()
        };
        book.answered = true;
        let since = (!book.pending.is_empty()).then_some(now);
        (book.silent_since, book.silent_here) = (since, since);
        book.suspects = book.suspects.saturating_sub(settled.len());
        for Pending { waiting: Waiting { parcel, strikes }, returned, .. } in settled.into_values() {
            let (parcel, outcome, label) = match (taken, returned) {
                (false, _) => (parcel, Err(SendError::Unavailable(REFUSED.to_owned())), "refused"),
                (true, Some(why)) if parcel.is_event() => {
                    // Its queue or its binding was removed, and comes again with its consumer: it is sent until then.
                    let why = SendError::Unavailable(format!("no queue takes the event, although one should: {why}"));
                    (parcel, Err(why), "returned")
                }
                (true, Some(why)) => match parcel.rerouted() {
                    Ok(parcel) => {
                        book.waiting.push_back(Waiting { parcel, strikes });
                        continue;
                    }
                    Err(parcel) => {
                        let why = SendError::Unroutable(parcel.no_place(&why));
                        (parcel, Err(why), "returned")
                    }
                },
                (true, None) => (parcel, Ok(()), "taken"),
            };
            metrics::counter!("saga_bus_confirms_total", "result" => label).increment(1);
            self.outcome(&mut book, parcel, outcome, now);
        }
    }

    /// For how long the broker has confirmed nothing although messages wait for it, if that is too long, and how many do.
    pub(super) fn silence(&self, now: Instant) -> Option<(Duration, usize)> {
        let book = self.book();
        let waiting = book.waiting.len() + book.pending.len();
        let silent = book.silent_since.map(|since| now.saturating_duration_since(since));
        silent.filter(|it| *it >= SILENCE && waiting > 0).map(|it| (it, waiting))
    }

    /// Whether this connection has been silent for so long that it is to be replaced.
    pub(super) fn is_mute(&self, now: Instant) -> bool {
        is_long(self.book().silent_here, SILENCE_MAX, now)
    }

    /// How many messages are published and not confirmed.
    pub(super) fn unconfirmed(&self) -> usize {
        self.book().pending.len()
    }

    /// Tells the metrics.
    pub(super) fn report(&self) {
        metrics::gauge!("saga_bus_unconfirmed").set(self.unconfirmed() as f64);
    }

    /// Waits until there is something new to publish.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// No connection comes any more: gives back what waits.
    pub(super) fn close(&self) {
        let mut book = self.book();
        book.closed = true;
        book.session += 1;
        let pending = std::mem::take(&mut book.pending).into_values().map(|it| it.waiting);
        let waiting: Vec<_> = pending.chain(std::mem::take(&mut book.waiting)).collect();
        drop(book);
        waiting.into_iter().for_each(|it| self.give_back(it.parcel));
    }

    fn give_back(&self, parcel: Parcel) {
        if let Some((id, _)) = parcel.into_row() {
            self.confirm(id, Err(SendError::Unavailable("the bus is closed".to_owned())));
        }
    }

    fn outcome(&self, book: &mut Book, parcel: Parcel, outcome: Result<(), SendError>, now: Instant) {
        match (parcel, outcome) {
            (Parcel::Row(id, _) | Parcel::Rerouted(id, _), outcome) => self.confirm(id, outcome),
            (Parcel::Moved(moved), Ok(())) => self.receipts.acknowledge(&[moved.receipt]),
            (parcel @ Parcel::Moved(_), Err(_)) => book.later.push_back((now + MOVE_PAUSE, parcel)),
        }
    }

    fn confirm(&self, id: OutboxId, result: Result<(), SendError>) {
        if let Some(confirms) = self.confirms.get() {
            // Nobody listens any more when the runtime has stopped; the row stays in the outbox.
            let _ = confirms.send(Confirm { id, result });
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_long(since: Option<Instant>, limit: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
}

#[cfg(test)]
mod tests;
