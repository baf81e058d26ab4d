//! The explorer: every order, every duplicate and every crash between commit and acknowledgement.

mod report;
mod world;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::activity::{Activity, Outcome};
use crate::commit::DeadLetterRow;
use crate::effect::Outgoing;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::message::{Envelope, Message, derive_id};
use crate::retry::RetryPolicy;
use crate::saga::{Instance, Saga};

pub use report::{ExploreError, Violation};
use world::{Next, World};
pub use world::{Sent, SentKind};

/// How many different states an exploration visits before it gives up: some seconds of work in a test build, and
/// far more than a handful of messages need. Change it with [`Explore::bound`].
const BOUND: usize = 200_000;

/// Tries everything that may happen to a saga when a handful of messages comes to it.
///
/// Explored are: every order of the messages; each one delivered once more under its id, because the process died
/// after the commit and before the acknowledgement; each answer that an activity may give; every moment at which a
/// running timer may fire, and the late copy of one that was cancelled; each attempt at a deferred or failed message.
/// With [`Explore::copies`] each given message comes a second time under another id as well.
///
/// Messages are handled by the code that handles them in the runtime; inbox, outbox and timers are plain sets.
/// Retries and timers come in any order, whatever their delays, so more is tried than can happen. The time stands
/// still. An activity is its committed answer: what it did outside before a crash is not seen here.
pub struct Explore<S: Saga> {
    machine: Machine<S>,
    given: Vec<Arc<Envelope>>,
    activities: BTreeMap<&'static str, Perform>,
    retry: RetryPolicy,
    now: DateTime<Utc>,
    inbox: bool,
    bound: usize,
}

/// What an activity may come to for one command.
type Perform = Box<dyn Fn(&Envelope) -> Result<Vec<Result<Outgoing, (Failure, Outgoing)>>, Failure>>;

/// How much was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Explored {
    /// Different states of the whole.
    pub states: usize,
    /// Those of them in which nothing is left to happen; the invariant held in each.
    pub ends: usize,
    /// Messages that were handled, over all ways.
    pub steps: usize,
    /// Deliveries that the inbox knew.
    pub duplicates: usize,
}

/// A state in which nothing is left to happen: what an invariant is asked about.
pub struct End<'a, S: Saga> {
    /// The instances, by their ids.
    pub instances: Vec<Instance<S>>,
    /// Everything that was published, sent, called and answered, in no promised order.
    pub sent: &'a [Arc<Sent>],
    /// What nobody could handle, in no promised order.
    pub dead_letters: &'a [DeadLetterRow],
    /// The rows of the domain, in the order in which they were committed.
    pub rows: &'a [S::Row],
}

impl<S: Saga> End<'_, S> {
    /// The instance of that id.
    pub fn instance(&self, id: Uuid) -> Option<&Instance<S>> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// Every message of type `M` that was published, sent, called or answered.
    pub fn all<M: Message>(&self) -> Vec<M> {
        let of_type = self.sent.iter().filter(|sent| sent.name == M::NAME);
        of_type.filter_map(|sent| sent.body.read().ok()).collect()
    }

    /// How many messages of type `M` were published, sent, called or answered.
    pub fn count<M: Message>(&self) -> usize {
        self.sent.iter().filter(|sent| sent.name == M::NAME).count()
    }
}

impl<S: Saga> Default for Explore<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Saga> Explore<S> {
    /// Begins with nothing that could happen.
    pub fn new() -> Self {
        Self {
            machine: Machine::new(),
            given: Vec::new(),
            activities: BTreeMap::new(),
            retry: RetryPolicy::default(),
            now: DateTime::UNIX_EPOCH,
            inbox: true,
            bound: BOUND,
        }
    }

    /// A message that is on its way to the saga from the start.
    #[must_use]
    pub fn message<M: Message>(self, message: &M) -> Self {
        let id = derive_id(Uuid::nil(), &format!("explore/{}", self.given.len()));
        self.envelope(Envelope::new(id, message))
    }

    /// As [`Explore::message`], in an envelope of one's own.
    #[must_use]
    pub fn envelope(mut self, envelope: Envelope) -> Self {
        self.given.push(Arc::new(envelope));
        self
    }

    /// Every message given so far comes a second time under another id, as from a sender that does not keep its ids.
    #[must_use]
    pub fn copies(mut self) -> Self {
        let copy = |envelope: &Arc<Envelope>| {
            let message_id = derive_id(envelope.message_id, "copy");
            Arc::new(Envelope { message_id, ..Envelope::clone(envelope) })
        };
        let copies: Vec<_> = self.given.iter().map(copy).collect();
        self.given.extend(copies);
        self
    }

    /// What the activity may come to: each of these is tried. A failure is retried as the runtime retries it; none
    /// at all is an activity that never answers.
    #[must_use]
    pub fn activity<A: Activity>(mut self, answers: impl Fn(&A) -> Vec<Result<A::Outcome, Failure>> + 'static) -> Self {
        let perform = move |envelope: &Envelope| {
            let command: A = envelope.message.read().map_err(Failure::permanent)?;
            let answers = answers(&command).into_iter();
            let out = answers.map(|answer| match answer {
                Ok(outcome) => Ok(outcome.into_outgoing()),
                Err(failure) => Err((failure.clone(), Outgoing::of(&command.failed(&failure)))),
            });
            Ok(out.collect())
        };
        self.activities.insert(A::NAME, Box::new(perform));
        self
    }

    /// How failed and deferred messages are retried; as the runtime does if not said.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Takes the inbox away, to see that a duplicate would do harm without it.
    #[must_use]
    pub fn without_inbox(mut self) -> Self {
        self.inbox = false;
        self
    }

    /// How many states are visited at most. To reach it is an error.
    #[must_use]
    pub fn bound(mut self, states: usize) -> Self {
        self.bound = states;
        self
    }

    /// Tries everything, the shortest ways first, and asks the invariant in each end.
    ///
    /// # Errors
    /// The shortest way to an end that violates the invariant; or why it can not be told.
    pub fn run(&self, invariant: impl Fn(&End<'_, S>) -> Result<(), String>) -> Result<Explored, ExploreError> {
        let mut explored = Explored::default();
        // The nth way out of the parent: a path is walked again when it is to be printed, instead of being kept.
        let mut ways: Vec<(usize, usize)> = Vec::new();
        let mut seen = HashSet::new();
        let mut queue = VecDeque::new();
        let start = World::start(self, &mut explored);
        seen.insert(start.fingerprint());
        ways.push((0, 0));
        queue.push_back((0, start));
        while let Some((node, world)) = queue.pop_front() {
            explored.states += 1;
            if world.is_end() {
                explored.ends += 1;
                if let Err(reason) = world.end().and_then(|end| invariant(&end)) {
                    return Err(self.violation(reason, &ways, node));
                }
            }
            for (nth, next) in world.next(self, &mut explored)?.into_iter().enumerate() {
                explored.steps += 1;
                let Next { world, wrong, .. } = next;
                if !seen.insert(world.fingerprint()) && wrong.is_none() {
                    continue;
                }
                ways.push((node, nth));
                if let Some(reason) = wrong {
                    return Err(self.violation(reason, &ways, ways.len() - 1));
                }
                if ways.len() > self.bound {
                    return Err(ExploreError::Bound { bound: self.bound, explored });
                }
                queue.push_back((ways.len() - 1, world));
            }
        }
        Ok(explored)
    }

    /// Walks the way to `node` once more, and notes each step.
    fn violation(&self, reason: String, ways: &[(usize, usize)], mut node: usize) -> ExploreError {
        let mut turns = Vec::new();
        while node != 0 {
            turns.push(ways[node].1);
            node = ways[node].0;
        }
        let mut unused = Explored::default();
        let mut world = World::start(self, &mut unused);
        let mut path = Vec::new();
        for turn in turns.into_iter().rev() {
            match world.next(self, &mut unused) {
                Ok(mut all) => {
                    let next = all.swap_remove(turn);
                    path.push(next.line);
                    world = next.world;
                }
                Err(error) => return error,
            }
        }
        ExploreError::Violation(Box::new(Violation { reason, path }))
    }
}
