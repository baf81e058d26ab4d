//! Who sends: the part of the envelope that names a process.

use serde::{Deserialize, Serialize};

/// The process that sends a message, as the envelope's `host` names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostInfo {
    /// The machine.
    pub machine_name: Option<String>,
    /// The program.
    pub process_name: Option<String>,
    /// The process.
    pub process_id: Option<u32>,
    /// The program's package.
    pub assembly: Option<String>,
    /// Its version.
    pub assembly_version: Option<String>,
    /// What it runs on; of this library, the language.
    pub framework_version: Option<String>,
    /// The version of what writes the envelopes.
    pub mass_transit_version: Option<String>,
    /// The operating system.
    pub operating_system_version: Option<String>,
}
