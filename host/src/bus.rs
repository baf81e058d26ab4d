//! The bus that the configuration names.

use std::sync::Arc;

use anyhow::Context;
use saga_core::wire::HostInfo;
use saga_core::{Bus, EmbeddedBus, QueueType, RabbitMqBus};

use crate::config::{BusUrl, Config, QueueKind};

/// A bus, and what is to be closed at the end.
pub(crate) struct Opened {
    pub(crate) bus: Arc<dyn Bus>,
    rabbitmq: Option<Arc<RabbitMqBus>>,
}

impl Opened {
    /// Tells the broker what was acknowledged, and leaves it.
    pub(crate) async fn close(self) {
        if let Some(rabbitmq) = self.rabbitmq {
            rabbitmq.close().await;
        }
    }
}

/// Makes the bus; a broker that is away is waited for, by the bus itself.
///
/// # Errors
/// When the URL, or the file of authorities, is not what it should be.
pub(crate) fn open(config: &Config) -> anyhow::Result<Opened> {
    let url = match &config.bus {
        BusUrl::Embedded => return Ok(Opened { bus: Arc::new(EmbeddedBus::new()), rabbitmq: None }),
        BusUrl::RabbitMq(url) => url,
    };
    let queues = match config.rabbitmq.queues {
        QueueKind::Quorum => QueueType::Quorum,
        QueueKind::Classic => QueueType::Classic,
    };
    let mut builder = RabbitMqBus::builder(url.expose())
        .queue_type(queues)
        .heartbeat(config.rabbitmq.heartbeat)
        .local(config.rabbitmq.local)
        .connection_name("saga-host")
        .host(HostInfo::of_this_process("saga-host", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &config.rabbitmq.ca_file {
        builder = builder.ca_file(file);
    }
    let bus = Arc::new(builder.build().with_context(|| format!("bus.url {url} can not be used"))?);
    Ok(Opened { bus: bus.clone(), rabbitmq: Some(bus) })
}
