//! An order with its payment and its shipments, as they were.

use std::collections::BTreeSet;

use souk_domain::{
    Decider, DomainEvent, OrderId, ShipmentId,
    order::{OrderEvent, OrderState, OrderStatus, Orders},
    payment::{Payment, PaymentEvent, PaymentMethod, PaymentState},
    shipment::{Shipment, ShipmentEvent, ShipmentState},
};
use souk_event_log::{At, StreamName};
use souk_projections::{
    ShipmentView,
    orders::{OrderView, PaymentStatus, PaymentSummary, TimelineEntry},
};

use super::{Step, replay};
use crate::{Api, hub::status_after, problem::Problem};

/// None: it was not placed by then.
pub(crate) async fn order(api: &Api, id: OrderId, until: At) -> Result<Option<OrderView>, Problem> {
    let (mut state, mut revision, mut timeline) = (OrderState::None, 0, Vec::new());
    replay(api, StreamName::new(Orders::CATEGORY, id), until, |step: Step<OrderEvent>| {
        let status = status_after(step.event.event_type());
        timeline.extend(status.map(|status| TimelineEntry { status, at: step.at }));
        revision = step.revision;
        state = Orders::evolve(state.take(), &step.event);
    })
    .await?;
    let Some(order) = state else { return Ok(None) };
    let placed_at = timeline.iter().find(|entry| entry.status == OrderStatus::Placed);
    let Some(placed_at) = placed_at.map(|entry| entry.at) else { return Ok(None) };
    let sellers: BTreeSet<_> = order.placed.lines.iter().map(|line| line.seller_id).collect();
    let mut shipments = Vec::with_capacity(sellers.len());
    for seller_id in sellers {
        shipments.extend(shipment(api, ShipmentId { order_id: id, seller_id }, until).await?);
    }
    Ok(Some(OrderView {
        order_id: id,
        buyer_id: order.placed.buyer_id,
        status: order.status,
        reason: order.reason,
        short_lines: order.short_lines,
        revision,
        placed_at,
        total: order.placed.total,
        charges: order.placed.charges,
        payment: payment(api, id, order.placed.payment, until).await?,
        lines: order.placed.lines,
        ship_to: order.placed.ship_to,
        timeline,
        shipments,
    }))
}

async fn payment(
    api: &Api,
    order: OrderId,
    method: PaymentMethod,
    until: At,
) -> Result<PaymentSummary, Problem> {
    let mut state = PaymentState::default();
    replay(api, StreamName::new(Payment::CATEGORY, order), until, |step: Step<PaymentEvent>| {
        state = Payment::evolve(std::mem::take(&mut state), &step.event);
    })
    .await?;
    let (status, failure) = match state {
        PaymentState::NotRequested => (None, None),
        PaymentState::Pending { .. } => (Some(PaymentStatus::Requested), None),
        PaymentState::Charged { .. } => (Some(PaymentStatus::Completed), None),
        PaymentState::Failed { reason } => (Some(PaymentStatus::Failed), Some(reason)),
        PaymentState::Refunded { .. } => (Some(PaymentStatus::Refunded), None),
    };
    Ok(PaymentSummary {
        payment_type: method.payment_type,
        brand: method.brand,
        last_four: method.last_four,
        status,
        failure,
    })
}

/// None of one that was not requested by then, or cancelled before it was: it never was.
async fn shipment(api: &Api, id: ShipmentId, until: At) -> Result<Option<ShipmentView>, Problem> {
    let mut state = ShipmentState::default();
    let mut view: Option<ShipmentView> = None;
    replay(api, StreamName::new(Shipment::CATEGORY, id), until, |step: Step<ShipmentEvent>| {
        let at = step.at;
        state = Shipment::evolve(std::mem::take(&mut state), &step.event);
        if let ShipmentEvent::ShipmentRequested(_) = step.event {
            view = Some(ShipmentView {
                shipment_id: id,
                status: state.status,
                carrier: None,
                tracking_number: None,
                reason: None,
                requested_at: at,
                ready_at: None,
                dispatched_at: None,
                delivered_at: None,
                ended_at: None,
            });
        }
        let Some(view) = &mut view else { return };
        view.status = state.status;
        match step.event {
            ShipmentEvent::ShipmentRequested(_) => {}
            ShipmentEvent::ShipmentReady(event) => {
                view.carrier = Some(event.carrier);
                view.ready_at = Some(at);
            }
            ShipmentEvent::ShipmentRefused(event) => {
                view.reason = Some(event.reason);
                view.ended_at = Some(at);
            }
            ShipmentEvent::ShipmentDispatched(event) => {
                view.carrier = event.carrier.or_else(|| view.carrier.take());
                view.tracking_number = event.tracking_number;
                view.dispatched_at = Some(at);
            }
            ShipmentEvent::ShipmentDelivered(_) => view.delivered_at = Some(at),
            ShipmentEvent::ShipmentCancelled(_) => view.ended_at = Some(at),
        }
    })
    .await?;
    Ok(view)
}
