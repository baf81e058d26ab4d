//! The pauses between tries.

use std::time::Duration;

/// Pauses that double up to a longest one, each shortened at random by up to a half: many hosts that lost one broker must
/// not come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    /// `seed` is where the randomness comes from.
    pub(super) fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, next: first.min(longest), random: seed }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        // SplitMix64: a few instructions, and good enough to spread hosts.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = f64::from((bits >> 32) as u32) / f64::from(u32::MAX);
        whole.mul_f64(1.0 - share / 2.0)
    }

    /// The trouble is over: the next pause is the first again.
    pub(super) fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(1);

    #[test]
    fn given_failures_when_they_go_on_then_the_pauses_double_up_to_the_longest_and_differ_by_seed() {
        let mut backoff = Backoff::new(FIRST, LONGEST, 7);
        let mut whole = FIRST;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(whole / 2 <= pause && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        backoff.reset();
        let again = backoff.pause();
        assert!(again <= FIRST);
        assert_ne!(Backoff::new(FIRST, LONGEST, 1).pause(), Backoff::new(FIRST, LONGEST, 2).pause());
    }
}
