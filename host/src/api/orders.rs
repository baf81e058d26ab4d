//! Orders and notifications.

use std::pin::pin;
use std::sync::Arc;

use order_saga::{CheckedOrder, NotificationKind, Order, OrderPage, OrderStatus, StoredOrder, submission_id};
use poem::Request;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use saga_core::{Envelope, Point, SubmitError, Submitted};
use uuid::Uuid;

use super::caller::User;
use super::key::{IdempotencyKey, IfUnknown};
use super::order_body::OrderBody;
use super::params::{BadParams, Id, Limit, OrderCursor, Param, path_id};
use super::problem::{FieldError, Kind, Problem, problems};
use super::types::{Money, Time};
use super::{CHANGE_LIMIT, Group, State};

/// The operations on orders.
pub(super) struct OrdersApi(pub(super) Arc<State>);

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Status {
    Pending,
    Processing,
    Completed,
    Expired,
}

/// An item of an order.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct Item {
    /// The product.
    product_id: String,
    /// How many.
    quantity: u32,
    /// The price of one.
    price: Money,
}

/// An order.
#[derive(Debug, Object)]
#[oai(rename = "Order", rename_all = "camelCase")]
struct OrderView {
    /// Its id, a UUIDv7.
    id: Uuid,
    /// Whose it is.
    user_id: String,
    /// Where it stands.
    status: Status,
    /// The sum of its items.
    total: Money,
    /// What is ordered.
    items: Vec<Item>,
    /// When it was submitted.
    created_at: Time,
    /// When its status changed last.
    updated_at: Time,
}

/// A page of orders, newest first.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OrderList {
    /// The orders.
    items: Vec<OrderView>,
    /// The `cursor` of the next page; absent on the last.
    #[oai(skip_serializing_if_is_none)]
    next_cursor: Option<String>,
}

/// What a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Told {
    Completed,
    Expired,
}

/// A notification.
#[derive(Debug, Object)]
#[oai(rename = "Notification", rename_all = "camelCase")]
struct NotificationView {
    /// Its id.
    id: Uuid,
    /// The order.
    order_id: Uuid,
    /// The order's user.
    user_id: String,
    /// What happened.
    kind: Told,
    /// With which result.
    result: String,
    /// The message that it answers.
    message_id: Uuid,
    /// The conversation of that message.
    conversation_id: Uuid,
    /// At which attempt it was made; the first is 1.
    attempts: u32,
    /// When.
    created_at: Time,
}

/// The notifications of an order, oldest first.
#[derive(Debug, Object)]
struct NotificationList {
    /// The notifications.
    items: Vec<NotificationView>,
}

/// What becomes of a submission.
#[derive(ApiResponse)]
enum Submission {
    /// The order was submitted: it is stored, and will be processed whatever happens.
    #[oai(status = 201)]
    Created(
        Json<OrderView>,
        /// Where the order is.
        #[oai(header = "Location")]
        String,
    ),
    /// The order was submitted before, under the same key: this is it, as it stands now.
    #[oai(status = 200)]
    Before(
        Json<OrderView>,
        /// Where the order is.
        #[oai(header = "Location")]
        String,
    ),
}

problems! {
    /// How a submission may fail.
    SubmitProblem {
        400: "The body is not JSON, or the Idempotency-Key is not valid.",
        401: "A valid bearer token is needed.",
        408: "The body did not come within 30 seconds.",
        413: "The body is over 64 KiB.",
        415: "The body is not `application/json`.",
        422: "The order is not valid, or the Idempotency-Key was used with another body.",
        500: "The service failed.",
        503: "`unavailable`: the service can not take the order now; this request stored nothing and may be repeated. \
              `outcome-unknown`: it is not known whether the order is stored. With an Idempotency-Key repeat the request \
              under the same key; without one look for the order in the list first.",
    }
}

problems! {
    /// How a list may fail.
    ListProblem {
        400: "A parameter is not valid.",
        401: "A valid bearer token is needed.",
        500: "The service failed.",
        503: "The store does not answer.",
    }
}

problems! {
    /// How a look at one order may fail.
    OrderProblem {
        400: "A parameter is not valid.",
        401: "A valid bearer token is needed.",
        404: "There is no such order, or it is another user's.",
        500: "The service failed.",
        503: "The store does not answer.",
    }
}

#[OpenApi(prefix_path = "/api/orders", tag = "Group::Orders")]
impl OrdersApi {
    /// Submits an order
    ///
    /// With an `Idempotency-Key` a submission may be repeated: the same key and order give the same order again.
    /// Keys belong to their user.
    #[oai(path = "/", method = "post", operation_id = "submitOrder")]
    async fn submit(
        &self,
        user: User,
        /// 1 to 255 visible ASCII characters.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: OrderBody,
    ) -> Result<Submission, SubmitProblem> {
        let OrderBody(order) = body;
        let Some(key) = key.0 else {
            let id = self.0.ids.next(self.0.now());
            return Ok(self.bring(id, &user.0, order, IfUnknown::LookFirst).await?);
        };
        let message_id = submission_id(&user.0, &key);
        let fingerprint = order.fingerprint().to_owned();
        let stored = self.0.within(CHANGE_LIMIT, self.0.orders.submitted(message_id)).await;
        let stored = stored.ok_or_else(|| Problem::unavailable(&"the store does not answer in time"))?;
        if let Some(stored) = stored.map_err(|error| Problem::unavailable(&error))? {
            return Ok(repeated(stored, &fingerprint)?);
        }
        Ok(self.bring(message_id, &user.0, order, IfUnknown::Repeat).await?)
    }

    /// Lists the own orders, newest first
    #[oai(path = "/", method = "get", operation_id = "listOrders")]
    async fn list(
        &self,
        user: User,
        request: &Request,
        /// Only orders with this status.
        status: Query<Option<Param<OrderStatus>>>,
        /// How many at most.
        limit: Query<Option<Param<Limit>>>,
        /// The `nextCursor` of the page before.
        cursor: Query<Option<Param<OrderCursor>>>,
    ) -> Result<Json<OrderList>, ListProblem> {
        let mut bad = BadParams::of_query(request, &["status", "limit", "cursor"]);
        let status = bad.take("status", status.0);
        let limit = Limit::or_default(bad.take("limit", limit.0));
        let before = bad.take("cursor", cursor.0).map(|OrderCursor(id)| id);
        bad.finish()?;
        // One more than is shown tells whether there is another page.
        let page = OrderPage { user_id: &user.0, status, before, limit: limit + 1 };
        let mut orders = self.0.orders.page(&page).await.map_err(|error| Problem::unavailable(&error))?;
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next_cursor = orders.last().filter(|_| more).map(|order| OrderCursor(order.id).write());
        Ok(Json(OrderList { items: orders.into_iter().map(OrderView::from).collect(), next_cursor }))
    }

    /// Shows an order
    #[oai(path = "/:id", method = "get", operation_id = "getOrder")]
    async fn one(
        &self,
        user: User,
        request: &Request,
        /// The order's id.
        id: Path<Param<Id>>,
    ) -> Result<Json<OrderView>, OrderProblem> {
        BadParams::of_query(request, &[]).finish()?;
        Ok(Json(self.0.own_order(&user.0, path_id(id.0)?).await?.into()))
    }

    /// Lists the notifications of an order, oldest first
    #[oai(path = "/:id/notifications", method = "get", operation_id = "listNotifications")]
    async fn notifications(
        &self,
        user: User,
        request: &Request,
        /// The order's id.
        id: Path<Param<Id>>,
    ) -> Result<Json<NotificationList>, OrderProblem> {
        BadParams::of_query(request, &[]).finish()?;
        let order = self.0.own_order(&user.0, path_id(id.0)?).await?;
        let rows = self.0.orders.notifications(order.id).await.map_err(|error| Problem::unavailable(&error))?;
        Ok(Json(NotificationList { items: rows.into_iter().map(NotificationView::from).collect() }))
    }
}

impl OrdersApi {
    /// Brings an order to the saga, and answers with it as it was stored, or that this is not known in time.
    async fn bring(
        &self,
        message_id: Uuid,
        user: &str,
        order: CheckedOrder,
        if_unknown: IfUnknown,
    ) -> Result<Submission, Problem> {
        let submission = pin!(self.submission(message_id, user, order, if_unknown));
        let answer = self.0.within(CHANGE_LIMIT, submission).await;
        answer.unwrap_or_else(|| Err(if_unknown.problem(&"the submission takes too long")))
    }

    /// Reads the order back only if it was stored before.
    async fn submission(
        &self,
        message_id: Uuid,
        user: &str,
        order: CheckedOrder,
        if_unknown: IfUnknown,
    ) -> Result<Submission, Problem> {
        let state = &self.0;
        let now = state.now();
        let (order_id, fingerprint) = (state.ids.next(now), order.fingerprint().to_owned());
        let message = order.submission(order_id, user);
        let mut envelope = Envelope::new(message_id, &message).for_user(user).correlated(order_id);
        envelope.sent_time = Some(now);
        let submitted = state.client.submit::<Order>(envelope).await.map_err(|error| match error {
            SubmitError::Busy | SubmitError::Stopped => Problem::busy().detail(error.to_string()),
            SubmitError::Refused(_) => Problem::internal(&error),
            error => if_unknown.problem(&error),
        })?;
        state.reached(Point::Submitted).await;
        match submitted {
            Submitted::Handled { at, .. } => Ok(created(StoredOrder::submitted(&message, message_id, at))),
            Submitted::Duplicate => {
                let stored = state.orders.submitted(message_id).await.map_err(|error| if_unknown.problem(&error))?;
                let stored = stored.ok_or_else(|| lost(message_id))?;
                // A commit whose answer was lost is repeated, and then finds itself.
                if stored.id == order_id { Ok(created(stored)) } else { repeated(stored, &fingerprint) }
            }
        }
    }
}

impl State {
    /// The order, if it is the user's own; another's is not there.
    pub(super) async fn own_order(&self, user: &str, id: Uuid) -> Result<StoredOrder, Problem> {
        let order = self.orders.order(id).await.map_err(|error| Problem::unavailable(&error))?;
        order.filter(|order| order.user_id == user).ok_or_else(|| Problem::new(Kind::NotFound))
    }
}

fn created(order: StoredOrder) -> Submission {
    let location = location(order.id);
    Submission::Created(Json(order.into()), location)
}

fn repeated(stored: StoredOrder, fingerprint: &str) -> Result<Submission, Problem> {
    if stored.fingerprint != fingerprint {
        let field = FieldError::new("Idempotency-Key", "was used with another order");
        return Err(Problem::new(Kind::KeyReused).errors(vec![field]));
    }
    let location = location(stored.id);
    Ok(Submission::Before(Json(stored.into()), location))
}

fn lost(message_id: Uuid) -> Problem {
    Problem::internal(&format_args!("the submission {message_id} was handled, and its order is not there"))
}

fn location(id: Uuid) -> String {
    format!("/api/orders/{id}")
}

impl From<OrderStatus> for Status {
    fn from(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Pending => Self::Pending,
            OrderStatus::Processing => Self::Processing,
            OrderStatus::Completed => Self::Completed,
            OrderStatus::Expired => Self::Expired,
        }
    }
}

impl From<StoredOrder> for OrderView {
    fn from(order: StoredOrder) -> Self {
        let item = |it: order_saga::OrderItem| Item {
            product_id: it.product_id,
            quantity: it.quantity,
            price: it.price.into(),
        };
        Self {
            id: order.id,
            user_id: order.user_id,
            status: order.status.into(),
            total: order.total.into(),
            items: order.items.into_iter().map(item).collect(),
            created_at: order.created_at.into(),
            updated_at: order.updated_at.into(),
        }
    }
}

impl From<order_saga::Notification> for NotificationView {
    fn from(row: order_saga::Notification) -> Self {
        Self {
            id: row.id,
            order_id: row.order_id,
            user_id: row.user_id,
            kind: match row.kind {
                NotificationKind::Completed => Told::Completed,
                NotificationKind::Expired => Told::Expired,
            },
            result: row.result,
            message_id: row.message_id,
            conversation_id: row.conversation_id,
            attempts: row.attempts,
            created_at: row.created_at.into(),
        }
    }
}
