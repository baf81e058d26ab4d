//! What `tests/foreign/run` does at the broker besides letting others talk.

use std::env;
use std::fs;

use anyhow::{Context, bail};
use test_foreign::{Peer, Received, Recording};

const USAGE: &str = "usage:
  test-foreign URL listen QUEUE EXCHANGE         declares both, and binds them
  test-foreign URL record QUEUE FILE SENDER      takes the next message, and writes it down
  test-foreign URL pass-on TOPIC DESTINATION     declares an exchange of type topic that passes on to another";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let [url, command @ ..] = arguments.as_slice() else { bail!(USAGE) };
    let peer = Peer::at(url).await?;
    match command {
        ["listen", queue, exchange] => peer.listen(queue, exchange).await,
        ["record", queue, file, sender] => record(file, sender, peer.take(queue).await?),
        ["pass-on", topic, destination] => peer.pass_on(topic, destination).await,
        _ => bail!(USAGE),
    }
}

fn record(file: &str, sender: &str, received: Received) -> anyhow::Result<()> {
    let recording = Recording {
        sender: sender.to_owned(),
        properties: Recording::properties_of(&received.properties)?,
        exchange: received.exchange,
        routing_key: received.routing_key,
        body: String::from_utf8(received.body).context("the body is no UTF-8")?,
    };
    let json = serde_json::to_string_pretty(&recording)?;
    fs::write(file, json + "\n").with_context(|| file.to_owned())
}
