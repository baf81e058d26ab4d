//! Who sends: the part of the envelope that names a process.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::Headers;

/// The process that sends a message, as the envelope's `host` names it. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostInfo {
    /// The machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<String>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_name: Option<String>,
    /// The number of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_id: Option<i64>,
    /// The program's package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assembly: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assembly_version: Option<String>,
    /// What it runs on; here, this library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework_version: Option<String>,
    /// The version of MassTransit that sends; nothing where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mass_transit_version: Option<String>,
    /// The operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operating_system_version: Option<String>,
}

impl HostInfo {
    /// This process, asked of the operating system; `assembly` and its version are the program's package.
    pub fn of_this_process(assembly: &str, assembly_version: &str) -> Self {
        let machine =
            std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
        let program = std::env::current_exe().ok();
        Self {
            machine_name: machine.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
            process_name: program.and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned())),
            process_id: Some(std::process::id().into()),
            assembly: Some(assembly.to_owned()),
            assembly_version: Some(assembly_version.to_owned()),
            framework_version: Some(concat!("saga-core ", env!("CARGO_PKG_VERSION")).to_owned()),
            mass_transit_version: None,
            operating_system_version: Some(std::env::consts::OS.to_owned()),
        }
    }

    /// The process as headers say it, of a delivery that it moves to another queue.
    pub(super) fn headers(&self) -> Headers {
        let id = self.process_id.map(|id| id.to_string());
        let named = [
            ("MT-Host-MachineName", &self.machine_name),
            ("MT-Host-ProcessName", &self.process_name),
            ("MT-Host-ProcessId", &id),
            ("MT-Host-Assembly", &self.assembly),
            ("MT-Host-AssemblyVersion", &self.assembly_version),
            ("MT-Host-FrameworkVersion", &self.framework_version),
            ("MT-Host-MassTransitVersion", &self.mass_transit_version),
            ("MT-Host-OperatingSystemVersion", &self.operating_system_version),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name.into(), Value::from(value.clone()?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_this_process_when_it_is_asked_who_it_is_then_it_says_so() {
        let host = HostInfo::of_this_process("saga-host", "1.2.3");
        assert_eq!(
            (host.process_id, host.assembly_version.as_deref()),
            (Some(std::process::id().into()), Some("1.2.3"))
        );
        assert!(host.process_name.is_some_and(|name| name.starts_with("saga_core")));
        assert_eq!(host.framework_version, Some(format!("saga-core {}", env!("CARGO_PKG_VERSION"))));
    }
}
