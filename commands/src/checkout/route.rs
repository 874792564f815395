//! Which events concern which checkout, and what they say to it.

use souk_domain::{
    CartId, DomainEvent, OrderId, ShipmentId, SkuId, UnreadableEvent,
    cart::{CartCheckedOut, CartEvent},
    credit::CreditEvent,
    inventory::InventoryEvent,
    order::OrderEvent,
    payment::PaymentEvent,
    promotion::PromotionEvent,
    shipment::ShipmentEvent,
};
use souk_event_log::{Filter, Recorded};

use super::events::{CheckoutEvent, Fact, Source};

pub(super) enum Routed {
    Start {
        cart_id: CartId,
        checkout: Box<CartCheckedOut>,
    },
    Continue(Fact),
    /// The order is completed or cancelled: nothing is left to do.
    End,
    Resumed,
    /// The bank has decided: what waits for that may go on.
    Decided,
}

/// Every type that [`route`] does not ignore.
pub(super) fn filter() -> Filter {
    Filter::event_types([
        "CartCheckedOut",
        "StockReserved",
        "ReservationRejected",
        "ReservationReleased",
        "ReservationCommitted",
        "PaymentCompleted",
        "PaymentFailed",
        "PaymentRefunded",
        "ChargebackClosed",
        "ShipmentReady",
        "ShipmentRefused",
        "ShipmentCancelled",
        "OrderReadyToShip",
        "CancellationRequested",
        "OrderCompleted",
        "OrderCancelled",
        "CheckoutResumed",
        "CheckoutSettled",
        "CouponClaimed",
        "CouponRejected",
        "CouponReleased",
        "CouponRedeemed",
        "CreditHeld",
        "CreditHoldRejected",
        "CreditReleased",
        "CreditSpent",
    ])
}

pub(super) fn route(recorded: &Recorded) -> Result<Option<(OrderId, Routed)>, UnreadableEvent> {
    let id = recorded.stream.id();
    let routed = match recorded.stream.category() {
        "cart" => cart(id, read(recorded)?),
        "inventory" => inventory(id, read(recorded)?),
        "payment" => payment(id, &read(recorded)?),
        "shipment" => shipment(id, &read(recorded)?),
        "order" => order(id, &read(recorded)?),
        "checkout" => checkout(id, &read(recorded)?),
        "promotion" => promotion(id, &read(recorded)?),
        "credit" => credit(id, &read(recorded)?),
        _ => None,
    };
    Ok(routed)
}

fn read<E: DomainEvent>(recorded: &Recorded) -> Result<E, UnreadableEvent> {
    E::from_json(&recorded.event_type, recorded.schema_version(), &recorded.data)
}

fn cart(id: &str, event: CartEvent) -> Option<(OrderId, Routed)> {
    let cart_id = id.parse().ok()?;
    match event {
        CartEvent::CartCheckedOut(checkout) => {
            Some((checkout.order_id, Routed::Start { cart_id, checkout: Box::new(checkout) }))
        }
        _ => None,
    }
}

fn inventory(id: &str, event: InventoryEvent) -> Option<(OrderId, Routed)> {
    let sku_id: SkuId = id.parse().ok()?;
    let (order, fact) = match event {
        InventoryEvent::StockReserved(event) => (event.order_id, Fact::StockReserved { sku_id }),
        InventoryEvent::ReservationRejected(event) => {
            (event.order_id, Fact::ReservationRejected { sku_id, available: event.available })
        }
        InventoryEvent::ReservationReleased(event) => (event.order_id, Fact::ReservationReleased { sku_id }),
        InventoryEvent::ReservationCommitted(event) => {
            (event.order_id, Fact::ReservationCommitted { sku_id })
        }
        InventoryEvent::StockReceived(_)
        | InventoryEvent::StockAdjusted(_)
        | InventoryEvent::StockReturned(_) => return None,
    };
    Some((order, Routed::Continue(fact)))
}

fn payment(id: &str, event: &PaymentEvent) -> Option<(OrderId, Routed)> {
    let fact = match event {
        PaymentEvent::PaymentCompleted(_) => Fact::PaymentCompleted,
        PaymentEvent::PaymentFailed(_) => Fact::PaymentFailed,
        PaymentEvent::PaymentRefunded(_) => Fact::PaymentRefunded,
        PaymentEvent::ChargebackClosed(_) => return Some((id.parse().ok()?, Routed::Decided)),
        PaymentEvent::PaymentRequested(_)
        | PaymentEvent::PaymentActionRequired(_)
        | PaymentEvent::RefundRequested(_)
        | PaymentEvent::PartialRefundRequested(_)
        | PaymentEvent::PaymentPartlyRefunded(_)
        | PaymentEvent::ChargebackOpened(_) => return None,
    };
    Some((id.parse().ok()?, Routed::Continue(fact)))
}

fn shipment(id: &str, event: &ShipmentEvent) -> Option<(OrderId, Routed)> {
    let ShipmentId { order_id, seller_id } = id.parse().ok()?;
    let fact = match event {
        ShipmentEvent::ShipmentReady(_) => Fact::ShipmentReady { seller_id },
        ShipmentEvent::ShipmentRefused(_) => Fact::ShipmentRefused { seller_id },
        ShipmentEvent::ShipmentCancelled(_) => Fact::ShipmentCancelled { seller_id },
        ShipmentEvent::ShipmentRequested(_)
        | ShipmentEvent::ShipmentDispatched(_)
        | ShipmentEvent::ShipmentDelivered(_)
        | ShipmentEvent::UnitsGivenUp(_) => return None,
    };
    Some((order_id, Routed::Continue(fact)))
}

fn order(id: &str, event: &OrderEvent) -> Option<(OrderId, Routed)> {
    let routed = match event {
        OrderEvent::OrderReadyToShip(_) => Routed::Continue(Fact::ReadyToShip),
        OrderEvent::CancellationRequested(_) => Routed::Continue(Fact::CancellationRequested),
        OrderEvent::OrderCompleted(_) | OrderEvent::OrderCancelled(_) => Routed::End,
        OrderEvent::OrderPlaced(_) | OrderEvent::OrderStockReserved(_) | OrderEvent::OrderPaid(_) => {
            return None;
        }
    };
    Some((id.parse().ok()?, routed))
}

fn checkout(id: &str, event: &CheckoutEvent) -> Option<(OrderId, Routed)> {
    let routed = match event {
        CheckoutEvent::CheckoutResumed(_) | CheckoutEvent::CheckoutSettled(_) => Routed::Resumed,
        CheckoutEvent::CheckoutStarted(_)
        | CheckoutEvent::CheckoutAdvanced(_)
        | CheckoutEvent::CheckoutParked(_) => return None,
    };
    Some((id.parse().ok()?, routed))
}

fn promotion(id: &str, event: &PromotionEvent) -> Option<(OrderId, Routed)> {
    let source = Source::Promotion(id.parse().ok()?);
    let (order, fact) = match event {
        PromotionEvent::CouponClaimed(event) => (event.order_id, Fact::ClaimHeld { source }),
        PromotionEvent::CouponRejected(event) => (event.order_id, Fact::ClaimRejected { source }),
        PromotionEvent::CouponReleased(event) => (event.order_id, Fact::ClaimReleased { source }),
        PromotionEvent::CouponRedeemed(event) => (event.order_id, Fact::ClaimCommitted { source }),
        PromotionEvent::PromotionCreated(_) | PromotionEvent::PromotionEnded(_) => return None,
    };
    Some((order, Routed::Continue(fact)))
}

fn credit(id: &str, event: &CreditEvent) -> Option<(OrderId, Routed)> {
    let source = Source::Credit(id.parse().ok()?);
    let (order, fact) = match event {
        CreditEvent::CreditHeld(event) => (event.order_id, Fact::ClaimHeld { source }),
        CreditEvent::CreditHoldRejected(event) => (event.order_id, Fact::ClaimRejected { source }),
        CreditEvent::CreditReleased(event) => (event.order_id, Fact::ClaimReleased { source }),
        CreditEvent::CreditSpent(event) => (event.order_id, Fact::ClaimCommitted { source }),
        CreditEvent::CreditOpened(_) | CreditEvent::CreditGranted(_) | CreditEvent::CreditReturned(_) => {
            return None;
        }
    };
    Some((order, Routed::Continue(fact)))
}
