//! The books of sellers: every entry sums to zero, and every order that is completed is booked once.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, Currency, OrderId,
    ledger::{EntryKind, LedgerAccount, LedgerEvent},
};

use crate::{At, Audit, GRACE};

/// What the ledgers come to.
#[derive(Default)]
pub(crate) struct Books {
    /// In minor units.
    balances: HashMap<(AccountId, Currency, LedgerAccount), i64>,
    /// Completed orders whose sale is not booked: since when, and how many sellers' ledgers lack it.
    unbooked: HashMap<OrderId, (DateTime<Utc>, u32)>,
    /// When the latest order was completed whose sale is booked.
    reached: Option<DateTime<Utc>>,
}

impl Books {
    pub(crate) fn expect(&mut self, order: OrderId, completed_at: DateTime<Utc>, sellers: u32) {
        self.unbooked.insert(order, (completed_at, sellers));
    }

    fn sell(&mut self, order: OrderId) -> Result<(), String> {
        let Some((completed_at, lacking)) = self.unbooked.get_mut(&order) else {
            return Err(format!("order {order} is sold before it is completed, or once too often"));
        };
        *lacking = lacking.saturating_sub(1);
        if *lacking == 0 {
            self.reached = self.reached.max(Some(*completed_at));
            self.unbooked.remove(&order);
        }
        Ok(())
    }
}

impl Audit {
    pub(crate) fn ledger(&mut self, at: At<'_>, seller: AccountId, event: &LedgerEvent) {
        if let LedgerEvent::EntryPosted(entry) = event
            && entry.kind == EntryKind::Sale
        {
            let checked = self.books.sell(entry.order_id);
            self.check(at, checked);
        }
        let mut sums = BTreeMap::<String, i64>::new();
        for posting in event.postings() {
            let account = (seller, posting.amount.currency, posting.account);
            let balance = self.books.balances.entry(account).or_default();
            *balance = balance.saturating_add(posting.amount.amount);
            let sum = sums.entry(posting.amount.currency.to_string()).or_default();
            *sum = sum.saturating_add(posting.amount.amount);
        }
        for (currency, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            self.wrong(at, format!("expected the postings to sum to zero, found {sum} {currency}"));
        }
    }

    /// What each account of each seller comes to, in minor units.
    pub fn balances(&self) -> &HashMap<(AccountId, Currency, LedgerAccount), i64> {
        &self.books.balances
    }

    /// At the end of the log: what the bookkeeper has passed over. What was completed after all that is booked he has not come to
    /// yet.
    pub(crate) fn unbooked(&mut self) {
        let Some(reached) = self.books.reached else { return };
        for (order, (completed_at, lacking)) in &self.books.unbooked {
            let costs = |order: &crate::Order| order.total.is_some_and(|total| total.amount > 0);
            if *completed_at < reached - GRACE && self.orders.get(order).is_some_and(costs) {
                let problem =
                    format!("completed at {completed_at}, and {lacking} sellers' ledgers lack the sale");
                self.findings.push(format!("order-{order}"), None, problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use souk_domain::testing::examples::{cents, order_id, sale};

    use super::*;
    use crate::Order;

    #[test]
    fn what_the_bookkeeper_has_passed_over_is_found_and_what_he_has_not_come_to_is_not() {
        let mut audit = Audit::default();
        let start = DateTime::<Utc>::UNIX_EPOCH;
        let seller = souk_domain::testing::examples::SELLER;
        for (n, hours, total) in [(1, 0, 3198), (2, 0, 0), (3, 3, 3198), (4, 9, 3198)] {
            let order = Order { total: Some(cents(total)), ..Order::default() };
            audit.orders.insert(order_id(n), order);
            audit.books.expect(order_id(n), start + TimeDelta::hours(hours), 1);
        }
        let at = At { stream: "ledger-1", position: 0, time: start };
        let sold =
            LedgerEvent::EntryPosted(souk_domain::ledger::EntryPosted { order_id: order_id(3), ..sale() });
        audit.ledger(at, seller, &sold);
        assert_eq!(audit.findings.count, 0);
        audit.finish();
        let found: Vec<_> = audit.findings.kept.iter().map(|finding| finding.stream.as_str()).collect();
        assert_eq!(found, [format!("order-{}", order_id(1))]);
        audit.ledger(at, seller, &sold);
        assert!(audit.findings.kept[1].problem.contains("once too often"), "{:?}", audit.findings);
        let balance = audit.balances()[&(seller, cents(0).currency, LedgerAccount::Commission)];
        assert_eq!(balance, 2 * 319);
    }
}
