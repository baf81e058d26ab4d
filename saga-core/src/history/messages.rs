//! What a witness has seen on the bus, against what a history says was produced.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Violation;
use crate::commit::{JournalRow, Name, StoredInstance};
use crate::machine::Machine;
use crate::message::Envelope;
use crate::saga::Saga;
use crate::wire::destination_of;

impl<S: Saga> Machine<S> {
    /// Where the messages that a witness has seen on the bus are not those that the steps of instance `id` have produced:
    /// a [`Ghost`](Violation::Ghost) was seen and is of no committed step; a [`Zombie`](Violation::Zombie) is of a
    /// committed step and was never seen. Each may be seen as often as it likes.
    ///
    /// `seen` may hold the messages of any sender: only those count that this saga has sent for this instance. A timer need
    /// not be seen, because it may be cancelled. Of a history that lacks its beginning no ghost can be told. A `Fault` is
    /// of no step, and is not judged.
    pub fn check_messages<'a>(
        &self,
        id: Uuid,
        instance: Option<&StoredInstance>,
        journal: &[JournalRow],
        seen: impl IntoIterator<Item = &'a Envelope>,
    ) -> Vec<Violation> {
        let is_ours = |it: &Envelope| {
            it.saga() == Some(S::NAME)
                && it.correlation_id == Some(id)
                && it.source_address.as_deref().is_some_and(|from| destination_of(from) == S::ENDPOINT)
        };
        let produced: HashMap<Uuid, &Name> = produced(journal).map(|it| (it.message_id, it.name)).collect();
        let begins = journal.iter().filter_map(|row| row.version).min();
        let is_whole = begins.map_or(instance.is_none(), |version| version == 1);
        let (mut found, mut all, mut told) = (Vec::new(), HashSet::new(), HashSet::new());
        for envelope in seen {
            all.insert(envelope.message_id);
            let known = produced.get(&envelope.message_id).is_some_and(|name| **name == envelope.name());
            if is_whole && !known && is_ours(envelope) && told.insert(envelope.message_id) {
                let (message_id, message_type) = (envelope.message_id, envelope.name().to_owned());
                found.push(Violation::Ghost { message_id, message_type });
            }
        }
        let unseen = self::produced(journal).filter(|it| it.is_sent && !all.contains(&it.message_id));
        found.extend(unseen.map(|it| {
            let (version, message_type) = (it.version, it.name.clone());
            Violation::Zombie { version, message_id: it.message_id, message_type }
        }));
        found
    }
}

/// A message that a step has produced.
struct Produced<'a> {
    version: u64,
    message_id: Uuid,
    name: &'a Name,
    /// It was to be sent at once; a timer is not.
    is_sent: bool,
}

fn produced(journal: &[JournalRow]) -> impl Iterator<Item = Produced<'_>> {
    let steps = journal.iter().filter_map(|row| Some((row.version?, row)));
    steps.flat_map(|(version, row)| {
        row.effects.iter().filter_map(move |effect| {
            let (message_id, name) = (effect.message_id?, effect.name.as_ref()?);
            Some(Produced { version, message_id, name, is_sent: effect.kind != "schedule" })
        })
    })
}
