//! Carts that were checked out and the orders they became: each goes its way step by step, and at its end stock, money and
//! shipments are where they belong.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, CartId, Money as Amount, OrderId, SkuId,
    cart::{CartCheckedOut, CartEvent},
    order::{CancelReason, OrderEvent, OrderLine, OrderPlaced, OrderStatus, total},
    shipment::ShipmentStatus,
};
use souk_event_log::{Position, Revision};

use crate::{At, Audit, checkouts::Parked, payments::Money, stock::Held};

/// What stays of an order, and what is at hand while it is on its way.
#[derive(Debug, Default)]
pub struct Order {
    /// `None` of one that is not placed yet.
    pub status: Option<OrderStatus>,
    pub reason: Option<CancelReason>,
    /// What the buyer agreed to.
    pub total: Option<Amount>,
    /// What all lines come to, and from how many sellers they are.
    pub goods: i64,
    pub sellers: u32,
    pub money: Money,
    /// Of its latest event, or of the checkout of its cart.
    pub position: Position,
    pub(crate) shipments: Vec<(u32, ShipmentStatus)>,
    pub(crate) live: Option<Box<Live>>,
}

#[derive(Debug, Default)]
pub(crate) struct Live {
    /// What was checked out, until the order is placed.
    agreed: Option<CartCheckedOut>,
    checked_out_at: DateTime<Utc>,
    pub(crate) wanted: BTreeMap<SkuId, u32>,
    /// What each seller's lines come to.
    pub(crate) sellers: BTreeMap<AccountId, i64>,
    pub(crate) held: BTreeMap<SkuId, Held>,
    /// Of the checkout, once the process manager has taken it up.
    pub(crate) deadline: Option<DateTime<Utc>>,
    pub(crate) parked: Option<Parked>,
}

impl Live {
    /// What had to be over before `then` and is not parked either hangs.
    pub(crate) fn is_in_time(&self, then: DateTime<Utc>) -> Result<(), String> {
        match self.deadline {
            _ if self.parked.is_some() => Ok(()),
            Some(deadline) if deadline < then => {
                Err(format!("expected to have ended or to be parked by {deadline}, found it on its way"))
            }
            None if self.checked_out_at < then => {
                Err(format!("checked out at {}, and nothing came of it", self.checked_out_at))
            }
            _ => Ok(()),
        }
    }
}

impl Order {
    /// Whether there is a checkout of it that has not ended, and whether it is parked.
    pub fn checkout(&self) -> Option<bool> {
        self.live.as_ref().filter(|live| live.deadline.is_some()).map(|live| live.parked.is_some())
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.status == Some(OrderStatus::Completed)
    }
}

/// What the gateway is to charge.
fn due(placed: &OrderPlaced) -> Amount {
    let credits = placed.charges.credits.iter().map(|credit| credit.amount.amount);
    Amount { amount: credits.fold(placed.total.amount, i64::saturating_sub), ..placed.total }
}

/// Whether the total is what its parts come to.
fn adds_up(placed: &OrderPlaced) -> bool {
    let Some(Ok(goods)) = total(&placed.lines) else { return false };
    let charges = &placed.charges;
    let discounts: Vec<_> = charges.discounts.iter().map(|discount| discount.amount).collect();
    let added: Vec<_> = charges.shipping.into_iter().chain(charges.tax).collect();
    let sum = |parts: &[Amount]| parts.iter().fold(0_i64, |sum, part| sum.saturating_add(part.amount));
    let parts_hold = discounts.iter().chain(&added).chain([&placed.total]).all(|part| part.amount >= 0);
    goods.amount.saturating_sub(sum(&discounts)).saturating_add(sum(&added)) == placed.total.amount
        && goods.currency == placed.total.currency
        && parts_hold
        && due(placed).amount >= 0
}

impl Audit {
    pub(crate) fn cart(&mut self, at: At<'_>, cart: CartId, revision: Revision, event: CartEvent) {
        let checkout = match event {
            CartEvent::CartCheckedOut(checkout) => checkout,
            CartEvent::CartOpened(_)
            | CartEvent::LineAdded(_)
            | CartEvent::LineQuantityChanged(_)
            | CartEvent::LineRemoved(_) => {
                if self.closed_carts.contains(&cart) {
                    self.wrong(at, "changed after it was checked out");
                }
                return;
            }
        };
        if !self.closed_carts.insert(cart) {
            self.wrong(at, "checked out twice");
        }
        let order = checkout.order_id;
        if revision.checked_sub(1).is_none_or(|before| !order.is_of_cart(cart, before)) {
            self.wrong(at, format!("order {order} is none that this cart could become"));
        }
        if self.orders.contains_key(&order) {
            return self.wrong(at, format!("order {order} comes of two carts"));
        }
        let mut live = Live { checked_out_at: at.time, ..Live::default() };
        for line in &checkout.lines {
            *live.wanted.entry(line.sku_id).or_default() += line.quantity;
            let goods = live.sellers.entry(line.seller_id).or_default();
            *goods = goods.saturating_add(line_total(line));
        }
        live.agreed = Some(checkout);
        let order_at = Order { position: at.position, live: Some(Box::new(live)), ..Order::default() };
        self.orders.insert(order, order_at);
    }

    pub(crate) fn order_event(&mut self, at: At<'_>, id: OrderId, event: &OrderEvent) {
        let Some(order) = self.orders.get_mut(&id) else {
            return self.wrong(at, "expected a cart that was checked out as this order, found none");
        };
        order.position = at.position;
        let before = order.status;
        let (status, follows) = match event {
            OrderEvent::OrderPlaced(_) => (OrderStatus::Placed, before.is_none()),
            OrderEvent::OrderStockReserved(_) => {
                (OrderStatus::StockReserved, before == Some(OrderStatus::Placed))
            }
            OrderEvent::OrderPaid(_) => (OrderStatus::Paid, before == Some(OrderStatus::StockReserved)),
            OrderEvent::OrderReadyToShip(_) => (OrderStatus::ReadyToShip, before == Some(OrderStatus::Paid)),
            OrderEvent::OrderCompleted(_) => {
                (OrderStatus::Completed, before == Some(OrderStatus::ReadyToShip))
            }
            OrderEvent::CancellationRequested(_) => (OrderStatus::Cancelling, is_on_its_way(before)),
            OrderEvent::OrderCancelled(event) => {
                order.reason = Some(event.reason);
                (OrderStatus::Cancelled, is_on_its_way(before) || before == Some(OrderStatus::Cancelling))
            }
        };
        order.status = Some(status);
        let live = if status.is_final() { order.live.take() } else { None };
        if !follows {
            self.wrong(at, format!("an order that is {before:?} does not become {status:?}"));
        }
        if let OrderEvent::OrderPlaced(placed) = event {
            self.place(at, id, placed);
        }
        if let (Some(live), Some(order)) = (live, self.orders.get(&id)) {
            if order.is_completed() {
                let total = order.total.map_or(0, |total| total.amount);
                self.books.sell(id, at.time, total, live.sellers.clone());
            }
            let problems = if order.is_completed() {
                self.of_completed(order, &live)
            } else {
                self.of_cancelled(order, &live)
            };
            for problem in problems {
                self.wrong(at, problem);
            }
        }
    }

    fn place(&mut self, at: At<'_>, id: OrderId, placed: &OrderPlaced) {
        let Some(order) = self.orders.get_mut(&id) else { return };
        order.total = Some(placed.total);
        order.money.due = Some(due(placed));
        order.goods = placed.lines.iter().map(line_total).sum();
        let agreed = order.live.as_mut().and_then(|live| {
            order.sellers = live.sellers.len() as u32;
            live.agreed.take()
        });
        let as_agreed = agreed.is_some_and(|agreed| {
            agreed.lines == placed.lines
                && (agreed.total, &agreed.charges) == (placed.total, &placed.charges)
                && agreed.buyer_id == placed.buyer_id
        });
        if !as_agreed {
            self.wrong(at, "what was ordered is not what was checked out");
        }
        if !adds_up(placed) {
            self.wrong(at, format!("the total of {} is not what its parts come to", placed.total));
        }
    }

    fn of_completed(&self, order: &Order, live: &Live) -> Vec<String> {
        let mut problems = Vec::new();
        for (sku, wanted) in &live.wanted {
            let held = live.held.get(sku);
            if held != Some(&Held::Committed(*wanted)) {
                problems.push(format!(
                    "completed: expected {wanted} of SKU {sku} to be committed, found {held:?}"
                ));
            }
        }
        problems.extend(order.money.of_completed().err());
        for seller in live.sellers.keys() {
            let status = self.shipments(order).find(|(of, _)| of == seller).map(|(_, status)| status);
            if !status.is_some_and(ShipmentStatus::is_booked) {
                problems.push(format!(
                    "completed: expected the shipment of seller {seller} to be ready, found {status:?}"
                ));
            }
        }
        problems
    }

    fn of_cancelled(&self, order: &Order, live: &Live) -> Vec<String> {
        let mut problems = Vec::new();
        for (sku, held) in &live.held {
            if matches!(held, Held::Open(_) | Held::Committed(_)) {
                problems.push(format!("cancelled: expected its SKU {sku} to be released, found {held:?}"));
            }
        }
        problems.extend(order.money.of_cancelled().err());
        for (seller, status) in self.shipments(order) {
            if !matches!(status, ShipmentStatus::Refused | ShipmentStatus::Cancelled) {
                problems.push(format!(
                    "cancelled: expected the shipment of seller {seller} to be, too, found {status:?}"
                ));
            }
        }
        problems
    }
}

fn is_on_its_way(status: Option<OrderStatus>) -> bool {
    matches!(status, Some(OrderStatus::Placed | OrderStatus::StockReserved | OrderStatus::Paid))
}

fn line_total(line: &OrderLine) -> i64 {
    line.unit_price.amount.saturating_mul(line.quantity.into())
}
