//! The books of sellers: every entry sums to zero; and of every completed order each seller's part of the total is booked,
//! once, and whatever the buyer got back of it, by a return or by his bank.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, Currency, OrderId,
    ledger::{EntryKind, EntryPosted, LedgerAccount, LedgerEvent},
};

use crate::{At, Audit, GRACE};

/// What the ledgers come to. Amounts are in minor units.
#[derive(Default)]
pub(crate) struct Books {
    balances: HashMap<(AccountId, Currency, LedgerAccount), i64>,
    sales: HashMap<OrderId, Sale>,
    due: HashMap<(OrderId, Back), Due>,
    reached: Reached,
}

/// A completed order whose sale is not booked, or only for some of its sellers.
struct Sale {
    since: DateTime<Utc>,
    total: i64,
    /// What of the total is not booked.
    left: i64,
    sellers: i64,
    goods: i64,
    /// Who lacks it, each with what his goods come to.
    lacking: BTreeMap<AccountId, i64>,
}

impl Sale {
    /// In proportion to the goods. How rounding is shared out is the bookkeeper's, so nobody's part is off by a unit for each
    /// seller.
    fn is_share(&self, goods: i64, amount: i64) -> bool {
        let times = |one: i64, other: i64| i128::from(one) * i128::from(other);
        let off = times(amount, self.goods) - times(self.total, goods);
        self.goods == 0 || off.abs() <= times(self.goods, self.sellers)
    }
}

/// What takes back of a sale, and has to be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Back {
    /// Returned to this seller.
    Refund(AccountId),
    /// Held while it is in dispute, held no longer, and gone.
    Disputed,
    Decided,
    Lost,
    /// The market's, whatever became of the order.
    Loss,
}

struct Due {
    since: DateTime<Utc>,
    amount: i64,
}

/// How far the bookkeeper has come, who goes by the log.
#[derive(Default)]
struct Reached {
    /// When he last wrote anything.
    wrote: Option<DateTime<Utc>>,
    /// When the latest order was completed whose sale is booked: as it is, as it was when he last came to a new hour, and
    /// at the one before that. He takes many at once and sales first: what he has passed over shows after that.
    now: Option<DateTime<Utc>>,
    hour: Option<DateTime<Utc>>,
    before: [Option<DateTime<Utc>>; 2],
}

impl Reached {
    fn write(&mut self, at: DateTime<Utc>) {
        if self.hour.is_none_or(|hour| hour + GRACE <= at) {
            self.hour = Some(at);
            self.before = [self.before[1], self.now];
        }
        self.wrote = Some(at);
    }

    /// Whether what is due since then is passed over, or has to wait for one who writes nothing.
    fn is_late(&self, since: DateTime<Utc>, end: DateTime<Utc>) -> bool {
        let is_long_before = |then: DateTime<Utc>| since < then - GRACE;
        let rests = self.wrote.is_none_or(|wrote| wrote < end - GRACE);
        self.before[0].is_some_and(is_long_before) || (rests && is_long_before(end))
    }
}

impl Books {
    /// The order is completed: so much is each seller's of it by his goods.
    pub(crate) fn sell(
        &mut self,
        order: OrderId,
        since: DateTime<Utc>,
        total: i64,
        goods: BTreeMap<AccountId, i64>,
    ) {
        for what in [Back::Disputed, Back::Decided, Back::Lost, Back::Loss] {
            // It was to wait for the sale.
            if let Some(due) = self.due.get_mut(&(order, what)) {
                due.since = since;
            }
        }
        let sellers = goods.len() as i64;
        let sum = goods.values().fold(0, |sum: i64, goods| sum.saturating_add(*goods));
        let sale = Sale { since, total, left: total, sellers, goods: sum, lacking: goods };
        self.sales.insert(order, sale);
    }

    fn sold(&mut self, order: OrderId, seller: AccountId, amount: i64) -> Result<(), String> {
        let sale = self.sales.get_mut(&order);
        let sale = sale.and_then(|sale| sale.lacking.remove(&seller).map(|goods| (sale, goods)));
        let Some((sale, goods)) = sale else {
            return Err(format!("order {order} is sold before it is completed, or once too often"));
        };
        let (total, is_share) = (sale.total, sale.is_share(goods, amount));
        sale.left = sale.left.saturating_sub(amount);
        let left = sale.left;
        if sale.lacking.is_empty() {
            self.reached.now = self.reached.now.max(Some(sale.since));
            self.sales.remove(&order);
            if left != 0 {
                return Err(format!(
                    "expected the sales of order {order} to come to {total}, {left} is left"
                ));
            }
        }
        if is_share {
            return Ok(());
        }
        Err(format!("expected a part of order {order}, of {total}, for goods of {goods}, found {amount}"))
    }

    /// So much went back, and has to be booked.
    pub(crate) fn owe(&mut self, order: OrderId, what: Back, amount: i64, since: DateTime<Utc>) {
        if amount != 0 {
            let due = self.due.entry((order, what)).or_insert(Due { since, amount: 0 });
            due.amount = due.amount.saturating_add(amount);
        }
    }

    fn book(&mut self, order: OrderId, what: Back, amount: i64) -> Result<(), String> {
        if amount == 0 {
            return Ok(());
        }
        let owed = self.due.get(&(order, what)).map_or(0, |due| due.amount);
        match self.due.get_mut(&(order, what)) {
            Some(due) if amount < due.amount => due.amount -= amount,
            _ => drop(self.due.remove(&(order, what))),
        }
        if (0..=owed).contains(&amount) {
            return Ok(());
        }
        Err(format!("expected at most {owed} of order {order} to be booked as {what:?}, found {amount}"))
    }

    fn post(&mut self, seller: AccountId, entry: &EntryPosted) -> Result<(), String> {
        let sum = |account| {
            let of_account = entry.postings.iter().filter(|posting| posting.account == account);
            of_account.fold(0_i64, |sum, posting| sum.saturating_add(posting.amount.amount))
        };
        let (order, clearing, held) =
            (entry.order_id, sum(LedgerAccount::Clearing), sum(LedgerAccount::Chargebacks));
        match entry.kind {
            EntryKind::Sale => self.sold(order, seller, clearing.saturating_neg()),
            EntryKind::Refund => self.book(order, Back::Refund(seller), clearing),
            EntryKind::Chargeback => self.book(order, Back::Disputed, held),
            EntryKind::ChargebackWon => self.book(order, Back::Decided, held.saturating_neg()),
            EntryKind::ChargebackLost => {
                let loss = sum(LedgerAccount::Losses).saturating_neg();
                let decided = self.book(order, Back::Decided, held.saturating_neg());
                let gone = self.book(order, Back::Lost, clearing.saturating_sub(loss));
                decided.and(gone).and(self.book(order, Back::Loss, loss))
            }
        }
    }
}

impl Audit {
    pub(crate) fn ledger(&mut self, at: At<'_>, seller: AccountId, event: &LedgerEvent) {
        if let LedgerEvent::EntryPosted(entry) = event {
            self.books.reached.write(at.time);
            let checked = self.books.post(seller, entry);
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

    /// At the end of the log: what the bookkeeper has passed over, or has left lying since he last wrote. As long as he
    /// writes, he may be catching up.
    pub(crate) fn unbooked(&mut self) {
        let Books { sales, due, reached, .. } = &self.books;
        let end = self.time().unwrap_or_default();
        let mut problems = Vec::new();
        for (order, Sale { since, left, lacking, .. }) in sales {
            if *left != 0 && reached.is_late(*since, end) {
                let sellers = lacking.len();
                let problem =
                    format!("completed at {since}, and {sellers} sellers' ledgers lack the sale, of {left}");
                problems.push((*order, problem));
            }
        }
        for ((order, what), Due { since, amount }) in due {
            // A chargeback of an order that was cancelled is none of the sellers'.
            let is_booked = |order: &crate::Order| match what {
                Back::Loss => order.live.is_none(),
                _ => order.is_completed(),
            };
            if self.orders.get(order).is_some_and(is_booked) && reached.is_late(*since, end) {
                problems.push((*order, format!("{amount} since {since} are not booked as {what:?}")));
            }
        }
        problems.sort();
        for (order, problem) in problems {
            self.findings.push(format!("order-{order}"), None, problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use souk_domain::{
        ledger::{Posting, moved},
        order::OrderStatus,
        testing::examples::{SELLER, cents, order_id, sale},
    };

    use super::*;
    use crate::Order;

    const OTHER: AccountId = AccountId(uuid::Uuid::from_u128(0xAB));

    fn hour(hours: i64) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    /// Each completed at an hour, for so much, half of it each of two sellers'.
    fn completed(orders: &[(u128, i64, i64)]) -> Audit {
        let mut audit = Audit::default();
        for &(n, hours, total) in orders {
            let order = Order { status: Some(OrderStatus::Completed), ..Order::default() };
            audit.orders.insert(order_id(n), order);
            let goods = [SELLER, OTHER].map(|seller| (seller, total / 2));
            audit.books.sell(order_id(n), hour(hours), total, goods.into());
        }
        audit
    }

    fn post(
        audit: &mut Audit,
        hours: i64,
        seller: AccountId,
        order: u128,
        kind: EntryKind,
        moves: Vec<Posting>,
    ) {
        let at = At { stream: "ledger-1", position: 0, time: hour(hours) };
        let entry = EntryPosted { order_id: order_id(order), kind, postings: moves, ..sale() };
        audit.ledger(at, seller, &entry.into());
    }

    fn sell(audit: &mut Audit, hours: i64, seller: AccountId, order: u128, amount: i64) {
        let moves = moved(cents(amount), LedgerAccount::Clearing, LedgerAccount::SellerPayable);
        post(audit, hours, seller, order, EntryKind::Sale, moves);
    }

    /// Refunded to the first seller's buyer, or lost to the bank.
    fn give_back(audit: &mut Audit, hours: i64, kind: EntryKind, amount: i64) {
        let from =
            if kind == EntryKind::Refund { LedgerAccount::SellerPayable } else { LedgerAccount::Chargebacks };
        post(audit, hours, SELLER, 1, kind, moved(cents(amount), from, LedgerAccount::Clearing));
    }

    /// What is found of orders, and of entries, until that hour.
    fn found(mut audit: Audit, hours: i64) -> Vec<String> {
        audit.last = Some((0, hour(hours)));
        audit.finish();
        audit
            .findings
            .kept
            .into_iter()
            .map(|finding| format!("{}: {}", finding.stream, finding.problem))
            .collect()
    }

    #[test]
    fn every_seller_has_his_part_of_a_sale_and_has_it_once() {
        let mut audit = completed(&[(1, 0, 100), (2, 0, 100), (3, 0, 101)]);
        for seller in [SELLER, OTHER] {
            sell(&mut audit, 0, seller, 1, 50);
        }
        assert_eq!(audit.findings.count, 0);
        // Twice the one's and never the other's; and two parts that are not all.
        sell(&mut audit, 0, SELLER, 2, 50);
        sell(&mut audit, 0, SELLER, 2, 50);
        sell(&mut audit, 0, SELLER, 3, 50);
        sell(&mut audit, 0, OTHER, 3, 50);
        sell(&mut audit, 0, OTHER, 2, 40);
        let found = found(audit, 0);
        let said = ["once too often", "1 is left", "10 is left"];
        assert_eq!(found.len(), said.len(), "{found:?}");
        for (found, said) in found.iter().zip(said) {
            assert!(found.contains(said), "{found}");
        }
    }

    #[test]
    fn what_the_bookkeeper_has_passed_over_is_found_and_what_he_has_not_come_to_is_not() {
        let begin = || {
            let mut audit = completed(&[(1, 0, 100), (2, 0, 0), (3, 3, 100), (4, 9, 100)]);
            for seller in [SELLER, OTHER] {
                sell(&mut audit, 4, seller, 3, 50);
            }
            audit
        };
        // He goes on: he may have begun with many at once.
        assert_eq!(found(begin(), 4), [""; 0]);
        let mut late = begin();
        for hours in [6, 8, 9] {
            post(&mut late, hours, SELLER, 2, EntryKind::Refund, vec![]);
        }
        let passed_over = found(late, 9);
        assert!(
            passed_over.len() == 1 && passed_over[0].contains(&order_id(1).to_string()),
            "{passed_over:?}"
        );
        // He writes nothing any more.
        assert_eq!(found(begin(), 11).len(), 2);
        // Or never did.
        assert_eq!(found(completed(&[(1, 0, 100)]), 1), [""; 0]);
        assert_eq!(found(completed(&[(1, 0, 100)]), 2).len(), 1);
    }

    #[test]
    fn what_went_back_is_booked_as_much_as_it_was() {
        let begin = |lost: i64| {
            let mut audit = completed(&[]);
            let order = Order { status: Some(OrderStatus::Completed), ..Order::default() };
            audit.orders.insert(order_id(1), order);
            audit.books.owe(order_id(1), Back::Refund(SELLER), 30, hour(0));
            audit.books.owe(order_id(1), Back::Lost, lost, hour(0));
            audit.books.owe(order_id(1), Back::Decided, lost, hour(0));
            audit
        };
        let mut booked = begin(20);
        give_back(&mut booked, 0, EntryKind::Refund, 10);
        give_back(&mut booked, 0, EntryKind::Refund, 20);
        give_back(&mut booked, 0, EntryKind::ChargebackLost, 20);
        assert_eq!(found(booked, 9), [""; 0]);
        assert_eq!(
            found(begin(0), 9),
            [format!(
                "order-{}: 30 since {} are not booked as {:?}",
                order_id(1),
                hour(0),
                Back::Refund(SELLER)
            )]
        );
        let mut too_much = begin(0);
        give_back(&mut too_much, 0, EntryKind::Refund, 31);
        assert_eq!(found(too_much, 0).len(), 1);
        let mut cancelled = begin(0);
        cancelled.orders.clear();
        assert_eq!(found(cancelled, 9), [""; 0]);
    }

    #[test]
    fn what_the_market_loses_is_booked_of_a_cancelled_order_as_well() {
        let begin = || {
            let mut audit = completed(&[]);
            audit.orders.insert(order_id(1), Order::default());
            audit.books.owe(order_id(1), Back::Decided, 30, hour(0));
            audit.books.owe(order_id(1), Back::Loss, 30, hour(0));
            audit
        };
        let lose = |audit: &mut Audit, amount: i64| {
            let moves = moved(cents(amount), LedgerAccount::Losses, LedgerAccount::Clearing);
            post(audit, 0, SELLER, 1, EntryKind::ChargebackLost, moves);
        };
        let mut booked = begin();
        lose(&mut booked, 10);
        lose(&mut booked, 20);
        assert_eq!(found(booked, 9), [""; 0]);
        assert_eq!(found(begin(), 9).len(), 1);
        let mut too_much = begin();
        lose(&mut too_much, 31);
        assert_eq!(found(too_much, 0).len(), 1);
    }
}
