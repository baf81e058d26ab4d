//! Activities: a command in, one of its outcomes out, or its failure message after the last retry.

use serde_json::Error;

use crate::effect::Outgoing;
use crate::failure::Failure;
use crate::message::Message;

/// The command of an impure piece of work: charging a card, booking a room.
///
/// The work itself is an `ActivityHandler` (feature `runtime`), run outside any transaction at least once, with an
/// idempotency key that is the same on each attempt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no activity",
    label = "a command that somebody performs and answers is needed here",
    note = "implement `Activity` for `{Self}`: its endpoint, what may come back, and what comes back when the last \
            retry failed; a message that nobody answers is sent by `Effects::send` or `Effects::publish`"
)]
pub trait Activity: Message {
    /// The endpoint (queue) that performs it.
    const ENDPOINT: &'static str;
    /// What may come back; made by [`outcomes!`](crate::outcomes), or a single message type.
    type Outcome: Outcome;
    /// What comes back when the last retry failed.
    type Failed: Message;

    /// The message that tells the caller of the final failure.
    fn failed(&self, failure: &Failure) -> Self::Failed;
}

/// The outcomes of an activity: one message type of a closed set.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no outcome of an activity",
    label = "what may come back must be a message, or a set of messages",
    note = "name one message type, or declare several: `outcomes! {{ pub enum {Self} {{ … }} }}`"
)]
pub trait Outcome: Send + 'static {
    /// The message that travels back.
    fn into_outgoing(self) -> Outgoing;

    /// The names of all messages that may travel back.
    fn names() -> Vec<&'static str>;

    /// Reads one back from what was stored: the harness and the explorer script outcomes with it.
    ///
    /// # Errors
    /// `None` when no outcome has that name; an error when the body is not of its type.
    fn read(name: &str, json: &str) -> Option<Result<Self, Error>>
    where
        Self: Sized;
}

impl<M: Message> Outcome for M {
    fn into_outgoing(self) -> Outgoing {
        Outgoing::of(&self)
    }
    fn names() -> Vec<&'static str> {
        vec![M::NAME]
    }
    fn read(name: &str, json: &str) -> Option<Result<Self, Error>> {
        (name == M::NAME).then(|| serde_json::from_str(json))
    }
}

/// "The alphabet `Event` has a column for every one of these outcomes."
#[diagnostic::on_unimplemented(
    message = "`{Event}` has no column for the outcome `{Self}`",
    label = "the saga would never hear what the activity came to",
    note = "add a variant for each message of `{Self}` to the `events!` block"
)]
pub trait AcceptedBy<Event> {}

impl<M: Message, Event: crate::alphabet::Accepts<M>> AcceptedBy<Event> for M {}

/// Declares the outcomes of an activity: an enum with one variant for each message type.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] pub struct Reserved;
/// # impl saga_core::Message for Reserved { const NAME: &'static str = "Trips:Reserved"; }
/// # #[derive(Serialize, Deserialize)] pub struct SoldOut;
/// # impl saga_core::Message for SoldOut { const NAME: &'static str = "Trips:SoldOut"; }
/// saga_core::outcomes! {
///     /// What a booking may come to.
///     pub enum Booking { Reserved, SoldOut }
/// }
/// let outcome: Booking = Reserved.into();
/// ```
#[macro_export]
macro_rules! outcomes {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$member:meta])* $outcome:ident),+ $(,)? }) => {
        $(#[$meta])*
        $vis enum $name {
            $(
                $(#[$member])*
                #[doc = concat!("The outcome `", stringify!($outcome), "`.")]
                $outcome($outcome)
            ),+
        }
        impl $crate::Outcome for $name {
            fn into_outgoing(self) -> $crate::Outgoing {
                match self { $(Self::$outcome(message) => $crate::Outgoing::of(&message)),+ }
            }
            fn names() -> ::std::vec::Vec<&'static str> {
                ::std::vec![$(<$outcome as $crate::Message>::NAME),+]
            }
            fn read(name: &str, json: &str) -> ::std::option::Option<::std::result::Result<Self, $crate::JsonError>> {
                $(if name == <$outcome as $crate::Message>::NAME {
                    return ::std::option::Option::Some($crate::read_json(json).map(Self::$outcome));
                })+
                ::std::option::Option::None
            }
        }
        impl<Event> $crate::AcceptedBy<Event> for $name
        where
            $(Event: $crate::Accepts<$outcome>),+
        {}
        $(impl ::std::convert::From<$outcome> for $name {
            fn from(message: $outcome) -> Self { Self::$outcome(message) }
        })+
    };
}

/// Reads JSON, for the code that [`outcomes!`](crate::outcomes) makes.
///
/// # Errors
/// When the text is not JSON, or not of the type.
#[doc(hidden)]
pub fn read_json<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json)
}
