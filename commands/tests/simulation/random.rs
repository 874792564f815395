//! SplitMix64: everything that a run leaves to chance is drawn from its seed.

use std::{ops::Range, time::Duration};

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.within(0..of.len() as u64) as usize]
    }

    /// Mostly moments, now and then minutes.
    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_millis(match self.within(0..40) {
            0 => self.within(10_000..400_000),
            1..=4 => self.within(500..10_000),
            5..=14 => self.within(0..500),
            _ => self.within(0..20),
        })
    }
}
