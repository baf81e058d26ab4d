//! Which shards of an endpoint this process has, and when it has too many.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The shards of one endpoint whose single active consumer this process is known to be.
///
/// The broker makes the first consumer of a queue its active one, and so the first host that of all shards; priorities do
/// not change that before RabbitMQ 4. Whoever has more than its share gives the rest up, and stands behind those who
/// wait already. A shard without messages is nobody's concern: that it is ours shows with its first delivery.
#[derive(Debug, Default)]
pub(super) struct Balance(Mutex<BTreeSet<usize>>);

impl Balance {
    /// A message of a shard was delivered: this process is its active consumer.
    pub(super) fn is_active(&self, shard: usize) {
        self.active().insert(shard);
    }

    /// The consumer of a shard has ended.
    pub(super) fn ended(&self, shard: usize) {
        self.active().remove(&shard);
    }

    /// Whether a shard of so many is to be given up, because so many hosts share them and this one has more than its
    /// share. Then it counts as given up.
    pub(super) fn gives_up(&self, shard: usize, of: usize, hosts: usize) -> bool {
        let mut active = self.active();
        active.len() > of.div_ceil(hosts.max(1)) && active.remove(&shard)
    }

    fn active(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(shards: impl IntoIterator<Item = usize>) -> Balance {
        let balance = Balance::default();
        shards.into_iter().for_each(|it| balance.is_active(it));
        balance
    }

    #[test]
    fn given_all_shards_when_hosts_come_then_each_time_what_is_over_the_share_is_given_up() {
        let balance = with(0..8);
        let given = |hosts| (0..8).filter(|it| balance.gives_up(*it, 8, hosts)).count();
        assert_eq!([given(1), given(2), given(3), given(2), given(9)], [0, 4, 1, 0, 2]);
    }

    #[test]
    fn given_a_shard_that_is_not_ours_when_it_is_looked_at_then_nothing_is_given_up_for_it() {
        let balance = with([0, 1, 2]);
        assert!(!balance.gives_up(3, 4, 2));
        balance.ended(2);
        assert!(!balance.gives_up(0, 4, 2), "two of four are the share");
    }
}
