//! Numbers that look random and follow from a seed, so that a soak can be
//! repeated: SplitMix64 (Steele, Lea and Flood, 2014).

use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another sequence, which follows from this one and a number.
    pub(super) fn fork(&self, number: u64) -> Self {
        let mut fork = Self(self.0 ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
        fork.next();
        fork
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A time from `shortest` to `longest`.
    pub(super) fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let share = self.below(1_000_001) as f64 / 1e6;
        shortest + longest.saturating_sub(shortest).mul_f64(share)
    }

    /// Brings the items into another order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_a_fork_others() {
        let numbers = |mut random: Random| [random.below(1000), random.below(1000)];
        let random = Random::new(7);
        assert_eq!(numbers(random.clone()), numbers(Random::new(7)));
        assert_ne!(numbers(random.fork(1)), numbers(random.fork(2)));
    }

    #[test]
    fn shuffling_loses_nothing() {
        let mut items: Vec<_> = (0..20).collect();
        Random::new(1).shuffle(&mut items);
        assert_ne!(items, (0..20).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
    }
}
