//! What is in the database, at the broker and in the hosts, and what must always be true of it.

use stateright::Property;

use super::host::Host;
use super::protocol::{BY_BROKER, BY_CALLERS, MESSAGES, Message, Protocol, ROUTED};

/// Who is to send an outbox row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    Host(usize),
    /// A host that is lost.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub versions: [u8; 2],
    pub inbox: [bool; MESSAGES.len()],
    pub outbox: [Option<Owner>; ROUTED],
    /// How often each message was handled: what it did is in the database so often.
    pub handled: [u8; MESSAGES.len()],
    /// How often each message waits at the broker.
    pub ready: [u8; ROUTED],
    pub answered: [bool; BY_CALLERS.len()],
    pub hosts: [Host; 2],
    /// How many faults there may still be.
    pub left: u8,
}

impl State {
    pub fn beginning(faults: u8) -> Self {
        Self {
            versions: [0; 2],
            inbox: [false; MESSAGES.len()],
            outbox: [None; ROUTED],
            handled: [0; MESSAGES.len()],
            ready: [0; ROUTED],
            answered: [false; BY_CALLERS.len()],
            hosts: [Host::default(), Host::default()],
            left: faults,
        }
    }

    /// The hosts are alike, so that of two states that differ in nothing but their numbers one is looked at.
    pub fn canonical(mut self) -> Self {
        if self.hosts[0] > self.hosts[1] {
            self.hosts.swap(0, 1);
            for owner in self.outbox.iter_mut().flatten() {
                if let Owner::Host(h) = owner {
                    *h = 1 - *h;
                }
            }
        }
        self
    }

    pub fn copies(&self, message: Message) -> u8 {
        let taken: u8 = self.hosts.iter().map(|host| host.unacknowledged[message.route()]).sum();
        self.ready[message.route()] + taken
    }

    pub fn is_sent(&self, message: Message) -> bool {
        message.cause().is_some_and(|cause| self.handled[cause.index()] > 0)
    }

    /// Whether everything was handled once, and nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.handled.iter().all(|times| *times == 1)
            && self.outbox.iter().all(Option::is_none)
            && self.ready.iter().chain(self.hosts.iter().flat_map(|it| &it.unacknowledged)).all(|copies| *copies == 0)
            && self.answered.iter().all(|it| *it)
    }
}

/// What must always be true, and what must come about.
pub fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always("no ghost is sent", |_, state: &State| {
            BY_BROKER.into_iter().all(|it| state.copies(it) == 0 || state.is_sent(it))
        }),
        Property::always("nothing is lost", |_, state: &State| {
            let is_somewhere = |it: Message| {
                state.outbox[it.route()].is_some() || state.copies(it) > 0 || state.handled[it.index()] > 0
            };
            BY_BROKER.into_iter().all(|it| !state.is_sent(it) || is_somewhere(it))
        }),
        Property::always("each message happens once", |_, state: &State| state.handled.iter().all(|times| *times <= 1)),
        Property::always("each step is the next one", |_, state: &State| {
            let steps = |saga| MESSAGES.into_iter().filter(move |it| it.saga() == Some(saga));
            [0, 1]
                .into_iter()
                .all(|saga| steps(saga).map(|it| state.handled[it.index()]).sum::<u8>() == state.versions[saga])
        }),
        Property::always("what was answered is stored", |_, state: &State| {
            BY_CALLERS.into_iter().all(|it| !state.answered[it.index()] || state.handled[it.index()] > 0)
        }),
        Property::always("nothing is stuck", |model: &Protocol, state: &State| {
            !model.is_at_rest(state) || state.is_over()
        }),
        Property::sometimes("everything ends without faults", |model: &Protocol, state: &State| {
            state.is_over() && state.left == model.faults
        }),
        Property::sometimes("everything ends with all faults", |_, state: &State| state.is_over() && state.left == 0),
    ]
}
