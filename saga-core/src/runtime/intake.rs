//! What waits for a place in a batch, and what is under way: two batches at the same time never meet on one instance.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

use crate::bus::Delivery;

/// What a message may meet another on: its own id, and the instance that it belongs to.
pub(crate) trait Keyed {
    fn keys(&self) -> [Option<Uuid>; 2];
}

/// Messages that wait for a batch.
pub(crate) struct Intake<T> {
    pub(crate) from_bus: Waiting<T>,
    /// Failed before, and tried again: in batches of their own, because what the store has refused once it may refuse
    /// again, and a batch that is refused is split down to the culprit.
    pub(crate) failed_before: Waiting<T>,
    pub(crate) from_callers: Waiting<T>,
    /// Each is handled alone: nothing else is under way meanwhile.
    pub(crate) suspects: VecDeque<Delivery>,
    pub(crate) under_way: UnderWay,
    /// A suspect is under way.
    pub(crate) is_alone: bool,
    /// So many were waiting after the last batch was taken: they meet something that is under way.
    pub(crate) passed_over: usize,
    is_turn_of_failed: bool,
}

impl<T> Default for Intake<T> {
    fn default() -> Self {
        Self {
            from_bus: Waiting::default(),
            failed_before: Waiting::default(),
            from_callers: Waiting::default(),
            suspects: VecDeque::new(),
            under_way: UnderWay::default(),
            is_alone: false,
            passed_over: 0,
            is_turn_of_failed: false,
        }
    }
}

impl<T: Keyed> Intake<T> {
    pub(crate) fn waiting(&self) -> usize {
        self.of_bus() + self.from_callers.len()
    }

    pub(crate) fn of_bus(&self) -> usize {
        self.from_bus.len() + self.failed_before.len()
    }

    /// A batch of what has failed before, or of the rest, in turn; of each source so many at the most.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<T> {
        let mut batch = Vec::new();
        self.is_turn_of_failed = !self.is_turn_of_failed;
        if self.is_turn_of_failed {
            batch = self.failed_before.take(limit, &self.under_way);
        }
        if batch.is_empty() {
            batch = self.from_bus.take(limit, &self.under_way);
            batch.extend(self.from_callers.take(limit, &self.under_way));
        }
        if batch.is_empty() {
            batch = self.failed_before.take(limit, &self.under_way);
        }
        batch
    }

    /// A batch is committed, or put off.
    pub(crate) fn ended(&mut self, batch: &[T]) {
        self.under_way.end(batch);
        self.is_alone = false;
        self.passed_over = 0;
    }
}

/// The keys of the messages that are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(HashSet<Uuid>);

impl UnderWay {
    /// A batch begins.
    pub(crate) fn begin(&mut self, batch: &[impl Keyed]) {
        self.0.extend(batch.iter().flat_map(Keyed::keys).flatten());
    }

    /// It has ended.
    pub(crate) fn end(&mut self, batch: &[impl Keyed]) {
        for key in batch.iter().flat_map(Keyed::keys).flatten() {
            self.0.remove(&key);
        }
    }
}

/// Messages in the order in which they came.
#[derive(Debug)]
pub(crate) struct Waiting<T>(VecDeque<T>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Keyed> Waiting<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn extend(&mut self, items: impl Iterator<Item = T>) {
        self.0.extend(items);
    }

    /// Puts items before all others, in their order.
    pub(crate) fn put_first(&mut self, items: Vec<T>) {
        items.into_iter().rev().for_each(|item| self.0.push_front(item));
    }

    /// Takes what meets nothing that is under way, as far as `limit` and as if what is passed over were under way, so that
    /// messages of one instance keep their order.
    pub(crate) fn take(&mut self, limit: usize, under_way: &UnderWay) -> Vec<T> {
        if under_way.0.is_empty() {
            return self.0.drain(..self.0.len().min(limit)).collect();
        }
        let (mut taken, mut left, mut passed) = (Vec::new(), VecDeque::new(), HashSet::new());
        for item in self.0.drain(..) {
            let mut keys = item.keys().into_iter().flatten();
            if taken.len() < limit && !keys.any(|key| under_way.0.contains(&key) || passed.contains(&key)) {
                taken.push(item);
            } else {
                passed.extend(item.keys().into_iter().flatten());
                left.push_back(item);
            }
        }
        self.0 = left;
        taken
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.0.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Clone, Copy)]
    struct Item(u128, u128);

    impl Keyed for Item {
        fn keys(&self) -> [Option<Uuid>; 2] {
            [Some(Uuid::from_u128(self.0)), Some(Uuid::from_u128(self.1))]
        }
    }

    #[test]
    fn given_an_instance_under_way_when_more_of_it_waits_then_it_is_passed_over_in_its_order_and_the_others_are_taken()
    {
        let mut under_way = UnderWay::default();
        let mut waiting = Waiting::default();
        waiting.extend([Item(1, 100), Item(2, 200)].into_iter());
        let first = waiting.take(1, &under_way);
        assert_eq!(first, [Item(1, 100)]);
        under_way.begin(&first);

        waiting.extend([Item(3, 100), Item(4, 300), Item(5, 100)].into_iter());
        assert_eq!(waiting.take(10, &under_way), [Item(2, 200), Item(4, 300)]);
        assert_eq!(waiting.take(10, &under_way), []);
        under_way.end(&first);
        assert_eq!(waiting.take(10, &under_way), [Item(3, 100), Item(5, 100)]);
    }

    #[test]
    fn given_what_failed_before_when_there_is_more_than_that_then_they_take_turns_and_never_share_a_batch() {
        let mut intake = Intake::default();
        intake.failed_before.extend((1..=3).map(|it| Item(it, it)));
        intake.from_bus.extend((11..=13).map(|it| Item(it, it)));
        intake.from_callers.extend([Item(21, 21)].into_iter());
        let ids = |batch: Vec<Item>| batch.into_iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(intake.waiting(), 7);
        assert_eq!(ids(intake.take(2)), [1, 2]);
        assert_eq!(ids(intake.take(2)), [11, 12, 21], "what is new has its turn, however much has failed");
        assert_eq!(ids(intake.take(2)), [3]);
        assert_eq!(ids(intake.take(2)), [13]);
        assert_eq!(ids(intake.take(2)), [0; 0]);
    }

    #[test]
    fn given_a_message_that_came_twice_when_the_first_is_under_way_then_the_second_waits() {
        let mut under_way = UnderWay::default();
        under_way.begin(&[Item(1, 100)]);
        let mut waiting = Waiting::default();
        waiting.extend([Item(1, 200), Item(2, 200)].into_iter());
        assert_eq!(waiting.take(10, &under_way), [], "what shares a key with a message that waits, waits behind it");
        waiting.put_first(vec![Item(7, 700), Item(8, 800)]);
        assert_eq!(waiting.take(10, &under_way), [Item(7, 700), Item(8, 800)]);
    }
}
