//! What hosts are killed on.

/// Stores, buses and how many hosts.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) servers: Servers,
    /// Whether another host lives on and finishes what the killed one has left; else that one is started again.
    pub(super) two_hosts: bool,
    /// At which time that a point is reached the host is killed there.
    pub(super) times: &'static [u64],
    /// So many points are tried at the same time: more, where most of the time goes by waiting for a lease to end.
    pub(super) at_once: usize,
}

/// Where everything is kept, and what carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Servers {
    SqliteAndEmbedded,
    PostgresAndRabbitMq,
}

/// Two hosts on one SQLite file there are not: the second is refused at its start, see
/// `tests/saga_core/sqlite.rs`. Where a killed host's rows are taken over only when its lease has ended, one time is
/// enough; the others are met under load, in `kill.rs` and in `tests/storm`.
pub(super) const LAYOUTS: [Layout; 3] = [
    Layout { servers: Servers::SqliteAndEmbedded, two_hosts: false, times: &[1, 2, 3], at_once: 3 },
    Layout { servers: Servers::PostgresAndRabbitMq, two_hosts: false, times: &[1], at_once: 6 },
    Layout { servers: Servers::PostgresAndRabbitMq, two_hosts: true, times: &[1], at_once: 6 },
];
