//! Chance that a seed decides.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Numbers that look random and follow from a seed: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers that follow from `seed` for the purpose `name`. Each purpose has its own, so that drawing for one shifts
    /// no other.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a tells the purposes apart; one draw mixes its bits.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let mut random = Self(seed ^ name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash));
        random.0 = random.number();
        random
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = range.into_inner();
        match (last - first).checked_add(1) {
            Some(count) => first + self.number() % count,
            None => self.number(),
        }
    }

    /// A place in a list of `length` items, which is not empty.
    pub fn below(&mut self, length: usize) -> usize {
        (self.number() % length as u64) as usize
    }

    /// Whether it happens that happens `permille` times in a thousand.
    pub fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.number() % 1000 < u64::from(permille)
    }

    /// So many milliseconds.
    pub fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// One of the items, of which there is at least one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_seed_when_drawn_again_then_the_numbers_are_the_same_and_another_purpose_has_others() {
        let drawn = |seed, name| (0..8).map(|_| 0).scan(Random::new(seed, name), |it, _| Some(it.number())).collect();
        let first: Vec<u64> = drawn(1, "store");
        assert_eq!(first, drawn(1, "store"));
        assert!([drawn(1, "bus"), drawn(2, "store")].iter().all(|other| *other != first));
    }

    #[test]
    fn given_a_range_when_drawn_often_then_every_number_of_it_comes_and_no_other() {
        let mut random = Random::new(7, "range");
        let mut seen = [0; 6];
        (0..600).for_each(|_| seen[random.within(2..=5) as usize] += 1);
        assert!(seen[..2].iter().all(|n| *n == 0) && seen[2..].iter().all(|n| *n > 100), "{seen:?}");
        assert!(!Random::new(7, "never").happens(0) && Random::new(7, "always").happens(1000));
        let _ = random.within(0..=u64::MAX);
    }
}
