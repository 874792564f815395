//! Returns: the buyer asks, the seller accepts or declines. What was bought is read from the order, which is completed and
//! changes no more; the stream of the returns decides what of it may still come back.

use std::collections::BTreeMap;

use souk_domain::{
    AccountId, ItemId, Money, OrderId, ReturnId, ReturnsId, ShipmentId, Sku, SkuId,
    order::{Order, OrderError, OrderLine, OrderStatus},
    payment::PaymentState,
    returns::{
        AcceptedLine, Ask, Bought, Disposition, Return, ReturnCommand, ReturnError, ReturnStatus,
        ReturnsState,
    },
    shipment::{ShipmentError, ShipmentState},
};
use souk_vault::VaultError;
use uuid::Uuid;

use super::{Acknowledged, orders};
use crate::{Context, ExecuteError, Market, executor::ReadFailure};

/// A line that the buyer wants to return.
#[derive(Clone, Debug)]
pub struct LineBack {
    /// Needed where two sellers use the same SKU.
    pub item_id: Option<ItemId>,
    pub sku: Sku,
    pub quantity: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ReturnFlowError {
    #[error("the order is {0:?}: only what was completed is returned")]
    NotCompleted(OrderStatus),
    #[error("the SKU {0} is not of this order")]
    NotOfOrder(Sku),
    #[error("the SKU {0} stands in several lines: say of which item")]
    Ambiguous(Sku),
    #[error("the buyer has asked to return these: accept that return")]
    UnderWay,
    #[error("the refund was not asked for yet: retry the return, once the payment is in dispute no more")]
    NotAsked,
    #[error(transparent)]
    Order(ExecuteError<OrderError>),
    #[error(transparent)]
    Shipment(#[from] ExecuteError<ShipmentError>),
    #[error(transparent)]
    Return(#[from] ExecuteError<ReturnError>),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<ReadFailure> for ReturnFlowError {
    fn from(failure: ReadFailure) -> Self {
        Self::Return(failure.into())
    }
}

/// One return for each seller whose goods are among the lines.
pub async fn request(
    market: &Market,
    context: &Context,
    order_id: OrderId,
    lines: Vec<LineBack>,
    reason: &str,
) -> Result<Acknowledged<Vec<Return>>, ReturnFlowError> {
    let order = completed(market, order_id).await?;
    let by_seller = sort(&order.placed.lines, lines)?;
    let buyer_id = order.placed.buyer_id;
    let mut commands = Vec::new();
    for (seller_id, lines) in by_seller {
        let returns = ReturnsId { order_id, seller_id };
        let ask = Ask { returns, request_id: context.command_id, buyer_id, lines };
        let reason = Some(market.vault.seal(buyer_id, reason.as_bytes()).await?);
        let command = ReturnCommand::Request { ask, bought: bought_of(&order, seller_id), reason };
        // All or nothing, as far as can be told before.
        let may = |state: &ReturnsState| {
            use souk_domain::{Decider, returns::Returns};
            Returns::decide(state, &command, market.clock.now()).map(|_| ())
        };
        market.aggregates.returns.read(returns, may).await?.value.map_err(ExecuteError::Refused)?;
        commands.push((returns, command));
    }
    let (mut opened, mut position) = (Vec::new(), None);
    for (returns, command) in commands {
        let step = context.step(&format!("return/{}", returns.seller_id));
        let done = market.aggregates.returns.execute(returns, command, &step).await?;
        let own = |state: &ReturnsState| state.of_request(context.command_id).cloned();
        opened.extend(market.aggregates.returns.read(returns, own).await?.value);
        position = position.max(done.position);
    }
    Ok(Acknowledged { value: opened, position })
}

/// By the seller. Nothing said: all of it, back into stock, for all that it cost.
pub async fn accept(
    market: &Market,
    context: &Context,
    id: ReturnId,
    lines: Option<Vec<(Sku, u32, Disposition)>>,
    refund: Option<Money>,
) -> Result<Acknowledged<Return>, ReturnFlowError> {
    let ReturnsId { order_id, seller_id } = id.returns;
    let order = completed(market, order_id).await?;
    let lines = lines.map(|lines| {
        let line = |(sku, quantity, disposition): (Sku, u32, Disposition)| AcceptedLine {
            sku_id: SkuId::of(seller_id, &sku),
            quantity,
            disposition,
        };
        lines.into_iter().map(line).collect()
    });
    let bought = bought_of(&order, seller_id);
    run(market, context, id, ReturnCommand::Accept { number: id.number, lines, refund, bought }).await
}

pub async fn decline(
    market: &Market,
    context: &Context,
    id: ReturnId,
    reason: String,
) -> Result<Acknowledged<Return>, ReturnFlowError> {
    run(market, context, id, ReturnCommand::Decline { number: id.number, reason }).await
}

/// Sends a parked one on its way again.
pub async fn resume(
    market: &Market,
    context: &Context,
    id: ReturnId,
) -> Result<Acknowledged<Return>, ReturnFlowError> {
    run(market, context, id, ReturnCommand::Resume { number: id.number }).await
}

/// An operator has paid what a return is parked for: it goes on to its end without the gateway. Refused as long as the payment
/// does not say how much that is, which during a dispute nobody knows.
pub async fn settle(
    market: &Market,
    context: &Context,
    id: ReturnId,
    reason: String,
) -> Result<Acknowledged<Return>, ReturnFlowError> {
    let is_parked = |state: &ReturnsState| {
        state.returns.get(&id.number).is_some_and(|one| one.status == ReturnStatus::Parked)
    };
    let is_unasked = |state: &PaymentState| match state {
        PaymentState::Charged { taken_back, .. } => taken_back.refund(id.refund_key()).is_none(),
        _ => false,
    };
    let (returns, payments) = (&market.aggregates.returns, &market.aggregates.payments);
    if returns.read(id.returns, is_parked).await?.value
        && payments.read(id.returns.order_id, is_unasked).await?.value
    {
        return Err(ReturnFlowError::NotAsked);
    }
    run(market, context, id, ReturnCommand::Settle { number: id.number, reason }).await
}

/// Makes a return of what a seller has given up. `None` if all of it was returned before. Refused as long as the buyer's own
/// return of it is not decided.
pub(crate) async fn give_back(
    market: &Market,
    context: &Context,
    shipment: ShipmentId,
    request_id: Uuid,
) -> Result<Acknowledged<Option<Return>>, ReturnFlowError> {
    let given_up = |state: &ShipmentState| {
        state.given_up.iter().find(|given_up| given_up.request_id == request_id).cloned()
    };
    let order = completed(market, shipment.order_id).await?;
    let Some(given_up) = market.aggregates.shipments.read(shipment, given_up).await?.value else {
        return Ok(Acknowledged { value: None, position: None });
    };
    let returns = returns_of(shipment);
    let lines = given_up.lines.iter().map(|line| (line.sku_id, line.quantity)).collect();
    let ask = Ask { returns, request_id, buyer_id: order.placed.buyer_id, lines };
    let disposition = if given_up.restock { Disposition::Restock } else { Disposition::WriteOff };
    let bought = bought_of(&order, shipment.seller_id);
    let command = ReturnCommand::GiveBack { ask, bought, disposition };
    let done = market.aggregates.returns.execute(returns, command, context).await?;
    let own =
        |state: &ReturnsState| state.of_request(request_id).filter(|one| one.accepted.is_some()).cloned();
    let opened = market.aggregates.returns.read(returns, own).await?.value;
    Ok(Acknowledged::of(opened, &done))
}

pub(crate) fn returns_of(shipment: ShipmentId) -> ReturnsId {
    ReturnsId { order_id: shipment.order_id, seller_id: shipment.seller_id }
}

/// The order, if it was completed.
pub(crate) async fn completed(market: &Market, order: OrderId) -> Result<Order, ReturnFlowError> {
    match orders::find(market, order).await?.value {
        Some(order) if order.status == OrderStatus::Completed => Ok(order),
        Some(order) => Err(ReturnFlowError::NotCompleted(order.status)),
        None => Err(ReturnFlowError::Order(ExecuteError::Refused(OrderError::NotFound))),
    }
}

pub(super) fn bought_of(order: &Order, seller: AccountId) -> Bought {
    Bought::of(&order.placed, seller)
}

/// By seller, as each of the lines says or as there is only one choice.
fn sort(
    bought: &[OrderLine],
    lines: Vec<LineBack>,
) -> Result<BTreeMap<AccountId, Vec<(SkuId, u32)>>, ReturnFlowError> {
    let mut sorted = BTreeMap::<_, Vec<_>>::new();
    for LineBack { item_id, sku, quantity } in lines {
        let fits = |line: &&OrderLine| line.sku == sku && item_id.is_none_or(|item| item == line.item_id);
        let mut found = bought.iter().filter(fits);
        let Some(line) = found.next() else { return Err(ReturnFlowError::NotOfOrder(sku)) };
        if found.any(|other| other.sku_id != line.sku_id) {
            return Err(ReturnFlowError::Ambiguous(sku));
        }
        sorted.entry(line.seller_id).or_default().push((line.sku_id, quantity));
    }
    Ok(sorted)
}

async fn run(
    market: &Market,
    context: &Context,
    id: ReturnId,
    command: ReturnCommand,
) -> Result<Acknowledged<Return>, ReturnFlowError> {
    let returns = &market.aggregates.returns;
    let done = returns.execute(id.returns, command, context).await?;
    let one = returns.read(id.returns, |state| state.returns.get(&id.number).cloned()).await?.value;
    let one = one.ok_or(ExecuteError::Refused(ReturnError::NotFound))?;
    Ok(Acknowledged::of(one, &done))
}
