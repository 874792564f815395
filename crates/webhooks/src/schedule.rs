//! When to try again.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use uuid::Uuid;

/// How a sender goes about it. The default is what `souk serve` does.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the first failure to the second try; twice as long each time.
    pub first_delay: Duration,
    pub longest_delay: Duration,
    /// Failing for so long it stops, and waits for its owner.
    pub give_up_after: Duration,
    /// For one request, until the answer is there.
    pub timeout: Duration,
    /// How often what owners have changed is looked for.
    pub poll: Duration,
    /// How long an owner is believed to be allowed to read events.
    pub owner_holds: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_hours(1),
            give_up_after: Duration::from_hours(3 * 24),
            timeout: Duration::from_secs(15),
            poll: Duration::from_millis(500),
            owner_holds: Duration::from_secs(5),
        }
    }
}

impl Pace {
    /// The pause after so many failures in a row (1 is the first). A fifth more or less, which differs from consumer to
    /// consumer and from try to try: many that fail together, as when their network was away, do not come back at once.
    pub(crate) fn delay(&self, consumer: Uuid, failures: u32) -> Duration {
        let doubled = self
            .first_delay
            .saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let mut hasher = DefaultHasher::new();
        (consumer, failures).hash(&mut hasher);
        let share = 0.8 + 0.4 * (hasher.finish() % 1_000) as f64 / 1_000.0;
        doubled.min(self.longest_delay).mul_f64(share).min(self.longest_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_an_hour() {
        let (pace, consumer) = (Pace::default(), Uuid::from_u128(1));
        let delays: Vec<f64> =
            (1..=40).map(|failures| pace.delay(consumer, failures).as_secs_f64()).collect();
        for (index, delay) in delays.iter().enumerate() {
            let plain = 2_f64.powi(index as i32).min(3_600.0);
            assert!(
                (plain * 0.8..=plain * 1.2).contains(delay) && *delay <= 3_600.0,
                "{}: {delay}",
                index + 1
            );
        }
        assert!(delays[..12].is_sorted());
        // Not all at once.
        let others: std::collections::BTreeSet<_> =
            (0..20).map(|n| pace.delay(Uuid::from_u128(n), 5).as_millis()).collect();
        assert!(others.len() > 15, "{others:?}");
    }
}
