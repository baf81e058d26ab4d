use uuid::Uuid;

use super::*;
use crate::commit::OutboxRow;
use crate::message::{Body, Envelope};

/// A ledger as a connection sees it.
struct Connection {
    ledger: Ledger,
    confirms: mpsc::UnboundedReceiver<Confirm>,
    session: u64,
    now: Instant,
}

impl Connection {
    fn with(rows: std::ops::Range<OutboxId>) -> Self {
        let ledger = Ledger::new(Arc::default());
        let (confirm, confirms) = mpsc::unbounded_channel();
        assert!(ledger.confirm_to(confirm));
        let envelope = Arc::new(Envelope::raw(Uuid::nil(), "Test:It", Body::of(&())));
        let row = |id| Parcel::Row(id, OutboxRow { destination: Some("inbox".into()), envelope: envelope.clone() });
        ledger.push(rows.map(row));
        let session = ledger.begin();
        Self { ledger, confirms, session, now: Instant::now() }
    }

    /// Publishes what there is room for.
    fn publish(&self) -> Vec<OutboxId> {
        let mut published = Vec::new();
        while let Some((id, _)) = self.ledger.next(self.session, self.now).and_then(Parcel::into_row) {
            let key =
                Key { exchange: String::new(), routing_key: "inbox".to_owned(), message_id: Some(id.to_string()) };
            assert!(self.ledger.published(self.session, Some(key), self.now));
            published.push(id);
        }
        published
    }

    fn confirm(&mut self, tag: u64, multiple: bool, taken: bool) -> Vec<(OutboxId, bool)> {
        self.ledger.confirmed(self.session, Confirmed { tag, multiple, taken }, self.now);
        self.told()
    }

    fn told(&mut self) -> Vec<(OutboxId, bool)> {
        std::iter::from_fn(|| self.confirms.try_recv().ok()).map(|it| (it.id, it.result.is_ok())).collect()
    }

    fn lose(&mut self, cause: Cause) {
        self.ledger.end(&Loss::new(cause, "gone"), self.now);
        self.session = self.ledger.begin();
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn given_a_new_connection_when_it_publishes_then_one_message_until_the_broker_answers_and_then_the_window() {
    let mut it = Connection::with(0..2_000);
    assert_eq!(it.publish(), [0]);
    assert_eq!(it.confirm(1, false, true), [(0, true)]);
    assert_eq!(it.publish().len(), WINDOW);
    assert!(it.publish().is_empty());
    assert_eq!(it.ledger.unconfirmed(), WINDOW);
}

#[test]
fn given_answers_for_many_when_they_come_then_each_message_is_told_once() {
    let mut it = Connection::with(0..10);
    it.publish();
    it.confirm(1, false, true);
    it.publish();
    assert_eq!(it.confirm(3, false, true), [(2, true)]);
    assert_eq!(it.confirm(5, true, false), [(1, false), (3, false), (4, false)], "a negative one for many");
    assert_eq!(it.confirm(5, true, true), [], "nothing is told twice");
    assert_eq!(it.confirm(4, false, true), []);
    assert_eq!(it.confirm(u64::MAX, true, true).len(), 5);
    assert_eq!(it.ledger.unconfirmed(), 0);
}

#[test]
fn given_a_message_that_comes_back_when_it_is_confirmed_then_it_alone_has_no_place() {
    let mut it = Connection::with(0..3);
    it.publish();
    it.confirm(1, false, true);
    it.publish();
    let back = Returned {
        exchange: String::new(),
        routing_key: "inbox".to_owned(),
        message_id: Some("1".to_owned()),
        why: "312 NO_ROUTE".to_owned(),
    };
    it.ledger.returned(it.session, &back);
    assert_eq!(it.confirm(3, true, true), [(2, true)]);
    // It is tried once more, at the exchange of that name.
    assert!(matches!(it.ledger.next(it.session, it.now), Some(Parcel::Rerouted(1, _))));
    assert_eq!(it.publish(), [1]);
    it.ledger.returned(it.session, &back);
    it.ledger.confirmed(it.session, Confirmed { tag: 4, multiple: false, taken: true }, it.now);
    let Ok(Confirm { id: 1, result: Err(SendError::Unroutable(why)) }) = it.confirms.try_recv() else {
        panic!("it has no place")
    };
    assert!(why.contains("inbox") && why.contains("312"), "{why}");
}

#[test]
fn given_a_connection_that_is_lost_when_another_begins_then_the_same_are_published_in_their_order() {
    let mut it = Connection::with(0..6);
    it.publish();
    it.confirm(1, false, true);
    it.publish();
    it.confirm(3, false, true);
    let old = it.session;
    it.lose(Cause::Broke);
    assert!(it.told().is_empty(), "a loss tells nothing");
    it.ledger.confirmed(old, Confirmed { tag: 2, multiple: true, taken: true }, it.now);
    assert!(it.told().is_empty(), "what the old connection still says counts for nothing");
    assert!(!it.ledger.published(old, None, it.now));
    assert_eq!(it.publish(), [1]);
    assert_eq!(it.confirm(1, false, true), [(1, true)]);
    assert_eq!(it.publish(), [3, 4, 5]);
}

#[test]
fn given_a_message_that_the_broker_does_not_bear_when_it_closes_over_it_thrice_then_it_alone_is_given_up() {
    let mut it = Connection::with(0..10);
    it.publish();
    it.confirm(1, false, true);
    assert_eq!(it.publish().len(), 9);
    // Number 4 is the one, and nobody knows yet.
    it.lose(Cause::Refused);
    for id in 1..4 {
        assert_eq!(it.publish(), [id], "those that were under way go one at a time");
        assert_eq!(it.confirm(u64::try_from(id).unwrap(), false, true), [(id, true)]);
    }
    for strike in 1..=STRIKES {
        assert_eq!(it.publish(), [4], "strike {strike}");
        it.lose(Cause::Refused);
    }
    assert!(matches!(it.told()[..], [(4, false)]));
    assert_eq!(it.publish(), [5]);
    assert_eq!(it.confirm(1, false, true), [(5, true)]);
    for id in 6..10 {
        assert_eq!(it.publish(), [id]);
        it.confirm(u64::try_from(id - 4).unwrap(), false, true);
    }
    assert_eq!(it.ledger.unconfirmed(), 0);
}

#[test]
fn given_a_broker_that_is_away_when_it_is_for_long_then_no_message_is_blamed() {
    let mut it = Connection::with(0..1);
    for _ in 0..20 {
        assert_eq!(it.publish(), [0]);
        it.lose(Cause::Away);
    }
    assert!(it.told().is_empty());
}

#[test]
fn given_a_broker_that_confirms_nothing_when_it_lasts_then_it_is_said_until_it_confirms() {
    let mut it = Connection::with(0..3);
    it.publish();
    it.pass(4);
    assert_eq!(it.ledger.silence(it.now), None);
    it.pass(1);
    assert_eq!(it.ledger.silence(it.now), Some((SILENCE, 3)));
    assert!(!it.ledger.is_mute(it.now));
    it.pass(55);
    assert!(it.ledger.is_mute(it.now), "the connection is to be replaced");
    it.lose(Cause::Away);
    assert!(it.ledger.silence(it.now).is_some(), "another connection is no confirm");
    it.publish();
    assert!(!it.ledger.is_mute(it.now), "the new one has its own time");
    it.pass(7);
    assert_eq!(it.ledger.silence(it.now).map(|(long, _)| long.as_secs()), Some(67));
    it.confirm(1, false, true);
    assert_eq!(it.ledger.silence(it.now), None);
    it.pass(100);
    assert_eq!(it.ledger.silence(it.now), None, "nothing is under way");
}

#[test]
fn given_a_ledger_when_closed_then_everything_comes_back() {
    let mut it = Connection::with(0..4);
    it.publish();
    it.ledger.close();
    assert_eq!(it.told(), [(0, false), (1, false), (2, false), (3, false)]);
    it.ledger.push([Parcel::Row(
        9,
        OutboxRow { destination: None, envelope: Arc::new(Envelope::raw(Uuid::nil(), "Test:It", Body::of(&()))) },
    )]);
    assert_eq!(it.told(), [(9, false)]);
    assert!(it.publish().is_empty());
}
