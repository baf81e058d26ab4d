//! Requests: a message goes out, and whoever sent it waits for the answer, the `Fault`, or the end of its patience.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::bus::{Delivery, Endpoint};
use crate::commit::Name;
use crate::fault::{Fault, is_fault};
use crate::message::{Envelope, Message, derive_id, header};
use crate::runtime::client::Client;
use crate::runtime::core::{BATCH, Core};
use crate::store::StoreError;

/// A message that asks for an answer of type `Res`.
#[derive(Debug, Clone)]
pub struct Request<Res> {
    envelope: Envelope,
    destination: Option<Name>,
    timeout: Duration,
    answer: PhantomData<fn() -> Res>,
}

/// How long a request waits, if nobody says: MassTransit's own.
const TIMEOUT: Duration = Duration::from_secs(30);

impl<Res: Message> Request<Res> {
    /// Asks with `message`, under an id of its own. It is published, unless [`Request::to`] names an endpoint.
    pub fn new<Req: Message>(message_id: Uuid, message: &Req) -> Self {
        let mut envelope = Envelope::new(message_id, message);
        envelope.request_id = Some(derive_id(message_id, "request"));
        let accepts = Value::Array(vec![Value::String(format!("urn:message:{}", Res::NAME))]);
        envelope.headers.insert(header::ACCEPT_TYPE.into(), accepts);
        Self { envelope, destination: None, timeout: TIMEOUT, answer: PhantomData }
    }

    /// Sends it to one endpoint.
    #[must_use]
    pub fn to(mut self, endpoint: impl Into<Name>) -> Self {
        self.destination = Some(endpoint.into());
        self
    }

    /// How long to wait for the answer; thirty seconds if not said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Names the user on whose behalf it is asked.
    #[must_use]
    pub fn for_user(mut self, user: impl Into<String>) -> Self {
        self.envelope = self.envelope.for_user(user);
        self
    }

    /// Names the instance that it is about.
    #[must_use]
    pub fn correlated(mut self, id: Uuid) -> Self {
        self.envelope = self.envelope.correlated(id);
        self
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response<Res> {
    /// What it says.
    pub message: Res,
    /// The whole of it.
    pub envelope: Arc<Envelope>,
}

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Whoever handled it has failed for good.
    #[error("the request failed: {}", .0.reason())]
    Fault(Box<Fault>),
    /// Nobody answered in time. It may still be handled: what it asks for may happen.
    #[error("there was no answer within {0:?}; the request may still be handled")]
    Timeout(Duration),
    /// The answer is not what its type says.
    #[error("the answer can not be read: {0}")]
    Unreadable(String),
    /// The request could not be stored; nothing of it is sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request of this id waits for its answer already.
    #[error("a request of the id {0} waits for its answer already")]
    Twice(Uuid),
    /// The runtime has ended.
    #[error("the runtime is not running")]
    Stopped,
}

/// The requests of this process that wait for their answers, and the endpoint where the answers come in.
pub(crate) struct Replies {
    endpoint: String,
    waiting: Mutex<HashMap<Uuid, Waiting>>,
}

struct Waiting {
    accepts: &'static str,
    answer: oneshot::Sender<Arc<Envelope>>,
}

/// Forgets a request whose caller waits no more.
struct Registered<'a>(&'a Replies, Uuid);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

impl Replies {
    /// Those of the process `host`.
    pub(crate) fn of(host: Uuid) -> Self {
        Self { endpoint: format!("saga-replies-{}", host.simple()), waiting: Mutex::default() }
    }

    pub(crate) fn declare(&self) -> Endpoint {
        Endpoint {
            shard: None,
            name: self.endpoint.clone().into(),
            subscriptions: Vec::new(),
            handles: Vec::new(),
            consumed: true,
            temporary: true,
            prefetch: BATCH,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an answer to whoever waits for it. One that nobody waits for is late, or not what was asked for.
    fn give(&self, envelope: Arc<Envelope>) {
        let name = envelope.name().to_owned();
        let mut waiting = self.waiting();
        let fits = |it: &Waiting| is_fault(&envelope) || envelope.message_type.iter().any(|name| name == it.accepts);
        let known = envelope.request_id.filter(|id| waiting.get(id).is_some_and(fits));
        match known.and_then(|id| waiting.remove(&id)) {
            // The caller may have gone at this moment.
            Some(it) => drop(it.answer.send(envelope)),
            None => tracing::debug!(message_type = name, "an answer that nobody waits for"),
        }
    }
}

/// Takes the answers in, until the runtime stops.
pub(crate) async fn run(core: Arc<Core>, mut deliveries: mpsc::UnboundedReceiver<Delivery>) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            n = deliveries.recv_many(&mut batch, BATCH) => if n == 0 { return },
        }
        let receipts: Vec<_> = batch.iter().map(|it| it.receipt).collect();
        batch.drain(..).for_each(|it| core.replies.give(it.envelope));
        core.bus.acknowledge(&receipts);
    }
}

impl Client {
    /// Asks, and waits for the answer. The request itself is durable: it is sent again after a crash of the broker or of
    /// this process, but only a process that lives gets the answer.
    ///
    /// # Errors
    /// The `Fault` of whoever failed to handle it, the end of the request's patience, an answer of another shape.
    pub async fn request<Res: Message>(&self, request: Request<Res>) -> Result<Response<Res>, RequestError> {
        let Request { mut envelope, destination, timeout, .. } = request;
        let replies = &self.core.replies;
        let id = *envelope.request_id.get_or_insert(envelope.message_id);
        // Whoever answers may declare where it answers to: it must not be kept longer than this process.
        envelope.response_address = Some(format!("queue:{}?temporary=true", replies.endpoint));
        envelope.sent_time = Some(self.core.clock.now());
        let (sender, answer) = oneshot::channel();
        match replies.waiting().entry(id) {
            Entry::Occupied(_) => return Err(RequestError::Twice(id)),
            Entry::Vacant(place) => drop(place.insert(Waiting { accepts: Res::NAME, answer: sender })),
        }
        let _registered = Registered(replies, id);
        match &destination {
            Some(endpoint) => self.send(endpoint, envelope).await?,
            None => self.publish(envelope).await?,
        }
        let answer = tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| RequestError::Stopped)?,
            () = self.core.stopping.cancelled() => return Err(RequestError::Stopped),
            () = self.core.clock.sleep(timeout) => return Err(RequestError::Timeout(timeout)),
        };
        if is_fault(&answer) {
            let fault = answer.message.read_leniently().map_err(|error| RequestError::Unreadable(error.to_string()))?;
            return Err(RequestError::Fault(Box::new(fault)));
        }
        let message = answer.message.read_leniently().map_err(|error| RequestError::Unreadable(error.to_string()))?;
        Ok(Response { message, envelope: answer })
    }
}
