//! What a seller does with his part of an order: dispatch it, and say that it was delivered.

use souk_domain::{
    ShipmentId,
    order::OrderStatus,
    shipment::{ShipmentCommand, ShipmentError, ShipmentState, ShipmentStatus},
};

use super::{Acknowledged, orders};
use crate::{Context, ExecuteError, Market};

#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    #[error("the order is {0:?}: it is not ready to ship")]
    OrderNotReady(OrderStatus),
    #[error(transparent)]
    Execute(#[from] ExecuteError<ShipmentError>),
}

pub async fn dispatch(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
    carrier: Option<String>,
    tracking_number: Option<String>,
) -> Result<Acknowledged<ShipmentStatus>, DispatchError> {
    let order = orders::find(market, shipment.order_id).await.map_err(ExecuteError::from)?.value;
    match order.map(|order| order.status) {
        // From ready to ship there is only forward, so what was read here stays true.
        Some(OrderStatus::ReadyToShip | OrderStatus::Completed) => {}
        Some(status) => return Err(DispatchError::OrderNotReady(status)),
        None => return Err(ExecuteError::Refused(ShipmentError::NotFound).into()),
    }
    Ok(run(market, context, shipment, ShipmentCommand::Dispatch { carrier, tracking_number }).await?)
}

pub async fn deliver(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
) -> Result<Acknowledged<ShipmentStatus>, ExecuteError<ShipmentError>> {
    run(market, context, shipment, ShipmentCommand::Deliver).await
}

async fn run(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
    command: ShipmentCommand,
) -> Result<Acknowledged<ShipmentStatus>, ExecuteError<ShipmentError>> {
    let shipments = &market.aggregates.shipments;
    let done = shipments.execute(shipment, command, context).await?;
    let status = shipments.read(shipment, |state: &ShipmentState| state.status).await?.value;
    Ok(Acknowledged::of(status, &done))
}
