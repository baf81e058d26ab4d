//! The delays of retries: bounded, derived, and without overflow.

use std::time::Duration;

use proptest::prelude::*;
use saga_core::RetryPolicy;
use uuid::Uuid;

#[test]
fn given_the_default_policy_when_attempts_fail_then_three_retries_follow() {
    let policy = RetryPolicy::default();
    let delays: Vec<_> = (1..=5).map(|attempt| policy.delay(attempt, Uuid::from_u128(1)).is_some()).collect();
    assert_eq!(delays, [true, true, true, false, false]);
    assert_eq!(RetryPolicy { limit: 0, ..policy }.delay(1, Uuid::nil()), None);
}

#[test]
fn given_a_thousand_messages_when_they_fail_at_once_then_their_retries_are_spread() {
    let policy = RetryPolicy::default();
    let name = |n: u32| saga_core::derive_id(Uuid::nil(), &n.to_string());
    let delays: std::collections::BTreeSet<_> = (0..1_000).filter_map(|n| policy.delay(1, name(n))).collect();
    assert!(delays.len() > 500, "only {} different delays", delays.len());
}

proptest! {
    #[test]
    fn given_any_policy_then_a_delay_lies_between_half_of_its_step_and_the_whole(
        limit in 1_u32..100, attempt in 1_u32..100, initial in 1_u64..10_000, max in 1_u64..100_000, id: u128
    ) {
        let [initial, max] = [initial, max].map(Duration::from_millis);
        let policy = RetryPolicy { limit, initial, max };
        let delay = policy.delay(attempt, Uuid::from_u128(id));
        prop_assert_eq!(delay.is_some(), attempt <= limit);
        prop_assert_eq!(delay, policy.delay(attempt, Uuid::from_u128(id)), "the same whenever it is asked");
        if let Some(delay) = delay {
            let step = initial.saturating_mul(1 << (attempt - 1).min(31)).min(max);
            prop_assert!(step / 2 <= delay && delay <= step, "{delay:?} of {step:?}");
        }
    }

    #[test]
    fn given_steps_below_the_largest_then_no_delay_is_shorter_than_the_one_before(id: u128) {
        let policy = RetryPolicy { limit: 20, initial: Duration::from_millis(1), max: Duration::MAX };
        let delays: Vec<_> = (1..=20).filter_map(|attempt| policy.delay(attempt, Uuid::from_u128(id))).collect();
        prop_assert!(delays.is_sorted(), "{delays:?}");
    }

    #[test]
    fn given_absurd_numbers_then_nothing_overflows(attempt: u32, limit: u32, initial: u64, max: u64, id: u128) {
        let [initial, max] = [initial, max].map(Duration::from_secs);
        let policy = RetryPolicy { limit, initial, max };
        let delay = policy.delay(attempt, Uuid::from_u128(id));
        prop_assert!(delay.is_none_or(|delay| delay <= max));
    }
}
