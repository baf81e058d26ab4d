//! The suite of every bus, on both kinds of queues.

use std::sync::Arc;

use async_trait::async_trait;
use saga_core::testkit::conformance::bus::BusFactory;
use saga_core::{Bus, QueueType, RabbitMqBus};
use test_servers::Rabbit;

struct On(QueueType);

/// Past the broker where it can be.
struct Local;

#[async_trait]
impl BusFactory for On {
    async fn bus(&self) -> Arc<dyn Bus> {
        let url = Rabbit::shared().vhost();
        Arc::new(RabbitMqBus::builder(url).queue_type(self.0).build().unwrap())
    }
}

#[async_trait]
impl BusFactory for Local {
    async fn bus(&self) -> Arc<dyn Bus> {
        let url = Rabbit::shared().vhost();
        Arc::new(RabbitMqBus::builder(url).local(true).build().unwrap())
    }
}

mod local {
    use super::*;
    saga_core::bus_conformance!(Local);
}

mod quorum {
    use super::*;
    saga_core::bus_conformance!(On(QueueType::Quorum));
}

mod classic {
    use super::*;
    saga_core::bus_conformance!(On(QueueType::Classic));
}
