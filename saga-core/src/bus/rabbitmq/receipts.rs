//! Which deliveries are in hand, and which acknowledgements are due.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::bus::Receipt;

/// Numbers the channels that this process has consumed over, so that a receipt names one of them for ever.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// The deliveries of all channels that were handed over and not acknowledged.
///
/// What is known here decides what reaches the broker: a tag that was not delivered, or was acknowledged before, would make
/// it close the channel.
#[derive(Default)]
pub(super) struct Receipts {
    epochs: Mutex<HashMap<u64, Epoch>>,
    /// Deliveries of an ended channel have been acknowledged.
    freed: Notify,
}

/// One life of an endpoint's channel. What it holds is bounded by the endpoint's prefetch.
struct Epoch {
    endpoint: usize,
    /// Delivered and not acknowledged.
    handed: BTreeSet<u64>,
    /// Acknowledged, and the broker is not told yet.
    done: Vec<u64>,
    /// Who tells the broker; `None` when the channel has ended.
    teller: Option<Arc<Notify>>,
}

/// One acknowledgement, as the broker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// Whether it stands for all earlier deliveries as well.
    pub(super) multiple: bool,
}

impl Receipts {
    /// A channel begins to consume; `teller` is woken when acknowledgements are due.
    pub(super) fn begin(&self, endpoint: usize, teller: Arc<Notify>) -> u64 {
        let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        let life = Epoch { endpoint, handed: BTreeSet::new(), done: Vec::new(), teller: Some(teller) };
        self.epochs().insert(epoch, life);
        epoch
    }

    /// A message was delivered; false when its channel has ended, and it will be delivered again.
    pub(super) fn delivered(&self, epoch: u64, tag: u64) -> bool {
        match self.epochs().get_mut(&epoch) {
            Some(it) if it.teller.is_some() => it.handed.insert(tag),
            _ => false,
        }
    }

    /// These deliveries are handled. What is not in hand is passed over.
    pub(super) fn acknowledge(&self, receipts: &[Receipt]) {
        let mut epochs = self.epochs();
        let mut freed = false;
        for receipt in receipts {
            let Some(it) = epochs.get_mut(&receipt.epoch) else { continue };
            if !it.handed.remove(&receipt.tag) {
                continue;
            }
            match &it.teller {
                Some(teller) => {
                    it.done.push(receipt.tag);
                    teller.notify_one();
                }
                None => {
                    freed = true;
                    if it.handed.is_empty() {
                        epochs.remove(&receipt.epoch);
                    }
                }
            }
        }
        drop(epochs);
        if freed {
            self.freed.notify_waiters();
        }
    }

    /// How many deliveries of a channel are in hand.
    pub(super) fn in_hand(&self, epoch: u64) -> usize {
        self.epochs().get(&epoch).map_or(0, |it| it.handed.len())
    }

    /// The acknowledgements that are due: one for all deliveries before the first that is still in hand, and one for each
    /// of the others.
    pub(super) fn due(&self, epoch: u64) -> Vec<Ack> {
        let mut epochs = self.epochs();
        let Some(it) = epochs.get_mut(&epoch) else { return Vec::new() };
        let mut done = std::mem::take(&mut it.done);
        done.sort_unstable();
        let first_in_hand = it.handed.first().copied().unwrap_or(u64::MAX);
        let before = done.partition_point(|tag| *tag < first_in_hand);
        let all_before = done[..before].last().map(|tag| Ack { tag: *tag, multiple: before > 1 });
        let others = done[before..].iter().map(|tag| Ack { tag: *tag, multiple: false });
        all_before.into_iter().chain(others).collect()
    }

    /// The channel has ended: its receipts are void, and the broker delivers again what was not acknowledged.
    pub(super) fn end(&self, epoch: u64) {
        let mut epochs = self.epochs();
        if let Some(it) = epochs.get_mut(&epoch) {
            it.teller = None;
            it.done.clear();
            if it.handed.is_empty() {
                epochs.remove(&epoch);
            }
        }
    }

    /// All channels have ended.
    pub(super) fn end_all(&self) {
        let live: Vec<u64> = self.epochs().keys().copied().collect();
        live.into_iter().for_each(|epoch| self.end(epoch));
    }

    /// Waits until no more than `limit` deliveries of an endpoint's ended channels are still in hand. They come again, and
    /// whoever has them must not be given ever more copies while it can not get on.
    pub(super) async fn void_at_most(&self, endpoint: usize, limit: usize) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.void(endpoint) <= limit {
                return;
            }
            freed.await;
        }
    }

    fn void(&self, endpoint: usize) -> usize {
        let epochs = self.epochs();
        let ended = epochs.values().filter(|it| it.endpoint == endpoint && it.teller.is_none());
        ended.map(|it| it.handed.len()).sum()
    }

    fn epochs(&self) -> MutexGuard<'_, HashMap<u64, Epoch>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    struct Channel {
        receipts: Receipts,
        epoch: u64,
    }

    impl Channel {
        fn with(deliveries: u64) -> Self {
            let receipts = Receipts::default();
            let epoch = receipts.begin(0, Arc::default());
            (1..=deliveries).for_each(|tag| assert!(receipts.delivered(epoch, tag)));
            Self { receipts, epoch }
        }

        fn acknowledge(&self, tags: &[u64]) {
            let receipts: Vec<_> = tags.iter().map(|tag| Receipt { epoch: self.epoch, tag: *tag }).collect();
            self.receipts.acknowledge(&receipts);
        }

        fn due(&self) -> Vec<(u64, bool)> {
            self.receipts.due(self.epoch).into_iter().map(|it| (it.tag, it.multiple)).collect()
        }
    }

    #[test]
    fn given_deliveries_without_a_gap_when_they_are_acknowledged_then_the_broker_is_told_once() {
        let channel = Channel::with(5);
        channel.acknowledge(&[2, 1]);
        channel.acknowledge(&[3]);
        assert_eq!(channel.due(), [(3, true)]);
        assert_eq!(channel.due(), [], "nothing is told twice");
        channel.acknowledge(&[4]);
        assert_eq!(channel.due(), [(4, false)]);
    }

    #[test]
    fn given_a_gap_when_later_ones_are_acknowledged_then_each_alone_and_the_gap_after_them_alone() {
        let channel = Channel::with(6);
        channel.acknowledge(&[1, 2, 4, 6]);
        assert_eq!(channel.due(), [(2, true), (4, false), (6, false)]);
        channel.acknowledge(&[3]);
        assert_eq!(channel.due(), [(3, false)], "a multiple one up to 4 would name a tag that is gone");
        channel.acknowledge(&[5]);
        assert_eq!(channel.due(), [(5, false)]);
    }

    #[test]
    fn given_a_tag_that_is_not_in_hand_when_it_is_acknowledged_then_the_broker_hears_nothing() {
        let channel = Channel::with(2);
        channel.acknowledge(&[1, 1, 7]);
        assert_eq!(channel.due(), [(1, false)]);
        channel.acknowledge(&[1]);
        assert_eq!(channel.due(), [], "not a second time");
        channel.receipts.acknowledge(&[Receipt { epoch: channel.epoch + 1_000, tag: 2 }]);
        assert_eq!(channel.due(), []);
    }

    #[test]
    fn given_an_ended_channel_when_its_receipts_come_then_they_are_void() {
        let channel = Channel::with(3);
        channel.acknowledge(&[1]);
        channel.receipts.end(channel.epoch);
        assert_eq!(channel.due(), []);
        assert!(!channel.receipts.delivered(channel.epoch, 4));
        assert_eq!(channel.receipts.void(0), 2);
        channel.acknowledge(&[2, 3]);
        assert_eq!(channel.due(), []);
        assert_eq!(channel.receipts.void(0), 0);
        assert!(channel.receipts.epochs().is_empty(), "nothing is kept of it");
    }

    #[tokio::test]
    async fn given_copies_in_hand_when_a_channel_begins_again_then_it_waits_until_they_are_few() {
        let channel = Channel::with(3);
        channel.receipts.end_all();
        channel.receipts.void_at_most(0, 3).await;
        channel.receipts.void_at_most(1, 0).await;
        let mut few = Box::pin(channel.receipts.void_at_most(0, 1));
        assert!((&mut few).now_or_never().is_none());
        channel.acknowledge(&[1]);
        assert!((&mut few).now_or_never().is_none());
        channel.acknowledge(&[2]);
        few.await;
    }
}
