//! Returns: what is put back was accepted to be, once, before the return is completed; and what was agreed on goes back.

use std::collections::{BTreeMap, HashMap};

use souk_domain::{
    Money, ReturnId, ReturnsId, SkuId,
    returns::{Disposition, ReturnCompleted, ReturnEvent, ReturnStatus},
};

use crate::{At, Audit, ledgers::Back};

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
    /// Less goes back than was agreed on only because the buyer's bank has taken the rest: of all returns of an order together
    /// not more than that.
    fn is_short_of(&mut self, event: &ReturnCompleted, agreed: Money) -> bool {
        let missing = agreed.amount.saturating_sub(event.refunded.amount);
        let Some(order) = self.orders.get_mut(&event.return_id.returns.order_id) else { return false };
        order.money.short = order.money.short.saturating_add(missing);
        agreed.currency == event.refunded.currency
            && missing >= 0
            && order.money.short <= order.money.disputed
    }

    pub(crate) fn return_event(&mut self, at: At<'_>, event: &ReturnEvent) {
        let status = match event {
            ReturnEvent::ReturnRequested(_) => ReturnStatus::Requested,
            ReturnEvent::ReturnAccepted(_)
            | ReturnEvent::ReturnResumed(_)
            | ReturnEvent::ReturnSettled(_) => ReturnStatus::Accepted,
            ReturnEvent::ReturnDeclined(_) => ReturnStatus::Declined,
            ReturnEvent::ReturnParked(_) => ReturnStatus::Parked,
            ReturnEvent::ReturnCompleted(_) => ReturnStatus::Completed,
        };
        self.return_states.insert(event.return_id(), status);
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
            ReturnEvent::ReturnCompleted(event) => {
                let ReturnsId { order_id, seller_id } = event.return_id.returns;
                self.books.owe(order_id, Back::Refund(seller_id), event.refunded.amount, at.time);
                match self.returns.remove(&event.return_id) {
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
                }
            }
            ReturnEvent::ReturnRequested(_)
            | ReturnEvent::ReturnDeclined(_)
            | ReturnEvent::ReturnParked(_)
            | ReturnEvent::ReturnResumed(_)
            | ReturnEvent::ReturnSettled(_) => Ok(()),
        };
        self.check(at, checked);
    }
}
