//! One state of everything: what is stored, and what is on its way.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use uuid::Uuid;

use super::report::{Line, line};
use super::{End, Explore, ExploreError, Explored};
use crate::commit::{
    Commit, DeadLetterRow, InboxRow, InstanceRow, JournalOutcome, Name, OutboxRow, StoredInstance, TimerRow,
};
use crate::failure::Failure;
use crate::fault::is_fault;
use crate::message::{Body, Envelope};
use crate::saga::{Instance, Saga};
use crate::unit_of_work::{Failed, Live, Verdict, fail, refuse, respond, step};
use crate::wire::address_of;

/// How often each message is delivered once more after it was handled. A third delivery finds what the second found.
const REDELIVERIES: u8 = 1;

/// Something that left the saga or an activity.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// How it left.
    pub kind: SentKind,
    /// The name of the message's type.
    pub name: Name,
    /// The message.
    pub body: Body,
    /// Where it went; absent: to whoever subscribed.
    pub endpoint: Option<Name>,
}

/// How a message left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SentKind {
    /// An event, published.
    Published,
    /// A command, sent to an endpoint.
    Sent,
    /// A command, sent to an activity that answers.
    Called,
    /// The answer of an activity.
    Answered,
    /// The `Fault` of a dead letter.
    Fault,
}

/// A message on its way.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) endpoint: Name,
    pub(super) envelope: Arc<Envelope>,
    /// How often it may still be delivered once more.
    more: u8,
    /// It was delivered before, and its acknowledgement was lost.
    pub(super) again: bool,
    /// A timer that was cancelled when it was already on its way.
    pub(super) late: bool,
}

/// Everything, at one moment.
pub(super) struct World<S: Saga> {
    instances: BTreeMap<Uuid, StoredInstance>,
    inbox: HashSet<InboxRow>,
    /// By endpoint, id, attempt and type: the same again is the same.
    pending: BTreeMap<String, Pending>,
    sent: Vec<Arc<Sent>>,
    dead_letters: Vec<DeadLetterRow>,
    rows: Vec<S::Row>,
}

impl<S: Saga> Clone for World<S> {
    fn clone(&self) -> Self {
        Self {
            instances: self.instances.clone(),
            inbox: self.inbox.clone(),
            pending: self.pending.clone(),
            sent: self.sent.clone(),
            dead_letters: self.dead_letters.clone(),
            rows: self.rows.clone(),
        }
    }
}

/// One way on from a world.
pub(super) struct Next<S: Saga> {
    pub(super) world: World<S>,
    pub(super) line: Line,
    /// What went wrong in the step itself.
    pub(super) wrong: Option<String>,
}

/// What one delivery came to.
pub(super) struct Handled {
    pub(super) instance: Option<Uuid>,
    pub(super) verdict: Verdict,
    pub(super) commit: Commit,
}

impl<S: Saga> World<S> {
    pub(super) fn start(explore: &Explore<S>, explored: &mut Explored) -> Self {
        let mut world = Self {
            instances: BTreeMap::new(),
            inbox: HashSet::new(),
            pending: BTreeMap::new(),
            sent: Vec::new(),
            dead_letters: Vec::new(),
            rows: Vec::new(),
        };
        for envelope in &explore.given {
            world.expect(S::ENDPOINT.into(), envelope.clone());
        }
        world.drop_duplicates(explored);
        world
    }

    /// Nothing is on its way, and no timer runs.
    pub(super) fn is_end(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn end(&self) -> Result<End<'_, S>, String> {
        let restored = self.instances.values().map(|stored| Live::<S>::restore(stored).map(|live| live.instance));
        let instances: Vec<Instance<S>> = restored.collect::<Result<_, _>>().map_err(|failure| failure.to_string())?;
        Ok(End { instances, sent: &self.sent, dead_letters: &self.dead_letters, rows: &self.rows })
    }

    /// What tells this world from others, in 128 bits. Left out is what nothing depends on: versions and times, and
    /// the inbox, because what it holds is never on its way again.
    pub(super) fn fingerprint(&self) -> u128 {
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            for stored in self.instances.values() {
                (stored.id, &stored.state, stored.data.as_str(), stored.timers.as_str()).hash(&mut hasher);
            }
            for (key, it) in &self.pending {
                (key, it.envelope.message.as_str(), it.more, it.again, it.late).hash(&mut hasher);
            }
            for sent in &self.sent {
                (sent.kind, &sent.name, sent.body.as_str(), &sent.endpoint).hash(&mut hasher);
            }
            for letter in &self.dead_letters {
                (letter_key(letter), letter.attempts).hash(&mut hasher);
            }
            format!("{:?}", self.rows).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }

    /// Every way on.
    ///
    /// What an activity does depends on its command alone, and meets the saga only by its answer, which may be late
    /// for as long as it likes. So a waiting command is the only way on: to try it in every order would try the
    /// same things again.
    pub(super) fn next(&self, explore: &Explore<S>, explored: &mut Explored) -> Result<Vec<Next<S>>, ExploreError> {
        let mut all = Vec::new();
        let command = self.pending.iter().find(|(_, it)| it.endpoint != S::ENDPOINT);
        for (key, pending) in self.pending.iter().filter(|(key, _)| command.is_none_or(|(it, _)| it == *key)) {
            let outcomes =
                if command.is_some() { perform(explore, pending) } else { vec![self.deliver(explore, pending)] };
            if outcomes.is_empty() {
                // Nobody will ever answer: the command is out of the world.
                let mut world = self.clone();
                world.pending.remove(key);
                all.push(Next { world, line: line::<S>(pending, None), wrong: None });
            }
            for handled in outcomes {
                let line = line::<S>(pending, Some(&handled));
                let wrong = (pending.late && handled.verdict != Verdict::Handled(JournalOutcome::Ignored))
                    .then(|| "a timer that had been cancelled was handled".to_owned());
                let mut world = self.clone();
                if let Some(it) = world.pending.remove(key).filter(|it| it.more > 0) {
                    // The process dies between commit and acknowledgement: delivered again, under the same id.
                    let mut crashed = self.clone();
                    crashed.pending.insert(key.clone(), Pending { more: it.more - 1, again: true, ..it });
                    crashed.apply(explore, &handled.commit)?;
                    crashed.drop_duplicates(explored);
                    all.push(Next { world: crashed, line: line.clone(), wrong: wrong.clone() });
                }
                world.apply(explore, &handled.commit)?;
                world.drop_duplicates(explored);
                all.push(Next { world, line, wrong });
            }
        }
        Ok(all)
    }

    /// The unit of work of one message for the saga, as the runtime does it.
    fn deliver(&self, explore: &Explore<S>, pending: &Pending) -> Handled {
        let mut commit = Commit::new(explore.now);
        let (envelope, retry) = (&pending.envelope, &explore.retry);
        let event = match explore.machine.read(envelope) {
            Ok(event) => event,
            Err(failure) => {
                let verdict = refuse::<S>(None, failure, envelope, retry, &mut commit);
                return Handled { instance: None, verdict, commit };
            }
        };
        let live = Live::load(event.id, self.instances.get(&event.id));
        let verdict = match live {
            Ok(mut live) => {
                let verdict = step(&explore.machine, &mut live, &event, envelope, retry, &mut commit);
                live.write(&mut commit);
                verdict
            }
            Err(failure) => refuse::<S>(Some(event.id), failure, envelope, retry, &mut commit),
        };
        Handled { instance: Some(event.id), verdict, commit }
    }

    /// Writes a commit, as a store does.
    fn apply(&mut self, explore: &Explore<S>, commit: &Commit) -> Result<(), ExploreError> {
        if explore.inbox {
            self.inbox.extend(commit.inbox.iter().cloned());
        }
        for row in &commit.instances {
            self.instances.insert(row.id, stored(row, commit));
        }
        for row in &commit.rows {
            let row: &dyn Any = &**row;
            self.rows.extend(row.downcast_ref::<S::Row>().cloned());
        }
        for TimerRow { endpoint, envelope, .. } in &commit.timers {
            self.expect(endpoint.clone(), envelope.clone());
        }
        // Without the inbox a message that is handled again starts the timer that it replaces: that one runs.
        let started = |token: &Uuid| commit.timers.iter().any(|row| row.token == *token);
        for it in self.pending.values_mut() {
            let token = it.envelope.timer_token().filter(|token| commit.cancelled.contains(token));
            it.late |= token.is_some_and(|token| !started(&token));
        }
        for row in &commit.outbox {
            self.send(explore, row)?;
        }
        for letter in &commit.dead_letters {
            let place = self.dead_letters.partition_point(|it| letter_key(it) <= letter_key(letter));
            self.dead_letters.insert(place, letter.clone());
        }
        Ok(())
    }

    /// Notes what left, and puts it on its way if somebody here hears it.
    fn send(&mut self, explore: &Explore<S>, row: &OutboxRow) -> Result<(), ExploreError> {
        let OutboxRow { destination, envelope } = row;
        let calls = envelope.response_endpoint().as_deref() == Some(S::ENDPOINT);
        let answers = !calls && envelope.source_address.as_deref() != Some(&address_of(S::ENDPOINT));
        let kind = match destination {
            _ if is_fault(envelope) => SentKind::Fault,
            _ if calls => SentKind::Called,
            _ if answers => SentKind::Answered,
            None => SentKind::Published,
            Some(_) => SentKind::Sent,
        };
        let name: Name = envelope.name().to_owned().into();
        let sent = Sent { kind, name, body: envelope.message.clone(), endpoint: destination.clone() };
        let order = |it: &Sent| (it.kind, it.name.clone(), it.body.as_str().to_owned());
        let place = self.sent.partition_point(|it| order(it) <= order(&sent));
        self.sent.insert(place, Arc::new(sent));

        let heard = explore.machine.columns().iter().any(|column| column.name == envelope.name());
        match destination {
            None if heard => self.expect(S::ENDPOINT.into(), envelope.clone()),
            Some(endpoint) if endpoint == S::ENDPOINT => self.expect(endpoint.clone(), envelope.clone()),
            Some(endpoint) if calls => {
                if !explore.activities.contains_key(envelope.name()) {
                    return Err(ExploreError::UnknownActivity { command: envelope.name().to_owned() });
                }
                self.expect(endpoint.clone(), envelope.clone());
            }
            _ => {}
        }
        Ok(())
    }

    fn expect(&mut self, endpoint: Name, envelope: Arc<Envelope>) {
        let (id, attempt, name) = (envelope.message_id, envelope.attempt(), envelope.name());
        let key = format!("{endpoint} {id} {attempt} {name}");
        let pending = Pending { endpoint, envelope, more: REDELIVERIES, again: false, late: false };
        self.pending.entry(key).or_insert(pending);
    }

    /// What the inbox knows changes nothing, whenever it comes: so it comes at once.
    fn drop_duplicates(&mut self, explored: &mut Explored) {
        let before = self.pending.len();
        let inbox = &self.inbox;
        self.pending.retain(|_, it| {
            !inbox.contains(&InboxRow { endpoint: it.endpoint.clone(), message_id: it.envelope.message_id })
        });
        explored.duplicates += before - self.pending.len();
    }
}

/// Everything that an activity may come to, each committed as the runtime commits it.
fn perform<S: Saga>(explore: &Explore<S>, pending: &Pending) -> Vec<Handled> {
    let Pending { endpoint, envelope, .. } = pending;
    let Some(perform) = explore.activities.get(envelope.name()) else { return Vec::new() };
    let failed = |failure: Failure, answer| {
        let mut commit = Commit::new(explore.now);
        let failed = Failed { envelope, endpoint: endpoint.clone(), journal: None, failure, answer };
        let verdict = fail(failed, &explore.retry, &mut commit);
        Handled { instance: envelope.correlation_id, verdict, commit }
    };
    let answers = match perform(envelope) {
        Ok(answers) => answers,
        Err(unreadable) => return vec![failed(unreadable, None)],
    };
    let handled = answers.into_iter().map(|answer| match answer {
        Ok(outcome) => {
            let mut commit = Commit::new(explore.now);
            let id = envelope.produced_id(endpoint, 0);
            commit.outbox.push(respond(envelope, endpoint, id, outcome, explore.now));
            commit.inbox.push(InboxRow { endpoint: endpoint.clone(), message_id: envelope.message_id });
            let verdict = Verdict::Handled(JournalOutcome::Moved);
            Handled { instance: envelope.correlation_id, verdict, commit }
        }
        Err((failure, answer)) => failed(failure, Some(answer)),
    });
    handled.collect()
}

fn stored(row: &InstanceRow, commit: &Commit) -> StoredInstance {
    let json = |text: &str| Body::from_json(text.to_owned()).unwrap_or_else(|_| Body::of(&()));
    StoredInstance {
        id: row.id,
        version: row.version,
        state: row.state.to_owned(),
        data: json(&row.data),
        timers: json(&row.timers),
        retry_count: 0,
        fault: None,
        created_at: commit.at,
        updated_at: commit.at,
    }
}

fn letter_key(letter: &DeadLetterRow) -> (&str, &str, &str) {
    (letter.envelope.name(), &letter.reason, letter.envelope.message.as_str())
}
