//! The words of the transition table: type tokens, rules, and how an event finds its instance.

use std::any::{Any, type_name};
use std::fmt;
use std::marker::PhantomData;

use uuid::Uuid;

use crate::effect::Effects;
use crate::message::{Envelope, Message};
use crate::saga::{Ctx, Saga};

/// A type token: "this column of the table carries messages of type `E`". Zero-sized.
pub struct On<E>(PhantomData<fn() -> E>);

impl<E> Clone for On<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for On<E> {}
impl<E> fmt::Debug for On<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "On<{}>", short(type_name::<E>()))
    }
}

impl<E> On<E> {
    /// The token of `E`; [`events!`](crate::events) makes it for you.
    #[doc(hidden)]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message> On<E> {
    /// The event always moves the instance to `target`.
    pub fn to<S: Saga, H>(self, target: S::State, handler: H) -> Rule<S>
    where
        H: Fn(&mut S, &E, &Ctx<'_>) -> Effects<S> + Send + Sync + 'static,
    {
        Rule(Kind::Go {
            targets: vec![target],
            stays: false,
            handler: short(type_name::<H>()),
            apply: Box::new(move |saga, event, ctx| (Some(target), handler(saga, typed(event), ctx))),
        })
    }

    /// The event changes the instance's data, or has effects, and leaves its state as it is.
    pub fn stay<S: Saga, H>(self, handler: H) -> Rule<S>
    where
        H: Fn(&mut S, &E, &Ctx<'_>) -> Effects<S> + Send + Sync + 'static,
    {
        Rule(Kind::Go {
            targets: Vec::new(),
            stays: true,
            handler: short(type_name::<H>()),
            apply: Box::new(move |saga, event, ctx| (None, handler(saga, typed(event), ctx))),
        })
    }

    /// A declared branch: the handler decides which of `targets` the instance moves to.
    ///
    /// A handler that decides for a state outside `targets` is a defect of the saga; the step fails, the message is
    /// retried and at last becomes a dead letter.
    pub fn to_one_of<S: Saga, H, const N: usize>(self, targets: [S::State; N], decide: H) -> Rule<S>
    where
        H: Fn(&mut S, &E, &Ctx<'_>) -> (S::State, Effects<S>) + Send + Sync + 'static,
    {
        Rule(Kind::Go {
            targets: targets.to_vec(),
            stays: false,
            handler: short(type_name::<H>()),
            apply: Box::new(move |saga, event, ctx| {
                let (target, effects) = decide(saga, typed(event), ctx);
                (Some(target), effects)
            }),
        })
    }

    /// The event belongs to the instance whose id stands in the message.
    pub fn by(self, id: impl Fn(&E) -> Uuid + Send + Sync + 'static) -> Correlation {
        Correlation(Box::new(move |event, _| Some(id(typed(event)))))
    }

    /// The event belongs to the instance that the envelope's correlation id names: for messages that do not carry
    /// the id themselves. An envelope without one is a dead letter.
    pub fn by_envelope(self) -> Correlation {
        Correlation(Box::new(|_, envelope| envelope.correlation_id))
    }
}

type Correlate = Box<dyn Fn(&dyn Any, &Envelope) -> Option<Uuid> + Send + Sync>;

/// How one event finds its instance; made by [`On::by`] or [`On::by_envelope`].
pub struct Correlation(Correlate);

impl Correlation {
    pub(crate) fn id(&self, event: &dyn Any, envelope: &Envelope) -> Option<Uuid> {
        (self.0)(event, envelope)
    }
}

type Apply<S> = Box<dyn Fn(&mut S, &dyn Any, &Ctx<'_>) -> (Option<<S as Saga>::State>, Effects<S>) + Send + Sync>;

/// What happens when one event meets one state: a row of the table.
pub struct Rule<S: Saga>(pub(crate) Kind<S>);

pub(crate) enum Kind<S: Saga> {
    Go { targets: Vec<S::State>, stays: bool, handler: &'static str, apply: Apply<S> },
    Ignore,
    Defer(&'static str),
    Reject(&'static str),
}

/// The event is expected here and has no effect.
pub fn ignore<S: Saga>() -> Rule<S> {
    Rule(Kind::Ignore)
}

/// The event comes too early: it is delivered again later, by the retry policy, and is a dead letter when it is
/// still too early after the last retry.
pub fn defer<S: Saga>(why: &'static str) -> Rule<S> {
    Rule(Kind::Defer(why))
}

/// The event is a mistake here: it becomes a dead letter and a `Fault` at once.
pub fn reject<S: Saga>(why: &'static str) -> Rule<S> {
    Rule(Kind::Reject(why))
}

fn typed<E: 'static>(event: &dyn Any) -> &E {
    match event.downcast_ref() {
        Some(event) => event,
        None => unreachable!("a column decodes its own type, {}", type_name::<E>()),
    }
}

/// The last word of a type's path, without the arguments of a generic one.
fn short(path: &'static str) -> &'static str {
    let mut open = 0_usize;
    let arguments = path.ends_with('>').then(|| {
        path.rfind(|letter| {
            match letter {
                '>' => open += 1,
                '<' => open -= 1,
                _ => {}
            }
            open == 0
        })
    });
    let path = arguments.flatten().map_or(path, |start| &path[..start]);
    path.rsplit("::").next().unwrap_or(path)
}
