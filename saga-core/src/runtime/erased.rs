//! Handlers without their types: what an endpoint's loop holds.

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;

use crate::activity::{Activity, Outcome};
use crate::commit::Name;
use crate::effect::Outgoing;
use crate::failure::{Failure, FailureKind};
use crate::handler::{ActivityHandler, Consumer, HandlerContext};
use crate::message::{Envelope, Message};
use crate::saga::Row;

/// What a handler has done, to be committed.
pub(crate) struct Work {
    pub(crate) rows: Vec<Arc<dyn Row>>,
    pub(crate) answer: Option<Outgoing>,
    pub(crate) messages: Vec<(Option<Name>, Outgoing)>,
}

#[async_trait]
pub(crate) trait ErasedHandler: Send + Sync {
    async fn handle(&self, context: &HandlerContext) -> Result<Work, Failure>;

    /// What the caller is told when the last attempt has failed.
    fn answer(&self, envelope: &Envelope, failure: &Failure) -> Option<Outgoing>;
}

pub(crate) struct Performs<A, H>(pub(crate) H, pub(crate) PhantomData<fn() -> A>);
pub(crate) struct Consumes<M, C>(pub(crate) C, pub(crate) PhantomData<fn() -> M>);

fn read<M: Message>(envelope: &Envelope) -> Result<M, Failure> {
    let undecodable =
        |error| Failure::new(FailureKind::Undecodable, format_args!("the body is no {}: {error}", M::NAME));
    envelope.message.read_leniently().map_err(undecodable)
}

#[async_trait]
impl<A: Activity, H: ActivityHandler<A>> ErasedHandler for Performs<A, H> {
    async fn handle(&self, context: &HandlerContext) -> Result<Work, Failure> {
        let command: A = read(&context.envelope)?;
        let outcome = self.0.execute(&command, context).await?;
        Ok(Work { rows: Vec::new(), answer: Some(outcome.into_outgoing()), messages: Vec::new() })
    }

    fn answer(&self, envelope: &Envelope, failure: &Failure) -> Option<Outgoing> {
        read::<A>(envelope).ok().map(|command| Outgoing::of(&command.failed(failure)))
    }
}

#[async_trait]
impl<M: Message, C: Consumer<M>> ErasedHandler for Consumes<M, C> {
    async fn handle(&self, context: &HandlerContext) -> Result<Work, Failure> {
        let event: M = read(&context.envelope)?;
        let output = self.0.consume(&event, context).await?;
        let rows = output.rows.into_iter().map(|row| Arc::new(row) as Arc<dyn Row>).collect();
        Ok(Work { rows, answer: output.answer, messages: output.messages })
    }

    fn answer(&self, _: &Envelope, _: &Failure) -> Option<Outgoing> {
        None
    }
}
