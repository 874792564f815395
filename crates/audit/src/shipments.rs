//! Shipments: one per order and seller, each step after the one before.

use souk_domain::{
    ShipmentId,
    shipment::{ShipmentEvent, ShipmentStatus as Status},
};

use crate::{At, Audit};

impl Audit {
    pub(crate) fn shipment(&mut self, at: At<'_>, id: ShipmentId, event: &ShipmentEvent) {
        let seller = self.sellers.number(id.seller_id);
        let Some(order) = self.orders.get_mut(&id.order_id) else {
            return self.wrong(at, "expected an order for this shipment, found none");
        };
        let strange = order.live.as_ref().is_some_and(|live| !live.sellers.contains_key(&id.seller_id));
        let place = order.shipments.iter().position(|(of, _)| *of == seller);
        let before = place.map_or(Status::NotRequested, |place| order.shipments[place].1);
        let (status, follows) = match event {
            ShipmentEvent::ShipmentRequested(_) => (Status::Requested, before == Status::NotRequested),
            ShipmentEvent::ShipmentReady(_) => (Status::Ready, before == Status::Requested),
            ShipmentEvent::ShipmentRefused(_) => (Status::Refused, before == Status::Requested),
            ShipmentEvent::ShipmentDispatched(event) => {
                (event.status, matches!(before, Status::Ready | Status::PartlyDispatched))
            }
            ShipmentEvent::ShipmentDelivered(event) => {
                (event.status, matches!(before, Status::PartlyDispatched | Status::Dispatched))
            }
            ShipmentEvent::UnitsGivenUp(event) => {
                (event.status, matches!(before, Status::Ready | Status::PartlyDispatched))
            }
            ShipmentEvent::ShipmentCancelled(_) => (
                Status::Cancelled,
                matches!(before, Status::NotRequested | Status::Requested | Status::Ready),
            ),
        };
        match place {
            Some(place) => order.shipments[place].1 = status,
            None => order.shipments.push((seller, status)),
        }
        let ended = order.live.is_none();
        let fits = match status {
            Status::PartlyDispatched | Status::Dispatched | Status::Delivered => {
                !ended || order.is_completed()
            }
            _ => !ended || matches!(event, ShipmentEvent::UnitsGivenUp(_)) && order.is_completed(),
        };
        if strange {
            self.wrong(at, "the order has no line of this seller");
        }
        if !follows {
            self.wrong(at, format!("a shipment that is {before:?} does not become {status:?}"));
        }
        if !fits {
            self.wrong(at, format!("becomes {status:?} though the order has ended"));
        }
    }
}
