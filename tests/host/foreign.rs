//! Services that nobody here wrote, at the broker of the host: they order, and hear what became of it.

mod masked;
mod orders;
mod read;
mod wrong;

use std::time::Duration;

use amqprs::BasicProperties;
use host::config::{Config, StoreUrl};
use order_saga::Decision;
use saga_core::Failure;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_foreign::Peer;
use test_servers::{Postgres, Rabbit};
use uuid::{Uuid, uuid};

use crate::support::{Host, PATIENCE, quick};

/// The order of the recordings.
const ORDER: Uuid = uuid!("0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11");
/// The exchange to which orders are published.
const SUBMITTED: &str = "Orders:OrderSubmitted";
/// How often it is looked whether the broker is ready, of which nothing tells.
const LOOK: Duration = Duration::from_millis(5);

/// The host, and a foreign service at its broker.
struct Market {
    host: Host,
    peer: Peer,
    url: String,
    /// Where a file is kept.
    _folder: TempDir,
}

impl Market {
    /// On SQLite and RabbitMQ.
    async fn open(charges: impl IntoIterator<Item = Result<Decision, Failure>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreUrl::Sqlite(folder.path().join("orders.db"));
        Self::on(store, folder, charges).await
    }

    /// On PostgreSQL and RabbitMQ.
    async fn on_postgres(charges: impl IntoIterator<Item = Result<Decision, Failure>>) -> Self {
        let store = Postgres::shared().database().parse().unwrap();
        Self::on(store, tempfile::tempdir().unwrap(), charges).await
    }

    async fn on(
        store: StoreUrl,
        folder: TempDir,
        charges: impl IntoIterator<Item = Result<Decision, Failure>>,
    ) -> Self {
        let url = Rabbit::shared().vhost();
        let config = Config { store, bus: url.parse().unwrap(), ..quick() };
        let host = Host::start(&config, charges).await;
        let ready = async {
            while host.service.client.bus_health().is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.unwrap();
        Self { host, peer: Peer::at(&url).await.unwrap(), url, _folder: folder }
    }

    /// Publishes an order as MassTransit does.
    async fn submit(&self, envelope: &Value) {
        let mut properties = BasicProperties::default();
        properties.with_content_type("application/vnd.masstransit+json").with_delivery_mode(2);
        let body = envelope.to_string();
        self.peer.publish(SUBMITTED, "", properties.finish(), body.as_bytes()).await.unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        self.host.rest.get(path).await.unwrap().json().unwrap()
    }

    /// The history of an order: what came, and what it came to.
    async fn history(&self, id: Uuid) -> Vec<(String, String)> {
        let history = self.get(&format!("/api/orders/{id}/history")).await;
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let lines = history["items"].as_array().into_iter().flatten();
        lines.map(|it| (text(&it["messageType"]).replace("Orders:", ""), text(&it["outcome"]))).collect()
    }

    /// Waits until so much has happened to an order, and answers with its history.
    async fn until_history(&self, id: Uuid, lines: usize) -> Vec<(String, String)> {
        self.host
            .until(|| async move {
                let history = self.history(id).await;
                (history.len() >= lines).then_some(history)
            })
            .await
    }

    /// The address of an exchange at this broker, as MassTransit writes it.
    fn address(&self, name: &str) -> String {
        format!("rabbitmq://{}/{name}", self.url.split_once('@').unwrap().1)
    }
}

/// An order as a foreign service publishes it.
fn envelope(message_id: u128, message: Value) -> Value {
    json!({
        "messageId": Uuid::from_u128(message_id),
        "conversationId": Uuid::from_u128(message_id << 64),
        "sourceAddress": "rabbitmq://elsewhere/web1_bus?temporary=true",
        "messageType": ["urn:message:Orders:OrderSubmitted", "urn:message:Shop.Contracts:IOrder"],
        "message": message,
        "sentTime": "2026-03-01T09:15:00.1234567Z",
        "headers": { "tenant": "eu-1" },
    })
}

/// Two cans of tea for 49.90 each.
fn tea(order: Uuid) -> Value {
    let items = json!([{ "productId": "tea", "quantity": 2, "price": "49.90" }]);
    json!({ "orderId": order, "userId": "local", "items": items, "total": "99.80" })
}
