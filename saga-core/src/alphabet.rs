//! The two finite alphabets of a saga: its states, and the events it hears.

use std::any::Any;
use std::fmt::Debug;

use crate::message::Message;
use crate::wire::read_leniently;

/// A finite set whose members can be listed; made by [`states!`](crate::states) and [`events!`](crate::events).
pub trait Finite: Copy + Debug + Send + Sync + 'static {
    /// Every member, in the order of declaration. Of states, the first is where an instance begins.
    const ALL: &'static [Self];

    /// The member's place in [`Finite::ALL`].
    fn index(self) -> usize;

    /// The member's name as it was declared. Stored with each instance: renaming a state is a migration.
    fn name(self) -> &'static str;

    /// The member of that name, if there is one.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.name() == name)
    }
}

/// A decoded message body, its type known only to the column that decoded it.
pub type Decoded = Box<dyn Any + Send + Sync>;

/// What the runtime knows of one column of the table: a message type, without naming the type.
#[derive(Clone, Copy)]
pub struct Column {
    /// [`Message::NAME`] of the column's type.
    pub name: &'static str,
    /// Reads a body of the column's type, as [`Body::read_leniently`](crate::Body::read_leniently) does.
    pub decode: fn(&str) -> Result<Decoded, serde_json::Error>,
}

impl Column {
    /// The column of `E`.
    pub fn of<E: Message>() -> Self {
        Self { name: E::NAME, decode: |json| Ok(Box::new(read_leniently::<E>(json)?)) }
    }
}

impl Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Column").field(&self.name).finish()
    }
}

/// The event alphabet of one saga: one variant for each message type it hears; made by [`events!`](crate::events).
pub trait Alphabet: Finite {
    /// The message type of this variant.
    fn column(self) -> Column;
}

/// "This alphabet has a column for `E`."
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no column for `{E}`",
    label = "the saga would never hear about `{E}`",
    note = "add a variant for `{E}` to the `events!` block, then say in the table what happens to it in every state"
)]
pub trait Accepts<E> {
    /// The place of the column in [`Finite::ALL`].
    const INDEX: usize;
}

/// Declares the states of a saga. The first is the state in which an instance begins.
///
/// ```
/// saga_core::states! {
///     /// Where a parcel is.
///     pub enum ParcelState { New, Travelling, Delivered }
/// }
/// ```
#[macro_export]
macro_rules! states {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$member:meta])* $state:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name {
            $(
                $(#[$member])*
                #[doc = concat!("The state `", stringify!($state), "`.")]
                $state
            ),+
        }
        impl $crate::Finite for $name {
            const ALL: &'static [Self] = &[$(Self::$state),+];
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str {
                match self { $(Self::$state => stringify!($state)),+ }
            }
        }
    };
}

/// Declares the events of a saga: each variant is named like the message type it carries, or names it in brackets.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] pub struct ParcelSent;
/// # impl saga_core::Message for ParcelSent { const NAME: &'static str = "Parcels:ParcelSent"; }
/// # #[derive(Serialize, Deserialize)] pub struct ParcelArrived;
/// # impl saga_core::Message for ParcelArrived { const NAME: &'static str = "Parcels:ParcelArrived"; }
/// saga_core::events! {
///     /// What happens to a parcel.
///     pub enum ParcelEvent { ParcelSent, Arrived(ParcelArrived) }
/// }
/// ```
#[macro_export]
macro_rules! events {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$member:meta])* $event:ident $(($ty:ty))?),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $vis enum $name {
            $(
                $(#[$member])*
                #[doc = concat!("The event `", stringify!($event), "`.")]
                $event($crate::On<$crate::__event_type!($event $(, $ty)?)>)
            ),+
        }
        const _: () = {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum Index { $($event),+ }
            impl $crate::Finite for $name {
                const ALL: &'static [Self] = &[$(Self::$event($crate::On::new())),+];
                fn index(self) -> usize {
                    match self { $(Self::$event(_) => Index::$event as usize),+ }
                }
                fn name(self) -> &'static str {
                    match self { $(Self::$event(_) => stringify!($event)),+ }
                }
            }
            impl $crate::Alphabet for $name {
                fn column(self) -> $crate::Column {
                    match self {
                        $(Self::$event(_) => $crate::Column::of::<$crate::__event_type!($event $(, $ty)?)>()),+
                    }
                }
            }
            $(
                impl $crate::Accepts<$crate::__event_type!($event $(, $ty)?)> for $name {
                    const INDEX: usize = Index::$event as usize;
                }
            )+
        };
    };
}

/// The type of an event variant: the one in brackets, else the one the variant is named after.
#[doc(hidden)]
#[macro_export]
macro_rules! __event_type {
    ($event:ident) => {
        $event
    };
    ($event:ident, $ty:ty) => {
        $ty
    };
}
