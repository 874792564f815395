//! An order, from placed to completed or cancelled. Its stream arbitrates between going through and giving up: once it
//! is ready to ship there is no cancelling, and once its cancellation is requested it will not ship.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    AccountId, CartId, Decider, ItemId, Money, MoneyError, OrderId, Sealed, Sku, SkuId, domain_events,
    payment::PaymentMethod, pricing::Charges,
};

domain_events! {
    pub enum OrderEvent {
        OrderPlaced = 2,
        OrderStockReserved = 1,
        OrderPaid = 1,
        OrderReadyToShip = 1,
        OrderCompleted = 1,
        CancellationRequested = 1,
        OrderCancelled = 2,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    pub item_id: ItemId,
    pub seller_id: AccountId,
    pub sku_id: SkuId,
    pub sku: Sku,
    /// As it was when the order was placed.
    pub name: String,
    pub quantity: u32,
    pub unit_price: Money,
}

/// What the lines cost together; `None` of no lines.
pub fn total(lines: &[OrderLine]) -> Option<Result<Money, MoneyError>> {
    lines.iter().map(|line| line.unit_price.times(line.quantity)).reduce(|sum, next| sum?.plus(next?))
}

/// The country stands in clear: taxes and statistics need it. Everything else of the address is the buyer's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipTo {
    /// ISO 3166-1, two capital letters; imports may use longer names.
    pub country: String,
    pub address: Sealed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderPlaced {
    pub buyer_id: AccountId,
    pub cart_id: CartId,
    pub lines: Vec<OrderLine>,
    pub total: Money,
    /// None of the orders of version 1: their total is that of the lines.
    #[serde(flatten)]
    pub charges: Charges,
    pub payment: PaymentMethod,
    pub ship_to: ShipTo,
}

impl OrderPlaced {
    /// What the gateway is asked for.
    pub fn due(&self) -> Money {
        self.charges.due(self.total)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStockReserved {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPaid {}

/// The point of no return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReadyToShip {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCompleted {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancellationRequested {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCancelled {
    pub reason: CancelReason,
    /// What there was too little of.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub short_lines: Vec<ShortLine>,
}

impl From<CancelReason> for OrderCancelled {
    fn from(reason: CancelReason) -> Self {
        Self { reason, short_lines: vec![] }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShortLine {
    pub sku_id: SkuId,
    /// By all lines of that SKU.
    pub requested: u32,
    pub available: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CancelReason {
    OutOfStock,
    PaymentDeclined,
    ShippingUnavailable,
    BuyerRequest,
    Timeout,
    /// The coupon was used up by others in the meantime.
    PromotionExhausted,
    /// The gift card or store credit was spent in the meantime.
    CreditExhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderStatus {
    Placed,
    StockReserved,
    Paid,
    ReadyToShip,
    Completed,
    Cancelling,
    Cancelled,
}

impl OrderStatus {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// `None` until the order is placed.
pub type OrderState = Option<Order>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub placed: OrderPlaced,
    pub status: OrderStatus,
    pub reason: Option<CancelReason>,
    #[serde(default)]
    pub short_lines: Vec<ShortLine>,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most orders are placed once and then only marked: no box for that"
)]
pub enum OrderCommand {
    Place(OrderPlaced),
    MarkStockReserved,
    MarkPaid,
    MarkReadyToShip,
    Complete,
    RequestCancellation,
    Cancel(OrderCancelled),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("there is no such order")]
    NotFound,
    #[error("the order is ready to ship: it can no longer be cancelled")]
    TooLateToCancel,
    #[error("the order is being cancelled")]
    BeingCancelled,
    #[error("an order cannot go from {from:?} to {to:?}")]
    OutOfOrder { from: OrderStatus, to: OrderStatus },
}

/// The decider of `order-{orderId}`.
pub struct Orders;

impl Decider for Orders {
    type Id = OrderId;
    type Command = OrderCommand;
    type Event = OrderEvent;
    type State = OrderState;
    type Error = OrderError;

    const CATEGORY: &'static str = "order";
    const STATE_VERSION: u32 = 2;

    fn evolve(state: OrderState, event: &OrderEvent) -> OrderState {
        if let OrderEvent::OrderPlaced(placed) = event {
            return Some(Order {
                placed: placed.clone(),
                status: OrderStatus::Placed,
                reason: None,
                short_lines: vec![],
            });
        }
        let mut order = state?;
        match event {
            OrderEvent::OrderPlaced(_) => {}
            OrderEvent::OrderStockReserved(_) => order.status = OrderStatus::StockReserved,
            OrderEvent::OrderPaid(_) => order.status = OrderStatus::Paid,
            OrderEvent::OrderReadyToShip(_) => order.status = OrderStatus::ReadyToShip,
            OrderEvent::OrderCompleted(_) => order.status = OrderStatus::Completed,
            OrderEvent::CancellationRequested(_) => order.status = OrderStatus::Cancelling,
            OrderEvent::OrderCancelled(event) => {
                order.status = OrderStatus::Cancelled;
                order.reason = Some(event.reason);
                order.short_lines.clone_from(&event.short_lines);
            }
        }
        Some(order)
    }

    fn decide(
        state: &OrderState,
        command: &OrderCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<OrderEvent>, OrderError> {
        use OrderStatus as Status;
        let status = match (state, command) {
            (None, OrderCommand::Place(placed)) => return Ok(vec![placed.clone().into()]),
            (None, _) => return Err(OrderError::NotFound),
            (Some(order), _) => order.status,
        };
        match command {
            OrderCommand::Place(_) => Ok(vec![]),
            OrderCommand::MarkStockReserved => advance(status, Status::StockReserved, OrderStockReserved {}),
            OrderCommand::MarkPaid => advance(status, Status::Paid, OrderPaid {}),
            OrderCommand::MarkReadyToShip => advance(status, Status::ReadyToShip, OrderReadyToShip {}),
            OrderCommand::Complete => advance(status, Status::Completed, OrderCompleted {}),
            OrderCommand::RequestCancellation => match status {
                Status::Placed | Status::StockReserved | Status::Paid => {
                    Ok(vec![CancellationRequested {}.into()])
                }
                Status::Cancelling | Status::Cancelled => Ok(vec![]),
                Status::ReadyToShip | Status::Completed => Err(OrderError::TooLateToCancel),
            },
            OrderCommand::Cancel(cancelled) => match status {
                Status::ReadyToShip | Status::Completed => Err(OrderError::TooLateToCancel),
                Status::Cancelled => Ok(vec![]),
                _ => Ok(vec![cancelled.clone().into()]),
            },
        }
    }

    fn begins(command: &OrderCommand) -> bool {
        matches!(command, OrderCommand::Place(_))
    }
}

/// One step forward; nothing if that step, or a later one, was taken.
fn advance(
    from: OrderStatus,
    to: OrderStatus,
    event: impl Into<OrderEvent>,
) -> Result<Vec<OrderEvent>, OrderError> {
    let step = |status| match status {
        OrderStatus::Placed => Some(0),
        OrderStatus::StockReserved => Some(1),
        OrderStatus::Paid => Some(2),
        OrderStatus::ReadyToShip => Some(3),
        OrderStatus::Completed => Some(4),
        OrderStatus::Cancelling | OrderStatus::Cancelled => None,
    };
    match (step(from), step(to)) {
        (Some(now), Some(next)) if now >= next => Ok(vec![]),
        (Some(now), Some(next)) if now + 1 == next => Ok(vec![event.into()]),
        (None, _) => Err(OrderError::BeingCancelled),
        _ => Err(OrderError::OutOfOrder { from, to }),
    }
}
