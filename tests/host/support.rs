//! A service in this process, on memory, that can be waited for; and the real binary.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use host::config::{AuthMode, Config, StoreUrl};
use host::rest::{Answer, Rest};
use host::serve::{Parts, Service};
use order_saga::{Decision, PaymentGateway, ScriptedGateway};
use saga_core::{Failure, Point, Probe};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Nothing here takes longer, or it never happens.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const SECRET: &str = "a secret of the tests, 32 bytes and more";

/// A service, a client of it, and what tells that something moved.
pub struct Host {
    pub service: Service,
    pub rest: Rest,
    pub gateway: Arc<ScriptedGateway>,
    moves: watch::Receiver<u64>,
}

/// Counts everything that the runtime reaches.
struct Moves(watch::Sender<u64>);

#[async_trait]
impl Probe for Moves {
    async fn reached(&self, _: Point) {
        self.0.send_modify(|count| *count += 1);
    }
}

pub fn approved() -> Result<Decision, Failure> {
    Ok(Decision::Approved { reference: "charge-1".to_owned() })
}

pub fn declined() -> Result<Decision, Failure> {
    Ok(Decision::Declined { reason: "no money".to_owned() })
}

pub fn broken() -> Result<Decision, Failure> {
    Err(Failure::permanent("the gateway is on fire"))
}

/// Memory, any port, no delays.
pub fn quick() -> Config {
    let mut config = Config { store: StoreUrl::Memory, ..Config::default() };
    config.http.listen.set_port(0);
    config.payment.delay = Duration::ZERO;
    config.retry.initial = Duration::from_millis(1);
    config.retry.max = Duration::from_millis(1);
    config
}

/// As [`quick`], with tokens.
pub fn guarded() -> Config {
    let mut config = quick();
    config.auth.mode = AuthMode::Jwt;
    config.auth.secret = Some(SECRET.into());
    config
}

impl Host {
    pub async fn start(config: &Config, charges: impl IntoIterator<Item = Result<Decision, Failure>>) -> Self {
        Self::with(config, ScriptedGateway::new(charges), Parts::default()).await
    }

    pub async fn with(config: &Config, gateway: ScriptedGateway, parts: Parts) -> Self {
        let gateway = Arc::new(gateway);
        let (sender, moves) = watch::channel(0);
        let shared: Arc<dyn PaymentGateway> = gateway.clone();
        let parts = Parts { gateway: Some(shared), probe: Some(Arc::new(Moves(sender))), ..parts };
        let service = Service::start(config, parts).await.unwrap();
        Self { rest: Rest::new(service.address), service, gateway, moves }
    }

    /// Submits a small order, and answers with it.
    pub async fn order(&self) -> Value {
        let answer = self.rest.post("/api/orders", &small().to_string(), &[]).await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json().unwrap()
    }

    /// Asks again, whenever something moved, until the answer is the one that is waited for.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, mut ask: impl FnMut() -> F) -> T {
        let mut moves = self.moves.clone();
        let wait = async {
            loop {
                moves.mark_unchanged();
                if let Some(found) = ask().await {
                    return found;
                }
                moves.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("what is waited for never happened")
    }

    /// Waits until an order has a status and its notification.
    pub async fn until_notified(&self, id: &Value, status: &str) {
        let path = format!("/api/orders/{}", id.as_str().unwrap());
        let (path, rest) = (&path, &self.rest);
        self.until(|| async move {
            let order: Value = rest.get(path).await.unwrap().json().unwrap();
            let list: Value = rest.get(&format!("{path}/notifications")).await.unwrap().json().unwrap();
            let told = list["items"].as_array().into_iter().flatten().any(|it| it["kind"] == status);
            (order["status"] == status && told).then_some(())
        })
        .await;
    }

    /// Waits until there is a dead letter, and answers with the newest.
    pub async fn until_dead_letter(&self) -> Value {
        let rest = &self.rest;
        self.until(|| async move {
            let list: Value = rest.get("/api/dead-letters").await.unwrap().json().unwrap();
            list["items"].as_array().unwrap().first().cloned()
        })
        .await
    }

    /// Stops the service, and waits until it has ended.
    pub fn stopped(self) -> impl Future<Output = anyhow::Result<()>> {
        self.service.stop();
        self.service.ended()
    }
}

pub fn small() -> Value {
    json!({ "items": [{ "productId": "tea", "quantity": 2, "price": "49.90" }] })
}

/// The answer is a problem of that status and `type`, and nothing internal is in it.
#[track_caller]
pub fn assert_problem(answer: &Answer, status: u16, kind: &str) -> Value {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{text}");
    let body: Value = answer.json().unwrap();
    assert_eq!(body["status"], status, "{text}");
    assert_eq!(body["type"], format!("urn:saga-host:problem:{kind}"), "{text}");
    assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{text}");
    body
}

/// The fields that a problem names.
pub fn fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().into_iter().flatten().map(|error| error["field"].as_str().unwrap()).collect()
}

/// The real program, with nothing in its environment but what is said.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saga-host"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// The real program, serving.
pub struct Served {
    child: Child,
    lines: Lines,
    log: Vec<String>,
    pub address: std::net::SocketAddr,
    pub rest: Rest,
}

type Lines = std::io::Lines<BufReader<ChildStderr>>;

impl Served {
    /// Starts it on any port, and waits until it says that it is ready.
    pub fn start(command: &mut Command) -> Self {
        Self::try_start(command).unwrap_or_else(|status| panic!("the program ended before it was ready: {status}"))
    }

    /// As [`Served::start`]; an error if it ended before it was ready.
    pub fn try_start(command: &mut Command) -> Result<Self, ExitStatus> {
        command.env("SAGA__HTTP__LISTEN", "127.0.0.1:0").env("SAGA__LOG__FORMAT", "json");
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        let Some(ready) = next_line(&mut lines, &mut log, "ready on ") else { return Err(child.wait().unwrap()) };
        let address = ready["address"].as_str().unwrap().parse().unwrap();
        Ok(Self { child, lines, log, address, rest: Rest::new(address) })
    }

    /// Reads its log up to a line whose message begins so.
    pub fn line(&mut self, begins: &str) -> Value {
        let line = next_line(&mut self.lines, &mut self.log, begins);
        line.unwrap_or_else(|| panic!("the program ended without saying {begins:?}"))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count() as u64
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Everything that it logs, from its start to its end.
    pub fn whole_log(mut self) -> String {
        self.log.extend(self.lines.by_ref().map(Result::unwrap));
        assert!(self.child.wait().unwrap().success());
        self.log.join("\n")
    }

    /// Waits until it has ended, and answers with its exit code.
    pub fn exit_code(self) -> Option<i32> {
        self.ended().code()
    }

    /// Waits until it has ended.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// A test that fails leaves no program behind.
impl Drop for Served {
    fn drop(&mut self) {
        // One that has ended can not be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_line(lines: &mut Lines, log: &mut Vec<String>, begins: &str) -> Option<Value> {
    for line in lines {
        let line = line.unwrap();
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no line of the log: {line}"));
        log.push(line);
        if value["message"].as_str().is_some_and(|message| message.starts_with(begins)) {
            return Some(value);
        }
    }
    None
}
