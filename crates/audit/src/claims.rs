//! Coupons and credit: no promotion is used more often than it may be, no more is held and spent than was granted, and every
//! claim is that of an order, which ends it.

use std::collections::{BTreeMap, HashMap};

use souk_domain::{
    AccountId, CreditId, OrderId, PromotionId,
    credit::CreditEvent,
    promotion::{PromotionCreated, PromotionEvent},
};

use crate::{At, Audit};

/// How often a code may be used, and who uses it.
#[derive(Default)]
pub(crate) struct Coupons {
    terms: Option<PromotionCreated>,
    used: u64,
    by_buyer: HashMap<AccountId, u32>,
    open: BTreeMap<OrderId, AccountId>,
}

/// A gift card or store credit, in minor units.
#[derive(Default)]
pub(crate) struct Purse {
    balance: i64,
    open: BTreeMap<OrderId, i64>,
    /// By order: what it spent and did not get back.
    spent: BTreeMap<OrderId, i64>,
}

impl Coupons {
    /// Held by orders under way, and redeemed; `None` of one that was never created.
    pub(crate) fn uses(&self) -> Option<(u64, u64)> {
        self.terms.as_ref()?;
        let held = self.open.len() as u64;
        Some((held, self.used.saturating_sub(held)))
    }

    fn take(&mut self, event: &PromotionEvent) -> Result<(), String> {
        match event {
            PromotionEvent::PromotionCreated(event) => self.terms = Some(event.clone()),
            PromotionEvent::CouponClaimed(event) => {
                if self.open.insert(event.order_id, event.buyer_id).is_some() {
                    return Err(format!("order {} claims it twice", event.order_id));
                }
                self.used += 1;
                let by_buyer = self.by_buyer.entry(event.buyer_id).or_default();
                *by_buyer += 1;
                let limits = self.terms.as_ref().map(|terms| (terms.limit, terms.limit_per_buyer));
                let (limit, per_buyer) = limits.unwrap_or_default();
                if limit.is_some_and(|limit| self.used > limit.into())
                    || per_buyer.is_some_and(|limit| *by_buyer > limit)
                {
                    return Err(format!(
                        "expected at most {limit:?} uses and {per_buyer:?} of one buyer, found {} and {by_buyer}",
                        self.used
                    ));
                }
            }
            PromotionEvent::CouponReleased(event) => {
                if let Some(buyer) = self.open.remove(&event.order_id) {
                    self.used -= 1;
                    if let Some(count) = self.by_buyer.get_mut(&buyer) {
                        *count -= 1;
                    }
                }
            }
            PromotionEvent::CouponRedeemed(event) => {
                if self.open.remove(&event.order_id).is_none() {
                    return Err(format!("order {} redeems what it has not claimed", event.order_id));
                }
            }
            PromotionEvent::CouponRejected(_) | PromotionEvent::PromotionEnded(_) => {}
        }
        Ok(())
    }
}

impl Purse {
    fn take(&mut self, event: &CreditEvent) -> Result<(), String> {
        match event {
            CreditEvent::CreditGranted(event) => {
                self.balance = self.balance.saturating_add(event.amount.amount);
            }
            CreditEvent::CreditHeld(event) => {
                if self.open.insert(event.order_id, event.amount.amount).is_some() {
                    return Err(format!("order {} holds of it twice", event.order_id));
                }
            }
            CreditEvent::CreditReleased(event) => {
                let amount = event.amount.map(|amount| amount.amount);
                let held = self.open.remove(&event.order_id);
                if held != amount {
                    return Err(format!(
                        "order {} holds {held:?} of it, and releases {amount:?}",
                        event.order_id
                    ));
                }
            }
            CreditEvent::CreditSpent(event) => {
                let (held, amount) = (self.open.remove(&event.order_id), event.amount.amount);
                self.balance = self.balance.saturating_sub(amount);
                *self.spent.entry(event.order_id).or_default() += amount;
                if held != Some(amount) {
                    return Err(format!(
                        "order {} holds {held:?} of it, and spends {amount}",
                        event.order_id
                    ));
                }
            }
            CreditEvent::CreditReturned(event) => {
                self.balance = self.balance.saturating_add(event.amount.amount);
                let left = self.spent.entry(event.order_id).or_default();
                *left -= event.amount.amount;
                if *left < 0 {
                    return Err(format!("order {} gets back more than it spent", event.order_id));
                }
            }
            CreditEvent::CreditOpened(_) | CreditEvent::CreditHoldRejected(_) => {}
        }
        let held: i64 = self.open.values().sum();
        if held > self.balance {
            return Err(format!("expected what is held to be there, found {held} held of {}", self.balance));
        }
        Ok(())
    }
}

impl Audit {
    pub(crate) fn promotion(&mut self, at: At<'_>, id: PromotionId, event: &PromotionEvent) {
        let checked = self.coupons.entry(id).or_default().take(event);
        self.check(at, checked);
    }

    pub(crate) fn credit(&mut self, at: At<'_>, id: CreditId, event: &CreditEvent) {
        let checked = self.purses.entry(id).or_default().take(event);
        self.check(at, checked);
    }

    /// At the end of the log: who holds what though the order has ended.
    pub(crate) fn claims_left(&mut self) {
        let coupons = self.coupons.iter().flat_map(|(id, coupons)| {
            coupons.open.keys().map(move |order| (format!("promotion-{id}"), *order))
        });
        let purses = self
            .purses
            .iter()
            .flat_map(|(id, purse)| purse.open.keys().map(move |order| (format!("credit-{id}"), *order)));
        let left: Vec<_> = coupons
            .chain(purses)
            .filter(|(_, order)| self.orders.get(order).is_none_or(|order| order.live.is_none()))
            .collect();
        for (stream, order) in left {
            self.findings.push(stream, None, format!("order {order} has ended, and still holds of it"));
        }
    }
}
