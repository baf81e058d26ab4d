//! The embedded bus passes the suite of every bus.

use std::sync::Arc;

use async_trait::async_trait;
use saga_core::testkit::conformance::bus::BusFactory;
use saga_core::{Bus, BusError, EmbeddedBus};

struct Embedded;

#[async_trait]
impl BusFactory for Embedded {
    async fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(EmbeddedBus::new())
    }
}

saga_core::bus_conformance!(Embedded);

#[tokio::test]
async fn a_bus_is_started_once() {
    let bus = EmbeddedBus::new();
    assert!(bus.health().is_err(), "it is not started");
    let (confirm, confirms) = tokio::sync::mpsc::unbounded_channel();
    assert!(bus.start(&[], confirm.clone()).await.is_ok());
    assert!(matches!(bus.start(&[], confirm).await, Err(BusError::Topology(_))));
    assert_eq!(bus.health(), Ok(()));
    drop(confirms);
    assert!(bus.health().is_err(), "its runtime is gone");
}
