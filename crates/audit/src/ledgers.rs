//! The books of sellers: every entry sums to zero.

use std::collections::BTreeMap;

use souk_domain::ledger::LedgerEvent;

use crate::{At, Audit};

impl Audit {
    pub(crate) fn ledger(&mut self, at: At<'_>, event: &LedgerEvent) {
        let mut sums = BTreeMap::<String, i64>::new();
        for posting in event.postings() {
            let sum = sums.entry(posting.amount.currency.to_string()).or_default();
            *sum = sum.saturating_add(posting.amount.amount);
        }
        for (currency, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            self.wrong(at, format!("expected the postings to sum to zero, found {sum} {currency}"));
        }
    }
}
