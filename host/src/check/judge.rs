//! What is wrong with an order, or with a message that waits. Pure: everything that it knows was read before.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use order_saga::{
    ORDER_NOTIFIER, ORDER_PAYMENT, ORDER_SAGA, Order, OrderCompleted, OrderCreated, OrderExpired, ProcessPayment,
    RefundPayment,
};
use saga_core::{
    Envelope, JournalOutcome, JournalRow, MAX_REDRIVES, Machine, Message, OutboxRow, Retention, Saga, Violation,
    produced_id,
};
use serde::Serialize;
use uuid::Uuid;

use super::look::{Look, Seen, timers};

/// Who hears what the order saga sends. A consumer that joins hears nothing of what was sent before.
const RECEIVERS: [(&str, &str); 5] = [
    (OrderCreated::NAME, ORDER_SAGA),
    (ProcessPayment::NAME, ORDER_PAYMENT),
    (RefundPayment::NAME, ORDER_PAYMENT),
    (OrderCompleted::NAME, ORDER_NOTIFIER),
    (OrderExpired::NAME, ORDER_NOTIFIER),
];

/// What is told to the notifier, with the state that sends it and the kind of notification that it makes.
const NEWS: [(&str, &str, &str); 2] =
    [(OrderCompleted::NAME, "Completed", "completed"), (OrderExpired::NAME, "Expired", "expired")];

/// How the types of faults begin, which whoever could not handle a message sends.
const FAULTS: &str = "MassTransit:";

/// How much a host's clock may be behind ours, where rows are judged by their age.
const CLOCKS: TimeDelta = TimeDelta::minutes(5);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// The order; absent where it can not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<Uuid>,
    pub(super) what: String,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// The history is no legal path of the table, or not the way to what is stored.
    History,
    /// The order and its saga do not agree.
    Order,
    /// A user was told too much, too little, or the wrong thing.
    Notification,
    /// A message was handled, and the inbox does not know it.
    Inbox,
    /// A message was given up, and no dead letter is there.
    DeadLetter,
    /// A message was produced, and is nowhere; or was heard, and not produced.
    Message,
    /// A message waits to be sent that nothing has produced.
    Outbox,
    /// A row can not be read.
    Unreadable,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Order => "order",
            Self::Notification => "notification",
            Self::Inbox => "inbox",
            Self::DeadLetter => "dead-letter",
            Self::Message => "message",
            Self::Outbox => "outbox",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Where the messages are that were produced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Messages {
    /// By steps of orders, to endpoints that are known here.
    pub(super) produced: u64,
    pub(super) handled: u64,
    /// Dead letters, redriven or not.
    pub(super) given_up: u64,
    /// Neither handled nor given up: in the outbox, for another attempt, or at the broker, if there is one.
    pub(super) under_way: u64,
    /// So old that the inbox need not remember them.
    pub(super) too_old: u64,
}

/// What is judged, and how strictly.
pub(super) struct Judge {
    pub(super) machine: Machine<Order>,
    pub(super) retention: Retention,
    pub(super) now: DateTime<Utc>,
    /// Nothing is at a broker: what is neither waiting nor handled is lost.
    pub(super) is_settled: bool,
}

impl Judge {
    /// Everything that is wrong with one order; where its messages are is counted.
    pub(super) fn order(&self, id: Uuid, look: &Look, messages: &mut Messages) -> Vec<Finding> {
        let Some(seen) = look.orders.get(&id).filter(|it| !it.is_unreadable) else { return Vec::new() };
        let mut found = Found { order: Some(id), findings: Vec::new() };
        let violations = self.machine.check(seen.instance.as_ref(), &seen.journal);
        for violation in violations.into_iter().filter(|it| !self.is_forgotten(it, &seen.journal)) {
            found.add(Kind::History, violation.to_string());
        }
        status(seen, &mut found);
        self.heard(seen, look, &mut found);
        self.produced(seen, look, messages, &mut found);
        self.told(seen, look, &mut found);
        found.findings
    }

    /// Whether a message was handled more than once only because the inbox did not know it any more each time that it
    /// came: what comes so late is handled once more.
    fn is_forgotten(&self, violation: &Violation, journal: &[JournalRow]) -> bool {
        let Violation::Twice { message_id, endpoint } = violation else { return false };
        let is_handled = |it: &&JournalRow| matches!(it.outcome, JournalOutcome::Moved | JournalOutcome::Ignored);
        let copies = journal.iter().filter(|it| it.message_id == *message_id && it.endpoint == *endpoint);
        let mut times: Vec<_> = copies.filter(is_handled).map(|it| it.at).collect();
        times.sort_unstable();
        times.windows(2).all(|it| !must_last(self.retention.inbox, it[1].signed_duration_since(it[0])))
    }

    /// What was handled or given up has left the row that says so.
    fn heard(&self, seen: &Seen, look: &Look, found: &mut Found) {
        let is_whole = is_whole(seen);
        let produced: HashSet<Uuid> = produced(&seen.journal).map(|it| it.message_id).collect();
        for row in &seen.journal {
            let (message, endpoint) = (row.message_id, &*row.endpoint);
            let key = (message, endpoint.to_owned());
            let line = || format!("message {message} ({}) at {endpoint}", row.message_type);
            match row.outcome {
                JournalOutcome::Moved | JournalOutcome::Ignored => {
                    if !look.handled.contains(&key) && self.is_kept(self.retention.inbox, row.at) {
                        found.add(Kind::Inbox, format!("{} was handled, and the inbox does not know it", line()));
                    }
                    if is_whole && row.message_type == OrderCreated::NAME && !produced.contains(&message) {
                        found.add(Kind::Message, format!("{} was heard, and no step of the order has sent it", line()));
                    }
                }
                JournalOutcome::Rejected | JournalOutcome::Faulted => {
                    if !look.given_up.contains(&key) && self.is_kept(self.retention.redriven, row.at) {
                        found.add(Kind::DeadLetter, format!("{} was given up, and is no dead letter", line()));
                    }
                }
                JournalOutcome::Deferred | JournalOutcome::Retried => {}
            }
        }
    }

    /// What was produced waits, was handled or was given up; otherwise it is at a broker, or lost.
    fn produced(&self, seen: &Seen, look: &Look, messages: &mut Messages, found: &mut Found) {
        for it in produced(&seen.journal) {
            let Some((_, receiver)) = RECEIVERS.iter().find(|(name, _)| *name == it.name) else { continue };
            messages.produced += 1;
            if look.handled.contains(&(it.message_id, (*receiver).to_owned())) {
                // What is given up is in the inbox, too.
                let dead = look.given_up.contains(&(it.message_id, (*receiver).to_owned()));
                *(if dead { &mut messages.given_up } else { &mut messages.handled }) += 1;
            } else if look.waiting.contains(&it.message_id) {
                messages.under_way += 1;
            } else if look.given_up_by_any.contains(&it.message_id) {
                messages.given_up += 1;
            } else if !self.is_kept(self.retention.inbox, it.at) {
                messages.too_old += 1;
            } else if self.is_settled {
                let (id, name) = (it.message_id, it.name);
                let what = "is neither waiting nor handled";
                found.add(Kind::Message, format!("message {id} ({name}) was sent to {receiver}, and {what}"));
            } else {
                messages.under_way += 1;
            }
        }
        for token in timers(seen) {
            if self.is_settled && !look.waiting.contains(&token) && !look.given_up_by_any.contains(&token) {
                found.add(Kind::Message, format!("the timer {token} runs, and will never fire"));
            }
        }
    }

    /// A final order is told once, when its message has been handled; nobody is told anything else.
    fn told(&self, seen: &Seen, look: &Look, found: &mut Found) {
        let state = seen.instance.as_ref().map(|it| it.state.as_str());
        for told in &seen.told {
            let (kind, message) = (&told.kind, told.message_id);
            let Some((name, ..)) = NEWS.iter().find(|(_, of, news)| news == kind && Some(*of) == state) else {
                let state = state.unwrap_or("nothing that its saga knows");
                found.add(Kind::Notification, format!("the user was told of {kind}, and the order is {state}"));
                continue;
            };
            let answers = produced(&seen.journal).any(|it| it.message_id == message && it.name == *name);
            if !answers && is_whole(seen) {
                let what = "which no step of the order has sent";
                found.add(Kind::Notification, format!("the notification of {kind} answers message {message}, {what}"));
            }
        }
        for (name, _, kind) in NEWS {
            let is_told = seen.told.iter().any(|it| it.kind == kind);
            for it in produced(&seen.journal).filter(|it| it.name == name) {
                let key = (it.message_id, ORDER_NOTIFIER.to_owned());
                if look.handled.contains(&key) && !look.given_up.contains(&key) && !is_told {
                    let what = "was handled, and the user was not told";
                    found.add(Kind::Notification, format!("message {} ({name}) {what}", it.message_id));
                }
            }
        }
    }

    /// What is wrong with a message that waits to be sent: that nothing in the history of its order has caused it. What
    /// others than the order saga and the payment send is not judged.
    pub(super) fn waiting(&self, row: &OutboxRow, histories: &HashMap<Uuid, Vec<JournalRow>>) -> Option<Finding> {
        let envelope = &*row.envelope;
        let order = envelope.correlation_id?;
        let journal = histories.get(&order).map_or(&[][..], Vec::as_slice);
        let is_lawful = match sender(envelope)? {
            ORDER_SAGA if envelope.saga() == Some(Order::NAME) => {
                produced(journal).any(|it| it.message_id == envelope.message_id && it.name == envelope.name())
            }
            ORDER_PAYMENT if !envelope.name().starts_with(FAULTS) => produced(journal)
                .filter(|it| it.kind == "call")
                .any(|it| answers(it.message_id, ORDER_PAYMENT).any(|id| id == envelope.message_id)),
            _ => true,
        };
        // Of a history that has lost its beginning nothing can be told.
        let has_begun = journal.iter().any(|row| row.version == Some(1));
        if is_lawful || !(has_begun || self.retention.journal.is_none()) {
            return None;
        }
        let (id, name) = (envelope.message_id, envelope.name());
        let what = format!("message {id} ({name}) waits to be sent, and nothing in its order's history has caused it");
        Some(Finding { kind: Kind::Outbox, order: Some(order), what })
    }

    /// Whether a row from that time must still be there.
    fn is_kept(&self, kept: Option<std::time::Duration>, at: DateTime<Utc>) -> bool {
        must_last(kept, self.now.signed_duration_since(at))
    }
}

/// Whether a row of that age must still be there.
fn must_last(kept: Option<std::time::Duration>, age: TimeDelta) -> bool {
    let Some(kept) = kept else { return true };
    let lasting = TimeDelta::from_std(kept).ok().and_then(|kept| kept.checked_sub(&CLOCKS));
    lasting.is_none_or(|lasting| age < lasting)
}

/// The endpoint that says that it has sent the message.
fn sender(envelope: &Envelope) -> Option<&str> {
    envelope.source_address.as_deref().map(|it| it.strip_prefix("queue:").unwrap_or(it))
}

/// The ids that the answer to a call may have: of an outcome, or of the failure, however often it was redriven.
fn answers(call: Uuid, endpoint: &str) -> impl Iterator<Item = Uuid> {
    let failed = format!("{endpoint}/failed");
    let endpoint = endpoint.to_owned();
    (0..=MAX_REDRIVES)
        .flat_map(move |redrives| [produced_id(call, redrives, &endpoint, 0), produced_id(call, redrives, &failed, 0)])
}

/// The order's status is the saga's state, and neither is without the other.
fn status(seen: &Seen, found: &mut Found) {
    match (&seen.instance, &seen.status) {
        (Some(instance), Some(status)) if instance.state.to_lowercase() != *status => {
            found.add(Kind::Order, format!("the order is {status}, and its saga {}", instance.state));
        }
        (Some(instance), None) => {
            found.add(Kind::Order, format!("the saga is {}, and there is no order", instance.state));
        }
        (None, Some(status)) => found.add(Kind::Order, format!("the order is {status}, and has no saga")),
        _ => {}
    }
}

/// The history has its beginning, so what is not in it has not happened.
fn is_whole(seen: &Seen) -> bool {
    let begins = seen.journal.iter().filter_map(|row| row.version).min();
    begins.map_or(seen.instance.is_none(), |version| version == 1)
}

/// A message that a step has sent.
struct Produced<'a> {
    message_id: Uuid,
    name: &'a str,
    kind: &'a str,
    at: DateTime<Utc>,
}

fn produced(journal: &[JournalRow]) -> impl Iterator<Item = Produced<'_>> {
    let steps = journal.iter().filter(|row| row.outcome == JournalOutcome::Moved);
    steps.flat_map(|row| {
        row.effects.iter().filter_map(|effect| {
            let (message_id, name) = (effect.message_id?, effect.name.as_deref()?);
            Some(Produced { message_id, name, kind: &effect.kind, at: row.at })
        })
    })
}

struct Found {
    order: Option<Uuid>,
    findings: Vec<Finding>,
}

impl Found {
    fn add(&mut self, kind: Kind, what: String) {
        self.findings.push(Finding { kind, order: self.order, what });
    }
}
