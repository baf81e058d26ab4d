//! The history of an order: its journal.

use std::sync::Arc;

use order_saga::Order;
use poem::{IntoResponse, Request, Response};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi, ResponseContent};
use saga_core::{Flow, JournalEffect, JournalRow, Saga};
use serde_json::Value;
use uuid::Uuid;

use super::caller::User;
use super::params::{BadParams, Format, Id, Param, path_id};
use super::problem::{Kind, Problem, problems};
use super::types::Time;
use super::{Group, State};

/// The operation on histories.
pub(super) struct HistoryApi(pub(super) Arc<State>);

/// The history of an order, oldest first.
#[derive(Debug, Object)]
struct History {
    /// What happened.
    items: Vec<Entry>,
}

/// What one message did.
#[derive(Debug, Object)]
#[oai(rename = "HistoryEntry", rename_all = "camelCase")]
struct Entry {
    /// When.
    at: Time,
    /// The message's id.
    message_id: Uuid,
    /// Its type.
    message_type: String,
    /// Its body.
    message: Any<Value>,
    /// The endpoint that handled it.
    endpoint: String,
    /// Which attempt this was; the first is 1.
    attempt: u32,
    /// What happened to it: `moved`, `ignored`, `deferred`, `retried`, `rejected` or `faulted`.
    outcome: String,
    /// The state before; absent where the saga was not asked.
    #[oai(skip_serializing_if_is_none)]
    from: Option<String>,
    /// The state after; absent where the saga was not asked.
    #[oai(skip_serializing_if_is_none)]
    to: Option<String>,
    /// How many steps the order had taken then; absent where it took none.
    #[oai(skip_serializing_if_is_none)]
    version: Option<u64>,
    /// What the message caused.
    effects: Vec<Caused>,
    /// What was wrong.
    #[oai(skip_serializing_if_is_none)]
    error: Option<String>,
    /// The conversation that the message belongs to.
    conversation_id: Uuid,
    /// What caused the message.
    #[oai(skip_serializing_if_is_none)]
    initiator_id: Option<Uuid>,
    /// The user on whose behalf.
    #[oai(skip_serializing_if_is_none)]
    user: Option<String>,
}

/// One thing that a message caused.
#[derive(Debug, Object)]
#[oai(rename = "Effect", rename_all = "camelCase")]
struct Caused {
    /// `publish`, `send`, `call`, `schedule`, `unschedule` or `write`.
    kind: String,
    /// The type of the message that was produced.
    #[oai(skip_serializing_if_is_none)]
    name: Option<String>,
    /// Its id.
    #[oai(skip_serializing_if_is_none)]
    message_id: Option<Uuid>,
    /// The endpoint that it was sent to.
    #[oai(skip_serializing_if_is_none)]
    endpoint: Option<String>,
    /// When the timer is due.
    #[oai(skip_serializing_if_is_none)]
    due: Option<Time>,
}

/// Lines of JSON.
struct JsonLines(String);

impl Payload for JsonLines {
    const CONTENT_TYPE: &'static str = "application/jsonl";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")))
    }
}

impl IntoResponse for JsonLines {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

/// A history in the form that was asked for.
#[derive(ResponseContent)]
enum Content {
    Json(Json<History>),
    Flow(JsonLines),
}

/// A history.
#[derive(ApiResponse)]
enum Shown {
    /// The history. As `flow`: one line of JSON for the header, one for each step, one for the end, to be replayed.
    #[oai(status = 200)]
    History(Content),
}

problems! {
    /// How a look at a history may fail.
    HistoryProblem {
        400: "A parameter is not valid.",
        401: "A valid bearer token is needed.",
        404: "There is no such order, or it is another user's.",
        500: "The service failed.",
        503: "The store does not answer.",
    }
}

#[OpenApi(prefix_path = "/api/orders", tag = "Group::Orders")]
impl HistoryApi {
    /// Shows the history of an order, oldest first
    ///
    /// What came, from which state to which, what it caused, at which attempt, what was wrong, and when.
    #[oai(path = "/:id/history", method = "get", operation_id = "getHistory")]
    async fn history(
        &self,
        user: User,
        request: &Request,
        /// The order's id.
        id: Path<Param<Id>>,
        /// `flow`: as a recorded flow, to be kept and replayed.
        format: Query<Option<Param<Format>>>,
    ) -> Result<Shown, HistoryProblem> {
        let state = &self.0;
        let mut bad = BadParams::of_query(request, &["format"]);
        let format = bad.take("format", format.0).unwrap_or(Format::Json);
        bad.finish()?;
        let order = state.own_order(&user.0, path_id(id.0)?).await?;
        let unavailable = |error: saga_core::StoreError| Problem::unavailable(&error);
        // The instance first: steps that are written meanwhile are then in the journal, and never missing from it.
        let instance = state.store.instance(Order::NAME, order.id).await.map_err(unavailable)?;
        let mut journal = state.store.journal(Order::NAME, order.id).await.map_err(unavailable)?;
        if format == Format::Json {
            let items = journal.into_iter().map(Entry::from).collect();
            return Ok(Shown::History(Content::Json(Json(History { items }))));
        }
        let instance = instance.ok_or_else(|| Problem::new(Kind::NotFound))?;
        journal.retain(|row| row.version.is_none_or(|version| version <= instance.version));
        let flow = Flow::record(Order::NAME, &instance, journal, state.now());
        let lines = flow.write().map_err(|error| Problem::internal(&error))?;
        Ok(Shown::History(Content::Flow(JsonLines(lines))))
    }
}

impl From<JournalRow> for Entry {
    fn from(row: JournalRow) -> Self {
        Self {
            at: row.at.into(),
            message_id: row.message_id,
            message_type: row.message_type.into_owned(),
            message: Any(row.message.read().unwrap_or_default()),
            endpoint: row.endpoint.into_owned(),
            attempt: row.attempt,
            outcome: row.outcome.name().to_owned(),
            from: row.from.map(|it| it.into_owned()),
            to: row.to.map(|it| it.into_owned()),
            version: row.version,
            effects: row.effects.into_iter().map(Caused::from).collect(),
            error: row.error,
            conversation_id: row.conversation_id,
            initiator_id: row.initiator_id,
            user: row.user,
        }
    }
}

impl From<JournalEffect> for Caused {
    fn from(effect: JournalEffect) -> Self {
        Self {
            kind: effect.kind.into_owned(),
            name: effect.name.map(|it| it.into_owned()),
            message_id: effect.message_id,
            endpoint: effect.endpoint.map(|it| it.into_owned()),
            due: effect.due.map(Time::from),
        }
    }
}
