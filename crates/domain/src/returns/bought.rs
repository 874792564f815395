//! What the units of an order come to when they are returned.

use std::collections::BTreeMap;

use crate::{
    AccountId, Money, SkuId,
    order::{OrderLine, OrderPlaced},
};

/// A seller's lines of an order, and what the buyer paid for each unit: its price, less its part of what was taken off the
/// goods, with its part of the tax. What sending cost is not in it.
///
/// The order's units stand in a row, line by line. What was paid for the first so many is rounded, and a unit comes to what
/// it adds to that; so however they come back, all together are what was paid for the goods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bought {
    /// Each with what all lines before it come to.
    lines: Vec<(i128, OrderLine)>,
    goods: i128,
    paid: Money,
}

impl Bought {
    /// Of all lines of the order, those of one seller.
    pub fn of(placed: &OrderPlaced, seller: AccountId) -> Self {
        let (mut goods, mut own) = (0, Vec::new());
        for line in &placed.lines {
            if line.seller_id == seller {
                own.push((goods, line.clone()));
            }
            goods += i128::from(line.unit_price.amount) * i128::from(line.quantity);
        }
        let paid = placed.charges.paid_for_goods(i64::try_from(goods).unwrap_or(i64::MAX));
        let paid = paid.clamp(0, placed.total.amount.max(0));
        Self { lines: own, goods, paid: Money { amount: paid, ..placed.total } }
    }

    pub(super) fn of_sku(&self, sku_id: SkuId) -> impl Iterator<Item = &(i128, OrderLine)> {
        self.lines.iter().filter(move |(_, line)| line.sku_id == sku_id)
    }

    /// For so many units of each SKU after so many others.
    pub(super) fn price(&self, units: &BTreeMap<SkuId, u32>, before: &BTreeMap<SkuId, u32>) -> Money {
        let mut sum = 0;
        for (&sku_id, &quantity) in units {
            let mut from = before.get(&sku_id).copied().unwrap_or(0);
            let mut to = from.saturating_add(quantity);
            for (start, line) in self.of_sku(sku_id) {
                let up_to = |unit: u32| {
                    let price = i128::from(line.unit_price.amount) * i128::from(unit.min(line.quantity));
                    (start + price) * i128::from(self.paid.amount) / self.goods.max(1)
                };
                sum += up_to(to) - up_to(from);
                (from, to) = (from.saturating_sub(line.quantity), to.saturating_sub(line.quantity));
            }
        }
        Money { amount: i64::try_from(sum).unwrap_or(self.paid.amount), ..self.paid }
    }
}
