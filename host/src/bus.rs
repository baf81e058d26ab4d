//! The bus that the configuration names.

use std::sync::Arc;

use saga_core::{Bus, EmbeddedBus};

use crate::config::{BusUrl, Config};

/// Opens the bus; a broker that is away is waited for, by the bus itself.
///
/// # Errors
/// When the URL, or the file of authorities, is not what it should be.
pub(crate) fn open(config: &Config) -> anyhow::Result<Arc<dyn Bus>> {
    Ok(match &config.bus {
        BusUrl::Embedded => Arc::new(EmbeddedBus::new()),
        BusUrl::RabbitMq(_url) => anyhow::bail!("wip"),
    })
}
