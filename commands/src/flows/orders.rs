//! Cancelling an order. The order's own stream decides whether it is too late. And what an operator does about one whose
//! checkout is parked.

use souk_domain::{
    OrderId,
    order::{Order, OrderCommand, OrderError, OrderStatus},
    payment::PaymentState,
};

use super::Acknowledged;
use crate::{
    Context, Done, ExecuteError, Fresh, Market,
    checkout::{ByHand, CheckoutCommand, CheckoutError, CheckoutEvent, Effect, Process},
    executor::ReadFailure,
};

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

/// An operator has done outside what the checkout is parked for. Refused of a refund as long as the buyer disputes the
/// payment: nobody knows how much of it is to go back.
pub async fn settle(
    market: &Market,
    context: &Context,
    order: OrderId,
    outcome: ByHand,
    reason: String,
) -> Result<Done<CheckoutEvent>, ExecuteError<CheckoutError>> {
    let waits = |process: &Option<Process>| {
        let parked = process.as_ref().and_then(|process| process.parked.as_ref());
        parked.is_some_and(|parked| parked.effect == Effect::Refund)
    };
    let (checkouts, payments) = (&market.aggregates.checkouts, &market.aggregates.payments);
    if checkouts.read(order, waits).await?.value
        && payments.read(order, PaymentState::is_disputed).await?.value
    {
        return Err(ExecuteError::Refused(CheckoutError::Disputed));
    }
    checkouts.execute(order, CheckoutCommand::Settle { outcome, reason }, context).await
}
