//! How much more often than by chance two items meet.

/// The logarithm of the likelihood ratio of "they have nothing to do with each other" (G²), or 0 where they meet less often
/// than they would then. `both`: orders that hold the two; `one` and `other`: orders that hold either; `all`: orders.
/// The counts need not be whole; all of them times a number is the result times that number.
pub(crate) fn ratio(both: f64, one: f64, other: f64, all: f64) -> f64 {
    if both * all <= one * other {
        return 0.0;
    }
    let (only_one, only_other) = ((one - both).max(0.0), (other - both).max(0.0));
    let neither = (all - both - only_one - only_other).max(0.0);
    let rows = entropy(&[both + only_one, only_other + neither]);
    let columns = entropy(&[both + only_other, only_one + neither]);
    let cells = entropy(&[both, only_one, only_other, neither]);
    (2.0 * (rows + columns - cells)).max(0.0)
}

/// Not divided by the sum.
fn entropy(counts: &[f64]) -> f64 {
    let of = |count: f64| if count > 0.0 { count * count.ln() } else { 0.0 };
    of(counts.iter().sum()) - counts.iter().copied().map(of).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_meets_by_chance_has_nothing_to_do_with_each_other() {
        assert!(ratio(10.0, 100.0, 100.0, 1_000.0) < 1e-6);
        assert!(ratio(1.0, 100.0, 100.0, 1_000.0).abs() < f64::EPSILON, "nor what avoids each other");
    }

    #[test]
    fn once_is_no_habit() {
        let (once, often) = (ratio(1.0, 1.0, 1.0, 1_000.0), ratio(50.0, 100.0, 100.0, 1_000.0));
        assert!(once > 0.0 && often > 5.0 * once, "{once} {often}");
    }

    #[test]
    fn what_everybody_buys_is_nobodys_company() {
        let (rare, common) = (ratio(20.0, 40.0, 40.0, 1_000.0), ratio(20.0, 40.0, 450.0, 1_000.0));
        assert!(rare > 10.0 * common, "{rare} {common}");
    }
}
