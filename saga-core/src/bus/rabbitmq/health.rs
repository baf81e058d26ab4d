//! How the bus is, for whoever asks.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::{Cause, Loss};

/// How long a start waits for a broker that is there and does not let the bus in yet.
const FIRST_OUTCOME: Duration = Duration::from_secs(30);

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Publishing,
    Consuming,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Consuming => "consuming",
        }
    }
}

/// How both connections and all endpoints are.
pub(super) struct Health(watch::Sender<State>);

#[derive(Default)]
struct State {
    publishing: Connection,
    consuming: Connection,
    /// Endpoints that are not as they should be, and why.
    endpoints: BTreeMap<String, Loss>,
}

#[derive(Default)]
enum Connection {
    /// Not tried yet.
    #[default]
    New,
    Up,
    Down(Loss),
}

impl Health {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State::default()))
    }

    /// The connection works. Says whether it did not before.
    pub(super) fn up(&self, side: Side) -> bool {
        self.0.send_if_modified(|state| {
            let was_up = matches!(state.side(side), Connection::Up);
            *state.side(side) = Connection::Up;
            !was_up
        })
    }

    /// The connection does not work. Says whether that is news.
    pub(super) fn down(&self, side: Side, loss: &Loss) -> bool {
        self.0.send_if_modified(|state| {
            let is_news = !matches!(state.side(side), Connection::Down(known) if known == loss);
            *state.side(side) = Connection::Down(loss.clone());
            is_news
        })
    }

    /// An endpoint is declared, and consumed if it is to be. Says whether it was not before.
    pub(super) fn endpoint_up(&self, name: &str) -> bool {
        self.0.send_if_modified(|state| state.endpoints.remove(name).is_some())
    }

    /// An endpoint is not. Says whether that is news.
    pub(super) fn endpoint_down(&self, name: &str, loss: &Loss) -> bool {
        self.0.send_if_modified(|state| {
            let before = state.endpoints.insert(name.to_owned(), loss.clone());
            before.as_ref() != Some(loss)
        })
    }

    /// What is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.0.borrow();
        let mut trouble = Vec::new();
        for (side, connection) in [(Side::Publishing, &state.publishing), (Side::Consuming, &state.consuming)] {
            match connection {
                Connection::Up => {}
                Connection::New => trouble.push(format!("not connected yet for {}", side.name())),
                Connection::Down(loss) => trouble.push(format!("not connected for {}: {}", side.name(), loss.why)),
            }
        }
        trouble.extend(state.endpoints.iter().map(|(name, loss)| format!("endpoint {name}: {}", loss.why)));
        (!trouble.is_empty()).then(|| trouble.join("; "))
    }

    /// Waits until both connections have worked, or the broker is away. What waiting does not mend is an error.
    pub(super) async fn first_outcome(&self) -> Result<(), String> {
        let mut state = self.0.subscribe();
        let is_known = |it: &Connection| match it {
            Connection::New => false,
            Connection::Up => true,
            // A broker that is there and busy may yet let us in.
            Connection::Down(loss) => loss.cause != Cause::Refused,
        };
        let both = state.wait_for(|it| is_known(&it.publishing) && is_known(&it.consuming));
        // Whatever it says after that, the connections go on.
        let _ = timeout(FIRST_OUTCOME, both).await;
        let state = self.0.borrow();
        let down = [&state.publishing, &state.consuming].into_iter().filter_map(|it| match it {
            Connection::Down(loss) => Some(loss),
            Connection::New | Connection::Up => None,
        });
        let wrong = down.chain(state.endpoints.values()).filter(|loss| loss.cause == Cause::Topology);
        let wrong: Vec<_> = wrong.map(|loss| loss.why.as_str()).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

impl State {
    fn side(&mut self, side: Side) -> &mut Connection {
        match side {
            Side::Publishing => &mut self.publishing,
            Side::Consuming => &mut self.consuming,
        }
    }
}
