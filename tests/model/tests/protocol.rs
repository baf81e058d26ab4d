//! The model: what may happen next, and what comes of it.

use std::fmt::Debug;

use stateright::{Model, Property};

use super::host::{Host, Relay, Stage, Work};
use super::state::{Owner, State, properties};

/// A message. Saga 1 is started, poked at any time after that, and goes on by a message to itself; saga 2 is started, and a
/// consumer hears what it publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    Start1,
    Poke1,
    Start2,
    GoOn1,
    Event2,
}
use Message::{Event2, GoOn1, Poke1, Start1, Start2};

/// How many of them go over the broker: the last ones.
pub const ROUTED: usize = 2;
pub const MESSAGES: [Message; 5] = [Start1, Poke1, Start2, GoOn1, Event2];
pub const BY_CALLERS: [Message; 3] = [Start1, Poke1, Start2];
pub const BY_BROKER: [Message; ROUTED] = [GoOn1, Event2];

impl Message {
    pub fn index(self) -> usize {
        self as usize
    }
    /// Its place among the routed.
    pub fn route(self) -> usize {
        self.index() - BY_CALLERS.len()
    }
    /// The saga that it moves; a consumer hears the others.
    pub fn saga(self) -> Option<usize> {
        match self {
            Start1 | Poke1 | GoOn1 => Some(0),
            Start2 => Some(1),
            Event2 => None,
        }
    }
    /// What handling it sends.
    fn sends(self) -> Option<Message> {
        match self {
            Start1 => Some(GoOn1),
            Start2 => Some(Event2),
            Poke1 | GoOn1 | Event2 => None,
        }
    }
    /// What sends it.
    pub fn cause(self) -> Option<Message> {
        MESSAGES.into_iter().find(|it| it.sends() == Some(self))
    }
}

/// One thing that keeps messages from being lost or handled twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    Inbox,
    Version,
    SettleAfterConfirm,
    AcknowledgeAfterCommit,
    AnswerAfterCommit,
    JoinRedelivery,
    SendAfterCommit,
    Sweep,
    TakeOver,
    SendAgain,
}

pub struct Protocol {
    /// How many faults there may be, of any kind, at any moment.
    pub faults: u8,
    pub without: Option<Protection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Submit(usize, Message),
    Deliver(usize, Message),
    /// A commit of the saga's endpoint, or of the consumer's.
    Commit(usize, bool),
    /// After the commit: acknowledge, answer.
    Finish(usize, bool),
    Arrive(usize, Message),
    Confirm(usize, Message),
    Settle(usize, Message),
    TakeOver(usize, Message),
    Restart(usize),
    /// A host is killed.
    Crash(usize),
    /// A host loses its connection to the broker.
    Disconnect(usize),
    /// A commit is carried out, and the answer is lost.
    CommitUnknown(usize, bool),
    /// The broker stores a message twice.
    ArriveTwice(usize, Message),
    /// A host that lives is believed to be lost.
    Suspect(usize, Message),
}

impl Action {
    fn is_fault(self) -> bool {
        use Action::{ArriveTwice, CommitUnknown, Crash, Disconnect, Suspect};
        matches!(self, Crash(_) | Disconnect(_) | CommitUnknown(..) | ArriveTwice(..) | Suspect(..))
    }
}

impl Protocol {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    /// What can happen, faults included.
    fn possible(&self, state: &State, h: usize, actions: &mut Vec<Action>) {
        let host = &state.hosts[h];
        if host.dead {
            return actions.push(Action::Restart(h));
        }
        actions.extend([Action::Crash(h), Action::Disconnect(h)]);
        for message in BY_CALLERS {
            if host.saga.is_none() && !state.answered[message.index()] && self.may_come(state, message) {
                actions.push(Action::Submit(h, message));
            }
        }
        for message in BY_BROKER {
            let work = host.work(message.saga().is_some());
            // A consumer's endpoint takes more in while it is at work; here, only what it is at work on.
            let joins = message.saga().is_none() && work.is_some_and(|it| it.message == message);
            if state.ready[message.route()] > 0 && (work.is_none() || joins) {
                actions.push(Action::Deliver(h, message));
            }
            match host.relay[message.route()] {
                Relay::Nothing => {}
                Relay::InFlight => actions.extend([Action::Arrive(h, message), Action::ArriveTwice(h, message)]),
                Relay::Stored => actions.push(Action::Confirm(h, message)),
                Relay::Confirmed => actions.push(Action::Settle(h, message)),
            }
            match state.outbox[message.route()] {
                Some(Owner::Lost) if self.has(Protection::TakeOver) => actions.push(Action::TakeOver(h, message)),
                Some(Owner::Host(other)) if other != h => actions.push(Action::Suspect(h, message)),
                _ => {}
            }
        }
        for saga in [true, false] {
            match host.work(saga).map(|it| it.stage) {
                Some(Stage::Loaded { .. }) => actions.extend([Action::Commit(h, saga), Action::CommitUnknown(h, saga)]),
                Some(Stage::Unsure) => actions.push(Action::Commit(h, saga)),
                Some(Stage::Committed) => actions.push(Action::Finish(h, saga)),
                None => {}
            }
        }
    }

    /// A caller pokes a saga that has begun.
    fn may_come(&self, state: &State, message: Message) -> bool {
        message != Poke1 || state.handled[Start1.index()] > 0
    }

    /// What the other loops find in the database and hold in their hands, when a host begins with a message.
    fn begin(&self, state: &mut State, h: usize, message: Message, has_caller: bool) {
        let is_known = state.inbox[message.index()] && self.has(Protection::Inbox);
        let version = message.saga().map_or(0, |saga| state.versions[saga]);
        let stage = if is_known { Stage::Committed } else { Stage::Loaded { version } };
        if has_caller && !self.has(Protection::AnswerAfterCommit) {
            state.answered[message.index()] = true;
        }
        let receipts = u8::from(!has_caller && self.has(Protection::AcknowledgeAfterCommit));
        if let (false, false, Some(sent)) = (is_known, self.has(Protection::SendAfterCommit), message.sends()) {
            state.hosts[h].relay[sent.route()] = Relay::InFlight;
        }
        *state.hosts[h].slot(message.saga().is_some()) = Some(Work { message, stage, receipts, has_caller });
    }

    fn deliver(&self, state: &mut State, h: usize, message: Message) {
        let route = message.route();
        state.ready[route] -= 1;
        if let Some(work) = state.hosts[h].slot(message.saga().is_some()) {
            // The attempt is being made: whoever makes it acknowledges this delivery as well.
            if self.has(Protection::JoinRedelivery) {
                work.receipts += 1;
                state.hosts[h].unacknowledged[route] += 1;
            }
            return;
        }
        if self.has(Protection::AcknowledgeAfterCommit) {
            state.hosts[h].unacknowledged[route] += 1;
        }
        self.begin(state, h, message, false);
    }

    /// A commit reaches the database; `None`: it changes nothing, because somebody else was quicker.
    fn commit(&self, state: &mut State, h: usize, saga: bool, is_answered: bool) -> Option<()> {
        let work = state.hosts[h].work(saga)?.clone();
        let message = work.message;
        let is_conflict = state.inbox[message.index()] && self.has(Protection::Inbox);
        let next = match work.stage {
            Stage::Unsure if self.has(Protection::Inbox) => Stage::Committed,
            _ if is_conflict => Stage::Committed,
            Stage::Loaded { version } if self.is_overtaken(state, message, version) => {
                Stage::Loaded { version: state.versions[message.saga()?] }
            }
            Stage::Committed => return None,
            Stage::Loaded { .. } | Stage::Unsure => {
                let loaded = if let Stage::Loaded { version } = work.stage { version } else { state.versions[0] };
                state.inbox[message.index()] = true;
                state.handled[message.index()] += 1;
                if let Some(saga) = message.saga() {
                    state.versions[saga] = loaded + 1;
                }
                if let Some(sent) = message.sends() {
                    state.outbox[sent.route()] = Some(Owner::Host(h));
                    if is_answered {
                        self.hand_over(state, h, sent);
                    }
                }
                if is_answered { Stage::Committed } else { Stage::Unsure }
            }
        };
        if work.stage == Stage::Unsure && self.has(Protection::Sweep) {
            self.sweep(state, h);
        }
        if let Some(work) = state.hosts[h].slot(saga) {
            work.stage = next;
        }
        Some(())
    }

    fn is_overtaken(&self, state: &State, message: Message, loaded: u8) -> bool {
        self.has(Protection::Version) && message.saga().is_some_and(|saga| state.versions[saga] != loaded)
    }

    /// A relay is told of a row, and sends it.
    fn hand_over(&self, state: &mut State, h: usize, message: Message) {
        let relay = &mut state.hosts[h].relay[message.route()];
        if *relay == Relay::Nothing {
            *relay = Relay::InFlight;
        }
        if !self.has(Protection::SettleAfterConfirm) {
            state.outbox[message.route()] = None;
        }
    }

    /// A host looks for its own rows in the outbox.
    fn sweep(&self, state: &mut State, h: usize) {
        for message in BY_BROKER {
            if state.outbox[message.route()] == Some(Owner::Host(h)) {
                self.hand_over(state, h, message);
            }
        }
    }

    fn finish(&self, state: &mut State, h: usize, saga: bool) -> Option<()> {
        let work = state.hosts[h].slot(saga).take()?;
        if work.has_caller {
            state.answered[work.message.index()] = true;
        } else {
            state.hosts[h].unacknowledged[work.message.route()] -= work.receipts;
        }
        Some(())
    }

    /// What a host that is gone, or cut off, leaves to the others.
    fn requeue(&self, state: &mut State, h: usize) {
        let again = state.hosts[h].disconnect(self.has(Protection::SendAgain));
        for (ready, again) in state.ready.iter_mut().zip(again) {
            *ready += again;
        }
    }

    fn crash(&self, state: &mut State, h: usize) {
        self.requeue(state, h);
        state.hosts[h] = Host { dead: true, ..Host::default() };
        for owner in state.outbox.iter_mut().flatten() {
            if *owner == Owner::Host(h) {
                *owner = Owner::Lost;
            }
        }
    }

    fn relay(&self, state: &mut State, action: Action) {
        match action {
            Action::Arrive(h, message) | Action::ArriveTwice(h, message) => {
                state.hosts[h].relay[message.route()] = Relay::Stored;
                state.ready[message.route()] += 1 + u8::from(matches!(action, Action::ArriveTwice(..)));
            }
            Action::Confirm(h, message) => state.hosts[h].relay[message.route()] = Relay::Confirmed,
            Action::Settle(h, message) => {
                state.hosts[h].relay[message.route()] = Relay::Nothing;
                state.outbox[message.route()] = None;
            }
            Action::TakeOver(h, message) | Action::Suspect(h, message) => {
                state.outbox[message.route()] = Some(Owner::Host(h));
                self.hand_over(state, h, message);
            }
            _ => {}
        }
    }

    /// Whether nothing can happen any more but faults.
    pub fn is_at_rest(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        (0..2).for_each(|h| self.possible(state, h, &mut actions));
        actions.into_iter().all(Action::is_fault)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::beginning(self.faults)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        (0..2).for_each(|h| self.possible(state, h, actions));
        actions.retain(|action| state.left > 0 || !action.is_fault());
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.left -= u8::from(action.is_fault());
        match action {
            Action::Submit(h, message) => self.begin(&mut state, h, message, true),
            Action::Deliver(h, message) => self.deliver(&mut state, h, message),
            Action::Commit(h, saga) => self.commit(&mut state, h, saga, true)?,
            Action::CommitUnknown(h, saga) => self.commit(&mut state, h, saga, false)?,
            Action::Finish(h, saga) => self.finish(&mut state, h, saga)?,
            Action::Crash(h) => self.crash(&mut state, h),
            Action::Disconnect(h) => self.requeue(&mut state, h),
            Action::Restart(h) => state.hosts[h].dead = false,
            _ => self.relay(&mut state, action),
        }
        Some(state.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}
