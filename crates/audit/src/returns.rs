//! Returns: what is put back was accepted to be, once, before the return is completed; and what was agreed on goes back.

use std::collections::{BTreeMap, HashMap};

use souk_domain::{
    Money, ReturnId, SkuId,
    returns::{Disposition, ReturnCompleted, ReturnEvent},
};

use crate::{At, Audit};

/// What a return that was accepted waits for.
#[derive(Debug)]
pub(crate) struct Accepted {
    restock: BTreeMap<SkuId, u32>,
    refund: Money,
}

impl Accepted {
    /// These units are back in stock.
    pub(crate) fn take(
        waiting: &mut HashMap<ReturnId, Self>,
        id: ReturnId,
        sku: SkuId,
        quantity: u32,
    ) -> Result<(), String> {
        match waiting.get_mut(&id).and_then(|accepted| accepted.restock.remove(&sku)) {
            Some(units) if units == quantity => Ok(()),
            found => Err(format!("expected return {id} to put back {found:?}, found {quantity}")),
        }
    }
}

impl Audit {
    /// Less goes back than was agreed on only because the buyer's bank has taken the rest.
    fn is_short_of(&self, event: &ReturnCompleted, agreed: Money) -> bool {
        let disputed =
            self.orders.get(&event.return_id.returns.order_id).map_or(0, |order| order.money.disputed);
        let missing = agreed.amount.saturating_sub(event.refunded.amount);
        agreed.currency == event.refunded.currency && (0..=disputed).contains(&missing)
    }

    pub(crate) fn return_event(&mut self, at: At<'_>, event: &ReturnEvent) {
        let checked = match event {
            ReturnEvent::ReturnAccepted(event) => {
                let mut restock = BTreeMap::<SkuId, u32>::new();
                for line in event.lines.iter().filter(|line| line.disposition == Disposition::Restock) {
                    *restock.entry(line.sku_id).or_default() += line.quantity;
                }
                match self.returns.insert(event.return_id, Accepted { restock, refund: event.refund }) {
                    None => Ok(()),
                    Some(_) => Err(format!("return {} is accepted twice", event.return_id)),
                }
            }
            ReturnEvent::ReturnCompleted(event) => match self.returns.remove(&event.return_id) {
                Some(Accepted { restock, refund })
                    if restock.is_empty()
                        && (refund == event.refunded || self.is_short_of(event, refund)) =>
                {
                    Ok(())
                }
                found => Err(format!(
                    "completed: expected nothing to be left to put back and {} to be agreed on, found {found:?}",
                    event.refunded
                )),
            },
            ReturnEvent::ReturnRequested(_)
            | ReturnEvent::ReturnDeclined(_)
            | ReturnEvent::ReturnParked(_)
            | ReturnEvent::ReturnResumed(_) => Ok(()),
        };
        self.check(at, checked);
    }
}
