//! A service that is written with rust-rabbit, and knows nothing of saga-core: sends one message, or reads one.

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rust_rabbit::{Connection, Consumer, MassTransitOptions, PublishOptions, Publisher};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

/// How long a message is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an acknowledgement may take to leave after the library was told that the message is handled.
const LEAVE: Duration = Duration::from_millis(300);

const USAGE: &str = "usage:
  rust-rabbit-peer send URL HOW TARGET TYPE JSON   HOW: exchange, queue, options, bare or envelope
  rust-rabbit-peer read URL EXCHANGE QUEUE WHAT    WHAT: completed or fault";

/// What somebody who reads our orders would write down of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCompleted {
    order_id: String,
    user_id: String,
    total: String,
}

/// `Fault<OrderSubmitted>`, as MassTransit's documents describe it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fault {
    fault_id: String,
    faulted_message_id: Option<String>,
    timestamp: String,
    exceptions: Vec<Exception>,
    host: Value,
    fault_message_types: Vec<String>,
    message: Value,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exception {
    exception_type: String,
    inner_exception: Option<Box<Exception>>,
    message: String,
    stack_trace: Option<String>,
    source: Option<String>,
    data: Option<Value>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["send", url, how, target, message_type, json] => send(url, how, target, message_type, json).await,
        ["read", url, exchange, queue, "completed"] => read::<OrderCompleted>(url, exchange, queue).await,
        ["read", url, exchange, queue, "fault"] => read::<Fault>(url, exchange, queue).await,
        _ => bail!(USAGE),
    }
}

async fn send(url: &str, how: &str, target: &str, message_type: &str, json: &str) -> anyhow::Result<()> {
    let message: Value = serde_json::from_str(json)?;
    let publisher = Publisher::new(Connection::new(url).await?);
    match how {
        "exchange" => publisher.publish_masstransit_to_exchange(target, "", &message, message_type, None).await,
        "queue" => publisher.publish_masstransit_to_queue(target, &message, message_type, None).await,
        "options" => {
            let options = MassTransitOptions::new(message_type)
                .with_correlation_id("0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11")
                .with_source_address("rabbitmq://localhost/rust-rabbit-peer");
            let options = PublishOptions::new().with_masstransit_options(options).priority(3);
            publisher.publish_to_queue(target, &message, Some(options)).await
        }
        "bare" => publisher.publish_to_queue(target, &message, None).await,
        "envelope" => publisher.publish_with_envelope_to_queue(target, &message, 3, None).await,
        _ => bail!(USAGE),
    }
    .with_context(|| format!("{target} does not take what is sent by {how}"))
}

/// Prints the first message that comes, as the library hands it over.
async fn read<T>(url: &str, exchange: &str, queue: &str) -> anyhow::Result<()>
where
    T: DeserializeOwned + Serialize + Clone + Send + Sync + 'static,
{
    let consumer = Consumer::builder(Connection::new(url).await?, queue).bind_to_exchange(exchange, "").build();
    let (sender, mut receiver) = mpsc::channel::<T>(1);
    let sender = Arc::new(sender);
    let handler = move |message: T| {
        let sender = sender.clone();
        async move { sender.send(message).await.map_err(|error| Box::new(error) as Box<dyn Error + Send + Sync>) }
    };
    let consuming = tokio::spawn(async move { consumer.consume(handler).await });
    let message = tokio::time::timeout(PATIENCE, receiver.recv()).await;
    let message = message.with_context(|| format!("nothing came from {exchange} within {PATIENCE:?}"))?;
    let Some(message) = message else { bail!("the consumer ended: {:?}", consuming.await) };
    tokio::time::sleep(LEAVE).await;
    println!("{}", serde_json::to_string_pretty(&message)?);
    Ok(())
}
