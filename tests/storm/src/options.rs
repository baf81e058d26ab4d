//! How much of what.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::fault::{Fault, Tally};

/// What a storm is made of. A run in which fewer faults happened than are asked for here has failed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Orders that are submitted, spread over the storm
    #[arg(long, default_value_t = 500)]
    pub orders: u64,
    /// Hosts at the same time
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub hosts: u64,
    /// Decides which fault comes when, and to whom
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A host is killed so often, as long as the storm lasts
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub kill_every: Duration,
    /// Hosts killed; the storm is planned to last so many times `--kill-every`
    #[arg(long, default_value_t = 15)]
    pub host_kills: u64,
    /// Hosts paused for longer than their lease
    #[arg(long, default_value_t = 1)]
    pub host_pauses: u64,
    /// Stops of the broker, as for a maintenance
    #[arg(long, default_value_t = 1)]
    pub broker_stops: u64,
    /// Kills of the broker
    #[arg(long, default_value_t = 1)]
    pub broker_kills: u64,
    /// Pauses of the broker, longer than two heartbeats
    #[arg(long, default_value_t = 0)]
    pub broker_pauses: u64,
    /// Immediate stops of the database
    #[arg(long, default_value_t = 2)]
    pub database_stops: u64,
    /// Pauses of the database
    #[arg(long, default_value_t = 1)]
    pub database_pauses: u64,
    /// Times that all backends of the database are terminated
    #[arg(long, default_value_t = 1)]
    pub backend_kills: u64,
    /// Times that a host's connections to one server are cut
    #[arg(long, default_value_t = 3)]
    pub cuts: u64,
    /// Times that a host's connections are delayed
    #[arg(long, default_value_t = 1)]
    pub delays: u64,
    /// Times that a host's connections to one server swallow what is sent, and are cut then
    #[arg(long, default_value_t = 1)]
    pub half_opens: u64,
    /// Within this time after the last fault everything has come to its end
    #[arg(long, default_value = "120s", value_parser = humantime::parse_duration)]
    pub converge_within: Duration,
    /// The program of the hosts; this program's own copy of it, if not said
    #[arg(long, value_name = "PROGRAM")]
    pub host: Option<PathBuf>,
    /// The commit that is run, for the report
    #[arg(long)]
    pub commit: Option<String>,
    /// A folder that the logs of hosts and servers go to
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<PathBuf>,
    /// Prints the report as JSON, too, to the standard output
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// How long the storm is planned to last. It lasts longer if stops and starts of the servers take longer than that.
    pub fn length(&self) -> Duration {
        self.kill_every.saturating_mul(u32::try_from(self.host_kills).unwrap_or(u32::MAX))
    }

    /// What must happen.
    pub fn asked(&self) -> Tally {
        Tally::of(Fault::ALL.map(|fault| (fault, self.count(fault))))
    }

    fn count(&self, fault: Fault) -> u64 {
        match fault {
            Fault::HostKill => self.host_kills,
            Fault::HostPause => self.host_pauses,
            Fault::BrokerStop => self.broker_stops,
            Fault::BrokerKill => self.broker_kills,
            Fault::BrokerPause => self.broker_pauses,
            Fault::DatabaseStop => self.database_stops,
            Fault::DatabasePause => self.database_pauses,
            Fault::BackendKill => self.backend_kills,
            Fault::Cut => self.cuts,
            Fault::Delay => self.delays,
            Fault::HalfOpen => self.half_opens,
        }
    }
}
