//! A bus that does only what the test does: deliveries, confirms.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use saga_core::{Bus, BusError, Confirm, Delivery, Endpoint, Envelope, OutboxId, OutboxRow, Receipt};
use tokio::sync::mpsc;

#[derive(Default)]
pub struct ByHand {
    endpoints: Mutex<Vec<(String, mpsc::UnboundedSender<Delivery>)>>,
    confirms: Mutex<Option<mpsc::UnboundedSender<Confirm>>>,
    pub sent: Mutex<Vec<OutboxId>>,
    pub acknowledged: Mutex<Vec<Receipt>>,
}

impl ByHand {
    /// Delivers a message; `false`: there is no such endpoint yet.
    pub fn deliver(&self, endpoint: &str, envelope: &Arc<Envelope>, receipt: Receipt) -> bool {
        let endpoints = self.endpoints.lock().unwrap();
        let Some((_, sender)) = endpoints.iter().find(|(name, _)| name == endpoint) else { return false };
        sender.send(Delivery { envelope: envelope.clone(), receipt, redelivered: 0 }).is_ok()
    }

    pub fn confirm(&self, confirm: Confirm) {
        self.confirms.lock().unwrap().as_ref().unwrap().send(confirm).unwrap();
    }
}

#[async_trait]
impl Bus for ByHand {
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
        *self.confirms.lock().unwrap() = Some(confirms);
        let mut receivers = Vec::new();
        for endpoint in endpoints {
            let (sender, receiver) = mpsc::unbounded_channel();
            self.endpoints.lock().unwrap().push((endpoint.name.to_string(), sender));
            receivers.push(receiver);
        }
        Ok(receivers)
    }

    async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) {
        self.sent.lock().unwrap().extend(rows.into_iter().map(|(id, _)| id));
    }

    fn acknowledge(&self, receipts: &[Receipt]) {
        self.acknowledged.lock().unwrap().extend(receipts);
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Lets everything else run until it holds; a limit for a broken build, not a pace.
pub async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never held");
}
