//! A partition of an endpoint by instance: which of its shards a message belongs to.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::message::Envelope;

/// How many buckets the instances of every endpoint fall into, and so how many shards an endpoint has at the most. A
/// publisher names the bucket and knows nothing of how many shards each subscriber has. Part of the durable contract.
pub const BUCKETS: usize = 128;

/// One shard of an endpoint: all messages of some of its instances, and of no others.
///
/// A message belongs to the shard `bucket(id) % of`, where `id` is that of its instance. One that tells of none belongs to
/// shard 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Which one it is, from 0.
    pub index: usize,
    /// How many there are, from 1 to [`BUCKETS`].
    pub of: usize,
    /// Tells a message's instance.
    pub key: ShardKey,
}

/// Tells which instance of an endpoint a message belongs to, if it can be told.
#[derive(Clone)]
pub struct ShardKey(Arc<Key>);

type Key = dyn Fn(&Envelope) -> Option<Uuid> + Send + Sync;

impl Shard {
    /// Which of the endpoint's shards a message belongs to.
    pub fn place(&self, envelope: &Envelope) -> usize {
        self.key.place(envelope, self.of)
    }
}

impl ShardKey {
    /// Tells the instance by a function that gives the same answer for the same message in every process.
    pub fn new(key: impl Fn(&Envelope) -> Option<Uuid> + Send + Sync + 'static) -> Self {
        Self(Arc::new(key))
    }

    /// Which of so many shards a message belongs to.
    pub fn place(&self, envelope: &Envelope, of: usize) -> usize {
        if of <= 1 { 0 } else { self.bucket(envelope) % of }
    }

    /// Which bucket a message belongs to; 0 if it tells of no instance.
    pub fn bucket(&self, envelope: &Envelope) -> usize {
        (self.0)(envelope).map_or(0, bucket)
    }
}

impl PartialEq for ShardKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ShardKey {}

impl fmt::Debug for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardKey")
    }
}

/// The bucket of an instance: FNV-1a of 64 bits over the sixteen bytes of its id, folded to 32 bits by XOR, modulo
/// [`BUCKETS`]. Every process computes the same, in every version: part of the durable contract.
pub fn bucket(id: Uuid) -> usize {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = id.as_bytes().iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    let folded = (hash >> 32) ^ (hash & 0xffff_ffff);
    // Less than BUCKETS, so that it fits.
    usize::try_from(folded % BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, derive_id};

    #[test]
    fn given_ids_when_their_buckets_are_asked_then_they_are_those_of_every_version() {
        let ids = [
            "00000000-0000-0000-0000-000000000000",
            "0f0d9f5c-2b0f-4a57-8b5e-7a3a8f1f2c11",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ];
        let buckets = ids.map(|id| bucket(id.parse().unwrap()));
        assert_eq!(buckets, [92, 60, 93]);
    }

    #[test]
    fn given_ids_of_one_moment_when_they_are_parted_then_no_shard_has_much_more_than_its_share() {
        const IDS: usize = 64_000;
        let moment = Uuid::from_u128(0x0193_5a1b_7c3d_7000_8000_0000_0000_0000);
        for of in [2, 3, 8, 12, 128] {
            let mut counts = vec![0_usize; of];
            (0..IDS).for_each(|number| counts[bucket(derive_id(moment, &number.to_string())) % of] += 1);
            let share = IDS / of;
            let most = counts.iter().max().copied().unwrap();
            assert!(most < share + share / 4, "{of} shards: {most} of about {share}");
        }
    }

    #[test]
    fn given_a_message_without_an_instance_when_it_is_placed_then_it_is_in_the_first_shard() {
        let key = ShardKey::new(|envelope| envelope.correlation_id);
        let envelope = Envelope::raw(Uuid::from_u128(1), "Test:Any", Body::of(&()));
        let shard = Shard { index: 3, of: 8, key };
        assert_eq!(shard.place(&envelope), 0);
        let id = Uuid::from_u128(77);
        assert_eq!(shard.place(&envelope.correlated(id)), bucket(id) % 8);
    }
}
