//! A helper for "all of these happened".

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::message::Message;

/// Remembers which events have happened, in any order; part of a saga's data.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use saga_core::{Join, Message};
/// # #[derive(Serialize, Deserialize)] struct FlightReserved;
/// # impl Message for FlightReserved { const NAME: &'static str = "Trips:FlightReserved"; }
/// # #[derive(Serialize, Deserialize)] struct HotelReserved;
/// # impl Message for HotelReserved { const NAME: &'static str = "Trips:HotelReserved"; }
/// let mut reserved = Join::default();
/// reserved.note::<HotelReserved>();
/// assert!(!reserved.all::<(FlightReserved, HotelReserved)>());
/// reserved.note::<FlightReserved>();
/// assert!(reserved.all::<(FlightReserved, HotelReserved)>());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Join(BTreeSet<String>);

impl Join {
    /// Notes that `E` has happened; noting it again changes nothing.
    pub fn note<E: Message>(&mut self) {
        self.0.insert(E::NAME.to_owned());
    }

    /// Whether `E` has happened.
    pub fn has<E: Message>(&self) -> bool {
        self.0.contains(E::NAME)
    }

    /// Whether all of the tuple's events have happened.
    pub fn all<T: MessageSet>(&self) -> bool {
        T::NAMES.iter().all(|name| self.0.contains(*name))
    }
}

/// A set of message types: a tuple of up to eight.
pub trait MessageSet {
    /// Their names.
    const NAMES: &'static [&'static str];
}

macro_rules! message_sets {
    ($($name:ident)+) => {
        message_sets!(@one $($name)+);
        message_sets!(@rest $($name)+);
    };
    (@one $($name:ident)+) => {
        impl<$($name: Message),+> MessageSet for ($($name,)+) {
            const NAMES: &'static [&'static str] = &[$($name::NAME),+];
        }
    };
    (@rest $first:ident) => {};
    (@rest $first:ident $($name:ident)+) => { message_sets!($($name)+); };
}
message_sets!(A B C D E F G H);
