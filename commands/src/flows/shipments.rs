//! What a seller does with his part of an order: dispatch it, in parcels if he likes, say that they were delivered, and
//! give up what he cannot send.

use souk_domain::{
    ReturnId, ShipmentId, Sku, SkuId,
    order::OrderStatus,
    returns::{Return, ReturnError, ReturnsState},
    shipment::{ParcelLine, ShipmentCommand, ShipmentError, ShipmentState, ShipmentStatus},
};

use super::{
    Acknowledged, orders,
    returns::{self, ReturnFlowError},
};
use crate::{Context, ExecuteError, Market};

#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    #[error("the order is {0:?}: it is not ready to ship")]
    OrderNotReady(OrderStatus),
    #[error(transparent)]
    Execute(#[from] ExecuteError<ShipmentError>),
}

/// What goes into one parcel.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// By the seller's own texts; none: everything that is left.
    pub lines: Option<Vec<(Sku, u32)>>,
    pub carrier: Option<String>,
    pub tracking_number: Option<String>,
}

pub async fn dispatch(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
    parcel: Parcel,
) -> Result<Acknowledged<ShipmentStatus>, DispatchError> {
    let order = orders::find(market, shipment.order_id).await.map_err(ExecuteError::from)?.value;
    match order.map(|order| order.status) {
        // From ready to ship there is only forward, so what was read here stays true.
        Some(OrderStatus::ReadyToShip | OrderStatus::Completed) => {}
        Some(status) => return Err(DispatchError::OrderNotReady(status)),
        None => return Err(ExecuteError::Refused(ShipmentError::NotFound).into()),
    }
    take_back(market, context, shipment, None).await?;
    let Parcel { lines, carrier, tracking_number } = parcel;
    let lines = lines.map(|lines| parcel_lines(shipment, &lines));
    let command = ShipmentCommand::Dispatch { lines, carrier, tracking_number };
    Ok(run(market, context, shipment, command).await?)
}

/// Of one parcel, or of all that are under way.
pub async fn deliver(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
    parcel: Option<u32>,
) -> Result<Acknowledged<ShipmentStatus>, ExecuteError<ShipmentError>> {
    run(market, context, shipment, ShipmentCommand::Deliver { parcel }).await
}

/// The seller gives up units that he has not sent (all that are left, if none are named): they become a return that is
/// accepted already. No return comes of units that the buyer has asked to return before.
pub async fn give_up(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
    lines: Option<Vec<(Sku, u32)>>,
    restock: bool,
) -> Result<Acknowledged<(ShipmentStatus, Option<Return>)>, ReturnFlowError> {
    let order = returns::completed(market, shipment.order_id).await?;
    let request_id = context.command_id;
    let lines = lines.map(|lines| parcel_lines(shipment, &lines));
    take_back(market, context, shipment, None).await?;
    let look = |state: &ShipmentState| {
        (state.left(), state.given_up.iter().any(|given_up| given_up.request_id == request_id))
    };
    let (left, is_given_up) = market.aggregates.shipments.read(shipment, look).await?.value;
    let all = || left.iter().map(|(&sku_id, &quantity)| ParcelLine { sku_id, quantity }).collect();
    let meant: Vec<_> = lines.clone().unwrap_or_else(all);
    // What the buyer has asked to return is settled there. Should he ask in this very moment, that is decided first.
    let bought = returns::bought_of(&order, shipment.seller_id);
    let covered = |state: &ReturnsState| {
        let is_short =
            |line: &ParcelLine| state.left(&bought, line.sku_id).is_ok_and(|(_, left)| line.quantity > left);
        meant.iter().any(is_short)
    };
    // What this request has given up before is given up, whatever the buyer has asked for since.
    if !is_given_up && market.aggregates.returns.read(returns::returns_of(shipment), covered).await?.value {
        return Err(ReturnFlowError::UnderWay);
    }
    let command = ShipmentCommand::GiveUp { request_id, lines, restock };
    let given_up = run(market, context, shipment, command).await?;
    // If this fails, whoever follows the log does it.
    let opened = match returns::give_back(market, &context.step("giveBack"), shipment, request_id).await {
        Err(ReturnFlowError::Return(ExecuteError::Refused(ReturnError::Undecided))) => {
            Acknowledged { value: None, position: None }
        }
        opened => opened?,
    };
    let position = opened.position.max(given_up.position);
    Ok(Acknowledged { value: (given_up.value, opened.value), position })
}

/// Gives up what the buyer has returned before it was sent. Who follows the log does it for every return that is accepted;
/// who sends does it before, so that nothing leaves in between. A return that is accepted just while a parcel leaves is one
/// of goods that were sent.
pub(crate) async fn take_back(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
    by: Option<ReturnId>,
) -> Result<(), ExecuteError<ShipmentError>> {
    let returns = returns::returns_of(shipment);
    let look = |state: &ReturnsState| (by.or(state.latest_returned()), state.returned());
    let (Some(return_id), returned) = market.aggregates.returns.read(returns, look).await?.value else {
        return Ok(());
    };
    // Of how many units is said in the name: a command that says another thing is another command.
    let units = returned.values().fold(0, |sum: u32, units| sum.saturating_add(*units));
    let (step, command) = (format!("takeBack/{units}"), ShipmentCommand::TakeBack { return_id, returned });
    market.aggregates.shipments.execute(shipment, command, &context.step(&step)).await?;
    Ok(())
}

fn parcel_lines(shipment: ShipmentId, lines: &[(Sku, u32)]) -> Vec<ParcelLine> {
    let line = |(sku, quantity): &(Sku, u32)| ParcelLine {
        sku_id: SkuId::of(shipment.seller_id, sku),
        quantity: *quantity,
    };
    lines.iter().map(line).collect()
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
