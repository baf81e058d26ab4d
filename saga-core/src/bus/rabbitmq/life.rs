//! What ends with an endpoint's channel.

use super::receipts::Receipts;
use super::topology::{Part, Plan};

/// One life of an endpoint's channel. When it ends, in whichever way, its receipts are void, and a shard is not ours.
pub(super) struct Life<'a> {
    pub(super) receipts: &'a Receipts,
    pub(super) epoch: u64,
    pub(super) plan: &'a Plan,
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.receipts.end(self.epoch);
        if let Part::Shard { shard, balance, .. } = &self.plan.part {
            balance.ended(shard.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bus::rabbitmq::builder::QueueType;
    use crate::bus::{Endpoint, Shard, ShardKey};

    #[test]
    fn given_a_shard_that_was_active_when_its_channel_ends_then_it_is_not_ours_any_more() {
        let shard = Shard { index: 0, of: 2, key: ShardKey::new(|_| None) };
        let endpoint = Endpoint {
            name: "q".into(),
            subscriptions: Vec::new(),
            handles: Vec::new(),
            consumed: true,
            temporary: false,
            prefetch: 1,
            shard: Some(shard),
        };
        let plans = Plan::all(&[endpoint], QueueType::Quorum, 1).unwrap();
        let Part::Shard { balance, .. } = &plans[0].part else { panic!("it is a shard") };
        let receipts = Receipts::default();
        let life = Life { receipts: &receipts, epoch: receipts.begin(0, Arc::default()), plan: &plans[0] };
        balance.is_active(0);
        balance.is_active(1);
        // As a connection that is lost does to the tasks of its channels.
        drop(life);
        assert!(!balance.gives_up(1, 2, 2), "one of two is the share");
    }
}
