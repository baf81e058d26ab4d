//! Requests to the REST interface, through the real handlers, on a service in memory.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use host::api::{self, Ids, Migrations, State};
use host::auth::Auth;
use host::config::Config;
use order_saga::{LogMailer, MemoryOrders, Notification, OrderProcess, OrderRow, ScriptedGateway};
use poem::endpoint::BoxEndpoint;
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, EndpointExt, Request, Response};
use saga_core::{EmbeddedBus, MemoryStore, StoreError, SystemClock};
use serde_json::Value;
use tokio::task::JoinHandle;

/// Stands between path and body.
const BETWEEN: u8 = b'\n';
/// How many requests one service answers before there is a new one: what it has stored stays in memory.
const REQUESTS: u32 = 20_000;
/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(20);
/// No answer to a request that is refused is longer: it may repeat a little of what came, and no more.
const MAX_PROBLEM: usize = 64 * 1024;

/// The ways in: the first byte chooses one.
const OPERATIONS: [(Method, &str); 8] = [
    (Method::POST, "/api/orders"),
    (Method::GET, "/api/orders"),
    (Method::GET, "/api/orders/"),
    (Method::GET, "/api/dead-letters"),
    (Method::POST, "/api/dead-letters/"),
    (Method::GET, "/health/"),
    (Method::PUT, "/"),
    (Method::GET, "/"),
];

struct Service {
    runtime: tokio::runtime::Runtime,
    endpoint: BoxEndpoint<'static, Response>,
    flow: JoinHandle<()>,
    left: u32,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.flow.abort();
    }
}

struct Migrated;

#[async_trait]
impl Migrations for Migrated {
    async fn pending(&self) -> Result<usize, StoreError> {
        Ok(0)
    }
}

thread_local! {
    static SERVICE: RefCell<Option<Service>> = const { RefCell::new(None) };
}

impl Service {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let orders = MemoryOrders::default();
        let store = MemoryStore::builder();
        let store = store.writer::<OrderRow, _>(orders.clone()).writer::<Notification, _>(orders.clone()).build();
        let mut process = OrderProcess::new(Arc::new(ScriptedGateway::new([])), Arc::new(LogMailer));
        process.payment_delay = Duration::ZERO;
        let flow = saga_core::Runtime::builder(Arc::new(store.clone()), Arc::new(EmbeddedBus::new()));
        let flow = process.register(flow).build().unwrap();
        let state = State {
            orders: Arc::new(orders),
            store: Arc::new(store),
            client: flow.client(),
            auth: Auth::new(&Config::default().auth),
            clock: Arc::new(SystemClock),
            ids: Ids::default(),
            metrics: host::telemetry::metrics().unwrap(),
            migrations: Arc::new(Migrated),
            takes_orders: true,
            probe: None,
        };
        let flow = runtime.spawn(async move { flow.run(std::future::pending()).await.unwrap() });
        Self { endpoint: api::endpoint(Arc::new(state)).boxed(), runtime, flow, left: REQUESTS }
    }

    fn ask(&mut self, request: Request) -> (StatusCode, String, Vec<u8>) {
        self.left -= 1;
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(LIMIT, self.endpoint.get_response(request)).await;
            let answer = answer.expect("an answer comes in time");
            let (head, body) = answer.into_parts();
            let kind = head.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
            (head.status, kind.to_owned(), body.into_vec().await.unwrap())
        })
    }
}

/// A request: the first byte says which operation and with which headers, then comes what is added to the path, up to a line
/// feed, then the body. Never 5xx; what is refused is a problem; what is accepted is the same order under the same key.
pub fn rest(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == BETWEEN).unwrap_or(rest.len());
    let (path, body) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
    let (method, begins) = &OPERATIONS[usize::from(how & 7)];
    let Ok(uri) = format!("{begins}{}", String::from_utf8_lossy(path)).parse::<poem::http::Uri>() else { return };
    let request = || {
        let request = Request::builder().method(method.clone()).uri(uri.clone());
        let request = request.content_type(if how & 8 == 0 { "application/json" } else { "text/plain" });
        let keyed = how & 16 != 0;
        let request = if keyed { request.header("Idempotency-Key", "a-key") } else { request };
        request.body(body.to_vec())
    };
    SERVICE.with_borrow_mut(|service| {
        if service.as_ref().is_some_and(|it| it.left < 2) {
            *service = None;
        }
        let service = service.get_or_insert_with(Service::start);
        let (status, kind, answer) = service.ask(request());
        assert!(!status.is_server_error(), "{status}: {}", String::from_utf8_lossy(&answer));
        if status.is_client_error() {
            assert_eq!(kind, "application/problem+json", "{status} {}", String::from_utf8_lossy(&answer));
            assert!(answer.len() <= MAX_PROBLEM, "a problem of {} bytes", answer.len());
            let problem: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(problem["status"], status.as_u16());
        }
        if status == StatusCode::CREATED && how & 16 != 0 {
            let (again, _, other) = service.ask(request());
            let id = |answer: &[u8]| serde_json::from_slice::<Value>(answer).unwrap()["id"].clone();
            assert_eq!((again, id(&other)), (StatusCode::OK, id(&answer)), "the same key is the same order");
        }
    });
}
