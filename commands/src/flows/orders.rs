//! Cancelling an order. The order's own stream decides whether it is too late.

use souk_domain::{
    OrderId,
    order::{Order, OrderCommand, OrderError, OrderStatus},
};

use super::Acknowledged;
use crate::{Context, ExecuteError, Fresh, Market, executor::ReadFailure};

pub async fn cancel(
    market: &Market,
    context: &Context,
    order: OrderId,
) -> Result<Acknowledged<OrderStatus>, ExecuteError<OrderError>> {
    let done = market.aggregates.orders.execute(order, OrderCommand::RequestCancellation, context).await?;
    let status = find(market, order).await?.value.map_or(OrderStatus::Cancelling, |order| order.status);
    Ok(Acknowledged::of(status, &done))
}

/// The order as its stream has it, which may be ahead of the views.
pub async fn find(market: &Market, order: OrderId) -> Result<Fresh<Option<Order>>, ReadFailure> {
    market.aggregates.orders.read(order, Option::clone).await
}
