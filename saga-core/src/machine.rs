//! The machine: a saga's table, built once, and the pure step.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use uuid::Uuid;

use crate::alphabet::{Accepts, Alphabet, Column, Decoded, Finite};
use crate::effect::Effects;
use crate::failure::{Failure, FailureKind};
use crate::message::{Envelope, Message};
use crate::saga::{Ctx, Instance, Saga};
use crate::table::{Correlation, Kind, Rule};

/// A saga's table, materialised: every rule, column and correlation is made once, in [`Machine::new`].
pub struct Machine<S: Saga> {
    columns: Vec<Column>,
    correlations: Vec<Correlation>,
    by_name: HashMap<&'static str, usize>,
    /// `rules[state.index() * columns.len() + event.index()]`
    rules: Vec<Rule<S>>,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<S: Saga> {
    /// The instance took a step, perhaps without leaving its state; the effects are to be carried out.
    Moved(Effects<S>),
    /// Nothing changed, as the table says.
    Ignored,
    /// The event came too early; nothing changed.
    Deferred(&'static str),
    /// The event is a mistake in this state; nothing changed.
    Rejected(&'static str),
}

/// An event that was read and knows its instance.
pub struct Event {
    column: usize,
    body: Decoded,
    /// The id of the instance that it belongs to.
    pub id: Uuid,
}

impl<S: Saga> Default for Machine<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Saga> Machine<S> {
    /// Builds the table.
    ///
    /// # Panics
    /// When two columns have the same message name: the second would never be heard.
    pub fn new() -> Self {
        let columns: Vec<_> = S::Event::ALL.iter().map(|event| event.column()).collect();
        let mut by_name = HashMap::new();
        for (index, column) in columns.iter().enumerate() {
            let first = by_name.insert(column.name, index);
            assert!(first.is_none(), "saga {} has two columns for the message {}", S::NAME, column.name);
        }
        let pairs = S::State::ALL.iter().flat_map(|&state| S::Event::ALL.iter().map(move |&event| (state, event)));
        Self {
            correlations: S::Event::ALL.iter().map(|&event| S::correlate(event)).collect(),
            rules: pairs.map(|(state, event)| S::table(state, event)).collect(),
            columns,
            by_name,
        }
    }

    /// Takes one step. Pure: the same instance, event and context give the same instance and effects. The instance
    /// is changed only when the step moved.
    ///
    /// # Panics
    /// When the handler does, or when it decides for a state that its rule does not declare; the instance may then
    /// be half changed and is not to be used.
    pub fn step<E: Message>(&self, instance: &mut Instance<S>, event: &E, ctx: &Ctx<'_>) -> Step<S>
    where
        S::Event: Accepts<E>,
    {
        self.apply(instance, <S::Event as Accepts<E>>::INDEX, event, ctx)
    }

    /// Takes one step with an event that [`Machine::read`] read. As [`Machine::step`].
    ///
    /// # Panics
    /// As [`Machine::step`].
    pub fn step_event(&self, instance: &mut Instance<S>, event: &Event, ctx: &Ctx<'_>) -> Step<S> {
        self.apply(instance, event.column, &*event.body, ctx)
    }

    /// Reads an envelope's body by its type, and finds the instance that it belongs to.
    ///
    /// # Errors
    /// [`FailureKind::Undecodable`] when no column has the message's type, the body is not of that type, or no
    /// instance can be told from it; [`FailureKind::Panic`] when reading the body or finding the instance panics.
    pub fn read(&self, envelope: &Envelope) -> Result<Event, Failure> {
        let undecodable = |text: String| Failure::new(FailureKind::Undecodable, text);
        let known = envelope.message_type.iter().find_map(|name| self.by_name.get(&**name));
        let Some(&column) = known else {
            if let Some(reason) = envelope.undecodable_reason() {
                return Err(undecodable(reason));
            }
            let known: Vec<_> = self.columns.iter().map(|column| column.name).collect();
            let (saga, name) = (S::NAME, envelope.name());
            return Err(undecodable(format!("saga {saga} has no column for {name}; it hears {}", known.join(", "))));
        };
        let name = self.columns[column].name;
        // `Deserialize` and the correlation are the saga's own code: what panics there spoils this message alone.
        let (body, id) = catch_unwind(AssertUnwindSafe(|| {
            let body = (self.columns[column].decode)(envelope.message.as_str())
                .map_err(|error| undecodable(format!("the body is no {name}: {error}")))?;
            let id = self.correlations[column].id(&*body, envelope);
            Ok((body, id))
        }))
        .unwrap_or_else(|panic| Err(Failure::panicked(&*panic)))?;
        let id = id.ok_or_else(|| {
            undecodable(format!("{name} finds its instance by the envelope, which has no correlation id"))
        })?;
        Ok(Event { column, body, id })
    }

    /// The columns of the table, in the order of declaration.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(crate) fn rule(&self, state: S::State, column: usize) -> &Kind<S> {
        &self.rules[state.index() * self.columns.len() + column].0
    }

    fn apply(&self, instance: &mut Instance<S>, column: usize, event: &dyn Any, ctx: &Ctx<'_>) -> Step<S> {
        match self.rule(instance.state, column) {
            Kind::Ignore => Step::Ignored,
            Kind::Defer(why) => Step::Deferred(why),
            Kind::Reject(why) => Step::Rejected(why),
            Kind::Go { targets, handler, apply, .. } => {
                let (target, effects) = apply(&mut instance.data, event, ctx);
                if let Some(target) = target {
                    let declared = targets.contains(&target);
                    assert!(declared, "`{handler}` decided for {target:?}; its row declares {targets:?}");
                    instance.state = target;
                }
                instance.version += 1;
                Step::Moved(effects)
            }
        }
    }
}
