//! Whether what was seen is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use order_saga::Order;
use saga_core::{JournalOutcome, JournalRow, Machine, StoredInstance};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What was seen of a run that came to rest.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The key of each request that was answered with an order, and the order.
    pub accepted: Vec<(u64, Uuid)>,
    /// Answers that a client can not expect.
    pub answers: Vec<String>,
    /// The orders that are stored.
    pub orders: BTreeMap<Uuid, Seen>,
    /// What users were told: the order and the kind.
    pub told: Vec<(Uuid, String)>,
    /// What another service has heard at the broker; nothing, where none could listen.
    pub heard: Option<Vec<Heard>>,
    /// The messages that were given up.
    pub dead_letters: Vec<String>,
    /// What is left to do: how many rows or messages, and where.
    pub left: BTreeMap<String, u64>,
}

/// One stored order.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As its user sees it.
    pub status: String,
    /// Its saga.
    pub instance: Option<StoredInstance>,
    /// What happened to it.
    pub journal: Vec<JournalRow>,
}

/// A message that came to another service's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its id.
    pub message_id: Uuid,
    /// Its type.
    pub name: String,
    /// The order that it tells of.
    pub order: Uuid,
}

/// What was found wrong, and which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Every request is answered with an order or asked again later.
    Answered,
    /// Every accepted order is stored.
    Kept,
    /// Every stored order was accepted.
    Accepted,
    /// A key has one order, and an order one key.
    OneOrderAKey,
    /// Every order is completed or expired, and its saga agrees.
    Final,
    /// An order's history is one legal path of the table without gaps, each cause once.
    Legal,
    /// An order has ended once.
    EndedOnce,
    /// Each payment and refund was asked for once at the most, and answered as often.
    PaidOnce,
    /// A user was told of the end, once.
    ToldOnce,
    /// What was heard at the broker is what the histories have published, and nothing else.
    Published,
    /// Nothing was given up.
    NothingGivenUp,
    /// Nothing is left to do.
    NothingLeft,
}

/// What was seen, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Orders that were accepted.
    pub accepted: u64,
    /// Orders that are completed.
    pub completed: u64,
    /// Orders that are expired.
    pub expired: u64,
    /// Steps that sagas have taken.
    pub steps: u64,
    /// Payments that were given back, because they came after the end.
    pub refunded: u64,
    /// Failed attempts that were tried again.
    pub retried: u64,
    /// Messages that were heard at the broker, each counted once.
    pub heard: u64,
    /// Of those, copies beyond the first.
    pub copies: u64,
}

/// Everything that is wrong, and what there was.
pub fn judge(evidence: &Evidence) -> (Summary, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut found = |rule, what: String| findings.push(Finding { rule, what });
    evidence.answers.iter().for_each(|answer| found(Rule::Answered, answer.clone()));
    accepted(evidence, &mut found);
    for (id, seen) in &evidence.orders {
        end(*id, seen, &mut found);
        payments(*id, seen, &mut found);
    }
    told(evidence, &mut found);
    published(evidence, &mut found);
    evidence.dead_letters.iter().for_each(|letter| found(Rule::NothingGivenUp, letter.clone()));
    for (place, count) in evidence.left.iter().filter(|(_, count)| **count > 0) {
        found(Rule::NothingLeft, format!("{count} in {place}"));
    }
    (summary(evidence), findings)
}

fn accepted(evidence: &Evidence, found: &mut impl FnMut(Rule, String)) {
    let (mut by_key, mut by_order) = (BTreeMap::new(), BTreeMap::new());
    for (key, order) in &evidence.accepted {
        if by_key.insert(*key, *order).is_some_and(|before| before != *order) {
            found(Rule::OneOrderAKey, format!("the key {key} has more than one order, the last is {order}"));
        }
        if by_order.insert(*order, *key).is_some_and(|before| before != *key) {
            found(Rule::OneOrderAKey, format!("the order {order} has more than one key, the last is {key}"));
        }
    }
    for (order, key) in by_order.iter().filter(|(order, _)| !evidence.orders.contains_key(order)) {
        found(Rule::Kept, format!("the order {order} was accepted under the key {key}, and is not stored"));
    }
    for order in evidence.orders.keys().filter(|order| !by_order.contains_key(order)) {
        found(Rule::Accepted, format!("nobody was told of the order {order}"));
    }
}

fn end(id: Uuid, seen: &Seen, found: &mut impl FnMut(Rule, String)) {
    let Seen { status, instance, journal } = seen;
    let state = instance.as_ref().map_or("none", |it| &it.state);
    if !is_final(status) || state.to_lowercase() != *status {
        found(Rule::Final, format!("the order {id} is {status}, its saga is {state}"));
    }
    for violation in Machine::<Order>::new().check(instance.as_ref(), journal) {
        found(Rule::Legal, format!("order {id}: {violation}"));
    }
    let ends = journal.iter().filter(|row| {
        row.outcome == JournalOutcome::Moved && row.from != row.to && row.to.as_deref().is_some_and(is_final)
    });
    let ends = ends.count();
    if ends != 1 {
        found(Rule::EndedOnce, format!("the order {id} has ended {ends} times"));
    }
}

fn is_final(state: &str) -> bool {
    matches!(state.to_lowercase().as_str(), "completed" | "expired")
}

fn payments(id: Uuid, seen: &Seen, found: &mut impl FnMut(Rule, String)) {
    let handled = |names: &[&str]| {
        let rows = seen.journal.iter().filter(|row| is_handled(row) && names.contains(&row.message_type.as_ref()));
        rows.count()
    };
    let caused = |name: &str| {
        let effects = seen.journal.iter().flat_map(|row| &row.effects);
        effects.filter(|effect| &*effect.kind == "call" && effect.name.as_deref() == Some(name)).count()
    };
    let pairs: [(&str, &[&str]); 2] = [
        ("Orders:ProcessPayment", &["Orders:PaymentApproved", "Orders:PaymentDeclined", "Orders:PaymentFailed"]),
        ("Orders:RefundPayment", &["Orders:PaymentRefunded", "Orders:RefundFailed"]),
    ];
    for (command, answers) in pairs {
        let (asked, answered) = (caused(command), handled(answers));
        if asked > 1 || asked != answered {
            found(Rule::PaidOnce, format!("order {id}: {asked} times {command}, and {answered} answers"));
        }
    }
}

fn is_handled(row: &JournalRow) -> bool {
    matches!(row.outcome, JournalOutcome::Moved | JournalOutcome::Ignored)
}

fn told(evidence: &Evidence, found: &mut impl FnMut(Rule, String)) {
    let mut told: BTreeMap<Uuid, Vec<&str>> = BTreeMap::new();
    for (order, kind) in &evidence.told {
        told.entry(*order).or_default().push(kind);
    }
    for (id, seen) in &evidence.orders {
        let kinds = told.remove(id).unwrap_or_default();
        if kinds != [seen.status.as_str()] {
            found(Rule::ToldOnce, format!("the order {id} is {}, and its user was told {kinds:?}", seen.status));
        }
    }
    for (order, kinds) in told {
        found(Rule::ToldOnce, format!("a user was told {kinds:?} of the order {order}, which is not stored"));
    }
}

fn published(evidence: &Evidence, found: &mut impl FnMut(Rule, String)) {
    let Some(heard) = &evidence.heard else { return };
    let published: BTreeSet<(Uuid, &str, Uuid)> =
        evidence.orders.iter().flat_map(|(id, seen)| of_history(*id, seen)).collect();
    let heard: BTreeSet<_> = heard.iter().map(|it| (it.message_id, it.name.as_str(), it.order)).collect();
    for (message, name, order) in published.difference(&heard) {
        let rows = evidence.orders[order].journal.iter();
        let at =
            rows.filter(|row| row.effects.iter().any(|it| it.message_id == Some(*message))).map(|row| row.at).min();
        let at = at.map_or_else(String::new, |at| format!(" at {}", at.to_rfc3339()));
        found(Rule::Published, format!("{name} {message} of the order {order} was committed{at}, and nobody heard it"));
    }
    for (message, name, order) in heard.difference(&published) {
        found(Rule::Published, format!("{name} {message} of the order {order} was heard, and no step has caused it"));
    }
}

fn of_history(id: Uuid, seen: &Seen) -> impl Iterator<Item = (Uuid, &str, Uuid)> {
    let effects = seen.journal.iter().flat_map(|row| &row.effects).filter(|effect| &*effect.kind == "publish");
    effects.filter_map(move |effect| Some((effect.message_id?, effect.name.as_deref()?, id)))
}

fn summary(evidence: &Evidence) -> Summary {
    let orders = |status: &str| evidence.orders.values().filter(|seen| seen.status == status).count() as u64;
    let rows = |is_one: &dyn Fn(&JournalRow) -> bool| {
        evidence.orders.values().flat_map(|seen| &seen.journal).filter(|row| is_one(row)).count() as u64
    };
    let all: Vec<_> = evidence.heard.iter().flatten().map(|it| it.message_id).collect();
    let heard = all.iter().collect::<BTreeSet<_>>().len() as u64;
    Summary {
        accepted: evidence.accepted.iter().map(|(_, order)| order).collect::<BTreeSet<_>>().len() as u64,
        completed: orders("completed"),
        expired: orders("expired"),
        steps: rows(&|row| row.version.is_some()),
        refunded: rows(&|row| is_handled(row) && &*row.message_type == "Orders:PaymentRefunded"),
        retried: rows(&|row| row.outcome == JournalOutcome::Retried),
        heard,
        copies: all.len() as u64 - heard,
    }
}
