//! Dead letters: to be looked at, and to be delivered again.

use std::sync::Arc;

use poem::Request;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi};
use saga_core::{DeadLetterPage, DeadLetterRow, RedriveError};
use serde_json::Value;
use uuid::Uuid;

use super::caller::Operator;
use super::params::{BadParams, DeadLetterCursor, Id, Limit, Param, path_id};
use super::problem::{Kind, Problem, problems};
use super::types::Time;
use super::{CHANGE_LIMIT, Group, State};

/// The operations on dead letters.
pub(super) struct DeadLettersApi(pub(super) Arc<State>);

/// A message that nobody could handle.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct DeadLetter {
    /// The dead letter's id.
    id: Uuid,
    /// The endpoint that could not handle the message.
    endpoint: String,
    /// The saga on whose behalf it was sent, or that could not handle it.
    #[oai(skip_serializing_if_is_none)]
    saga: Option<String>,
    /// What kind of failure it was.
    reason: String,
    /// What was wrong.
    error: String,
    /// How many attempts were made.
    attempts: u32,
    /// The message's id.
    message_id: Uuid,
    /// Its type.
    message_type: String,
    /// The order that it belongs to.
    #[oai(skip_serializing_if_is_none)]
    correlation_id: Option<Uuid>,
    /// The conversation that it belongs to.
    conversation_id: Uuid,
    /// When it was given up.
    at: Time,
    /// When it was redriven.
    #[oai(skip_serializing_if_is_none)]
    redriven_at: Option<Time>,
    /// The message with everything that travelled with it; shown of a single dead letter only.
    #[oai(skip_serializing_if_is_none)]
    envelope: Option<Any<Value>>,
}

/// A page of dead letters that were not redriven, newest first.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct DeadLetterList {
    /// The dead letters.
    items: Vec<DeadLetter>,
    /// The `cursor` of the next page; absent on the last.
    #[oai(skip_serializing_if_is_none)]
    next_cursor: Option<String>,
}

/// A dead letter is on its way again.
#[derive(ApiResponse)]
enum Redriven {
    /// The message is stored and will be delivered once more, its attempts counted from 1.
    #[oai(status = 202)]
    Accepted(Json<DeadLetter>),
}

problems! {
    /// How a list may fail.
    ListProblem {
        400: "A parameter is not valid.",
        401: "A valid bearer token is needed.",
        403: "The token lacks the scope `ops`.",
        500: "The service failed.",
        503: "The store does not answer.",
    }
}

problems! {
    /// How a look at one may fail.
    OneProblem {
        400: "A parameter is not valid.",
        401: "A valid bearer token is needed.",
        403: "The token lacks the scope `ops`.",
        404: "There is no such dead letter.",
        500: "The service failed.",
        503: "The store does not answer.",
    }
}

problems! {
    /// How a redrive may fail.
    RedriveProblem {
        400: "A parameter is not valid.",
        401: "A valid bearer token is needed.",
        403: "The token lacks the scope `ops`.",
        404: "There is no such dead letter.",
        409: "The dead letter was redriven before.",
        500: "The service failed.",
        503: "`outcome-unknown`: it is not known whether the message is delivered once more. Repeat the request: a dead \
              letter is redriven once.",
    }
}

#[OpenApi(prefix_path = "/api/dead-letters", tag = "Group::DeadLetters")]
impl DeadLettersApi {
    /// Lists dead letters that were not redriven, newest first
    #[oai(path = "/", method = "get", operation_id = "listDeadLetters")]
    async fn list(
        &self,
        _operator: Operator,
        request: &Request,
        /// How many at most.
        limit: Query<Option<Param<Limit>>>,
        /// The `nextCursor` of the page before.
        cursor: Query<Option<Param<DeadLetterCursor>>>,
    ) -> Result<Json<DeadLetterList>, ListProblem> {
        let mut bad = BadParams::of_query(request, &["limit", "cursor"]);
        let limit = Limit::or_default(bad.take("limit", limit.0));
        let before = bad.take("cursor", cursor.0).map(|DeadLetterCursor(at, id)| (at, id));
        bad.finish()?;
        // One more than is shown tells whether there is another page.
        let page = DeadLetterPage { before, limit: limit + 1 };
        let mut rows = self.0.store.dead_letters(&page).await.map_err(|error| Problem::unavailable(&error))?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| DeadLetterCursor(row.at, row.id).write());
        Ok(Json(DeadLetterList { items: rows.into_iter().map(DeadLetter::from).collect(), next_cursor }))
    }

    /// Shows a dead letter, with the message and everything that travelled with it
    #[oai(path = "/:id", method = "get", operation_id = "getDeadLetter")]
    async fn one(
        &self,
        _operator: Operator,
        request: &Request,
        /// The dead letter's id.
        id: Path<Param<Id>>,
    ) -> Result<Json<DeadLetter>, OneProblem> {
        BadParams::of_query(request, &[]).finish()?;
        let row = self.0.store.dead_letter(path_id(id.0)?).await.map_err(|error| Problem::unavailable(&error))?;
        Ok(Json(show(row)?))
    }

    /// Delivers the message once more
    ///
    /// For when what was wrong is mended. Its attempts are counted from 1 again.
    #[oai(path = "/:id/redrive", method = "post", operation_id = "redriveDeadLetter")]
    async fn redrive(
        &self,
        _operator: Operator,
        request: &Request,
        /// The dead letter's id.
        id: Path<Param<Id>>,
    ) -> Result<Redriven, RedriveProblem> {
        BadParams::of_query(request, &[]).finish()?;
        let redriven = self.0.within(CHANGE_LIMIT, self.redriven(path_id(id.0)?)).await;
        let redriven = redriven.unwrap_or_else(|| Err(unknown(&"the redrive takes too long")));
        Ok(Redriven::Accepted(Json(redriven?)))
    }
}

impl DeadLettersApi {
    async fn redriven(&self, id: Uuid) -> Result<DeadLetter, Problem> {
        self.0.client.redrive(id).await.map_err(|error| match error {
            RedriveError::Unknown(_) => Problem::new(Kind::NotFound),
            RedriveError::Already(_) => Problem::new(Kind::AlreadyRedriven),
            error => unknown(&error),
        })?;
        show(self.0.store.dead_letter(id).await.map_err(|error| unknown(&error))?)
    }
}

fn unknown(why: &dyn std::fmt::Display) -> Problem {
    let advice = "it is not known whether the message is delivered once more; repeat the request, because a dead letter \
                  is redriven once";
    Problem::outcome_unknown(why, advice).repeatable()
}

fn show(row: Option<DeadLetterRow>) -> Result<DeadLetter, Problem> {
    let row = row.ok_or_else(|| Problem::new(Kind::NotFound))?;
    let envelope = serde_json::to_value(&*row.envelope).map_err(|error| Problem::internal(&error))?;
    Ok(DeadLetter { envelope: Some(Any(envelope)), ..row.into() })
}

impl From<DeadLetterRow> for DeadLetter {
    fn from(row: DeadLetterRow) -> Self {
        Self {
            id: row.id,
            endpoint: row.endpoint.into_owned(),
            saga: row.saga.map(|it| it.into_owned()),
            reason: row.reason.into_owned(),
            error: row.error,
            attempts: row.attempts,
            message_id: row.envelope.message_id,
            message_type: row.envelope.name().to_owned(),
            correlation_id: row.envelope.correlation_id,
            conversation_id: row.envelope.conversation(),
            at: row.at.into(),
            redriven_at: row.redriven_at.map(Time::from),
            envelope: None,
        }
    }
}
