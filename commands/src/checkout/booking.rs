//! Books a shipment with the carrier. As with payments, what is to be done is read from the shipment's own stream.

use souk_domain::{
    ShipmentId,
    shipment::{ShipmentCommand, ShipmentError, ShipmentState, ShipmentStatus},
};
use souk_gateways::{Booking, GatewayError};
use uuid::Uuid;

use super::pause;
use crate::{Context, ExecuteError, Market};

/// Until it is booked, refused, or cancelled meanwhile.
pub(super) async fn book(
    market: &Market,
    shipment: ShipmentId,
    context: &Context,
) -> Result<(), ExecuteError<ShipmentError>> {
    let mut attempt = 0;
    loop {
        let state = market.aggregates.shipments.seen(shipment, ShipmentState::clone).await?.value;
        let (ShipmentStatus::Requested, Some(request)) = (state.status, &state.request) else {
            return Ok(());
        };
        let address = match market.vault.open_sealed(&request.ship_to.address).await {
            Ok(address) => address.and_then(|bytes| String::from_utf8(bytes).ok()),
            Err(error) => return Err(ExecuteError::Unavailable(error.to_string())),
        };
        let booked = market.carrier.book(key(shipment), &request.ship_to.country, address.as_deref()).await;
        let command = match booked {
            Ok(Booking::Booked { carrier, booking_id }) => {
                ShipmentCommand::RecordReady { carrier, booking_id }
            }
            Ok(Booking::Refused { reason }) => ShipmentCommand::RecordRefusal { reason },
            Err(GatewayError::Invalid { message, .. }) => ShipmentCommand::RecordRefusal { reason: message },
            // Booking is repeatable under its key: an unknown outcome is asked about by booking again.
            Err(GatewayError::Resting(rest)) => {
                tokio::time::sleep(rest).await;
                continue;
            }
            Err(error @ (GatewayError::Unavailable(_) | GatewayError::Unknown(_))) => {
                attempt += 1;
                tracing::warn!(%shipment, attempt, %error, "the carrier did not answer as hoped");
                tokio::time::sleep(pause(attempt)).await;
                continue;
            }
        };
        return match market.aggregates.shipments.execute(shipment, command, &context.step("book")).await {
            Ok(_) => Ok(()),
            // Cancelled while the carrier was asked.
            Err(ExecuteError::Refused(ShipmentError::OutOfOrder(_))) => {
                if let Err(error) = market.carrier.cancel(key(shipment)).await {
                    tracing::warn!(%shipment, %error, "the carrier was not told again of a booking that came too late");
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
    }
}

pub(super) fn key(shipment: ShipmentId) -> Uuid {
    Uuid::new_v5(&shipment.order_id.0, format!("booking/{}", shipment.seller_id).as_bytes())
}
