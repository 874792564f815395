//! Stock: what came in, less what went out, is on hand; nothing is reserved that is not; and every reservation is that of
//! an order, which ends it.

use souk_domain::{OrderId, SkuId, inventory::InventoryEvent};

use crate::{At, Audit, returns::Accepted};

/// One SKU.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    pub received: i64,
    pub adjusted: i64,
    pub committed: i64,
    /// Sent back, to be sold again.
    pub returned: i64,
    pub reserved: i64,
    /// It was said already that it does not add up.
    told: bool,
}

/// How an order's reservation of a SKU stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Open(u32),
    Rejected,
    Released,
    Committed(u32),
}

impl Stock {
    pub fn on_hand(&self) -> i64 {
        self.received + self.adjusted + self.returned - self.committed
    }

    fn is_sound(&self) -> bool {
        self.on_hand() >= 0
            && self.returned <= self.committed
            && (0..=self.on_hand()).contains(&self.reserved)
    }
}

impl Audit {
    pub(crate) fn inventory(&mut self, at: At<'_>, sku: SkuId, event: &InventoryEvent) {
        let stock = self.skus.entry(sku).or_default();
        let held = match event {
            InventoryEvent::StockReceived(event) => {
                stock.received += i64::from(event.quantity);
                None
            }
            InventoryEvent::StockAdjusted(event) => {
                stock.adjusted += event.change;
                None
            }
            InventoryEvent::StockReturned(event) => {
                stock.returned += i64::from(event.quantity);
                let awaited = Accepted::take(&mut self.returns, event.return_id, sku, event.quantity);
                if let Err(problem) = awaited {
                    self.findings.push(at.stream, Some(at.position), problem);
                }
                None
            }
            InventoryEvent::StockReserved(event) => {
                stock.reserved += i64::from(event.quantity);
                Some((event.order_id, Held::Open(event.quantity), event.quantity))
            }
            InventoryEvent::ReservationRejected(event) => Some((event.order_id, Held::Rejected, 0)),
            InventoryEvent::ReservationReleased(event) => {
                stock.reserved -= i64::from(event.quantity);
                Some((event.order_id, Held::Released, event.quantity))
            }
            InventoryEvent::ReservationCommitted(event) => {
                stock.reserved -= i64::from(event.quantity);
                stock.committed += i64::from(event.quantity);
                Some((event.order_id, Held::Committed(event.quantity), event.quantity))
            }
        };
        let sound = stock.is_sound();
        let told = std::mem::replace(&mut stock.told, !sound);
        if !sound && !told {
            let Stock { received, adjusted, committed, returned, reserved, .. } = *stock;
            let there = stock.on_hand();
            self.wrong(
                at,
                format!(
                    "expected what is reserved to be on hand, found {reserved} reserved of {there} \
                     ({received} received, {adjusted:+} adjusted, {committed} committed, {returned} returned)"
                ),
            );
        }
        if let Some((order, becomes, quantity)) = held {
            let checked = self.hold(order, sku, becomes, quantity);
            self.check(at, checked);
        }
    }

    fn hold(&mut self, id: OrderId, sku: SkuId, becomes: Held, quantity: u32) -> Result<(), String> {
        let Some(order) = self.orders.get_mut(&id) else {
            return Err(format!("expected an order {id} for this reservation, found none"));
        };
        let completed = order.is_completed();
        let Some(live) = &mut order.live else {
            // A reservation that comes late finds the order gone, and is refused.
            let harmless = match becomes {
                Held::Rejected => true,
                Held::Released => quantity == 0 && !completed,
                Held::Open(_) | Held::Committed(_) => false,
            };
            let end = if completed { "completed" } else { "cancelled" };
            return if harmless { Ok(()) } else { Err(format!("order {id} is {end} already")) };
        };
        let known = live.held.insert(sku, becomes);
        let follows = match (known, becomes) {
            (None | Some(Held::Released), Held::Rejected) | (None, Held::Open(_)) => true,
            (Some(Held::Open(open)), Held::Released | Held::Committed(_)) => open == quantity,
            (None | Some(Held::Released | Held::Rejected), Held::Released) => quantity == 0,
            _ => false,
        };
        if !follows {
            return Err(format!("order {id} has {known:?} of it, which cannot become {becomes:?}"));
        }
        match live.wanted.get(&sku) {
            Some(wanted) if matches!(becomes, Held::Open(_)) && *wanted != quantity => {
                Err(format!("expected order {id} to reserve {wanted}, found {quantity}"))
            }
            None if order.status.is_some() => Err(format!("order {id} has no line of it")),
            _ => Ok(()),
        }
    }
}
