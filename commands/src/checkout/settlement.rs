//! Settles a payment with the gateway: charges what is to be charged, gives back what is to be given back.
//!
//! What to do next is read from the payment's own stream, so that it may be started at any time, twice, and again after
//! a crash. An unknown outcome is asked about by its key; the gateway decides between a charge and its cancellation.

use souk_domain::{
    OrderId,
    payment::{FailureReason, PaymentCommand, PaymentError, PaymentState, PaymentType},
};
use souk_gateways::{Cancellation, Charge, GatewayError};
use uuid::Uuid;

use super::pause;
use crate::{Context, ExecuteError, Market};

/// Attempts to give money back before an operator has to look. A charge is tried until the checkout's deadline.
const REFUND_ATTEMPTS: u32 = 12;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettlementError {
    #[error("the payment could not be recorded: {0}")]
    Log(#[from] ExecuteError<PaymentError>),
    #[error("the gateway does not give the money back: {0}")]
    Refund(GatewayError),
}

/// Until nothing is left to do. Returns how it stands then.
pub(crate) async fn settle(
    market: &Market,
    order: OrderId,
    context: &Context,
) -> Result<PaymentState, SettlementError> {
    let mut attempt = 0;
    loop {
        let state = market
            .aggregates
            .payments
            .seen(order, PaymentState::clone)
            .await
            .map_err(|failure| SettlementError::Log(failure.into()))?
            .value;
        let Some(step) = next_step(market, order, &state).await else { return Ok(state) };
        match step {
            Ok(command) => {
                attempt = 0;
                record(market, order, command, context).await?;
            }
            Err(GatewayError::Invalid { .. }) if matches!(state, PaymentState::Pending { .. }) => {
                let reason = FailureReason::CardDeclined;
                record(market, order, PaymentCommand::RecordFailure { reason }, context).await?;
            }
            Err(error) => {
                attempt += 1;
                tracing::warn!(%order, attempt, %error, "the payment gateway did not answer as hoped");
                if attempt >= REFUND_ATTEMPTS && matches!(state, PaymentState::Charged { .. }) {
                    return Err(SettlementError::Refund(error));
                }
                tokio::time::sleep(pause(attempt)).await;
            }
        }
    }
}

/// Asks the gateway for what the payment waits for; `None` if it waits for nothing.
async fn next_step(
    market: &Market,
    order: OrderId,
    state: &PaymentState,
) -> Option<Result<PaymentCommand, GatewayError>> {
    let gateway = &market.payments;
    let (charge_key, refund_key) = (key(order, "charge"), key(order, "refund"));
    match state {
        PaymentState::Pending { request, refund_wanted, .. }
            if request.method.payment_type == PaymentType::Invoice =>
        {
            Some(Ok(settle_outside(order, *refund_wanted)))
        }
        PaymentState::Pending { request, refund_wanted: false, .. } => {
            let mut charged = gateway.charge(charge_key, &request.method, request.amount).await;
            if matches!(charged, Err(GatewayError::Unknown(_)))
                && let Ok(Some(found)) = gateway.find(charge_key).await
            {
                charged = Ok(found);
            }
            Some(charged.map(|charge| match charge {
                Charge::Charged { charge_id } => PaymentCommand::RecordCharge { charge_id },
                Charge::Failed(reason) => PaymentCommand::RecordFailure { reason },
            }))
        }
        PaymentState::Pending { refund_wanted: true, .. } => {
            Some(gateway.cancel(charge_key).await.map(|cancellation| match cancellation {
                Cancellation::Cancelled => PaymentCommand::RecordFailure { reason: FailureReason::Cancelled },
                Cancellation::AlreadyCharged(charge_id) => PaymentCommand::RecordCharge { charge_id },
            }))
        }
        PaymentState::Charged { charge_id, refund_wanted: true, .. } if *charge_id == outside(order) => {
            Some(Ok(PaymentCommand::RecordRefund { refund_id: outside(order) }))
        }
        PaymentState::Charged { amount, charge_id, refund_wanted: true, .. } => Some(
            gateway
                .refund(refund_key, charge_id, *amount)
                .await
                .map(|refund_id| PaymentCommand::RecordRefund { refund_id }),
        ),
        PaymentState::Charged { charge_id, refund_wanted: false, taken_back, .. } => {
            let (refund_key, amount) = taken_back.due().next()?;
            let refunded = if *charge_id == outside(order) {
                Ok(outside(order))
            } else {
                gateway.refund(key(order, &format!("refund/{refund_key}")), charge_id, amount).await
            };
            Some(refunded.map(|refund_id| PaymentCommand::RecordPartialRefund { refund_key, refund_id }))
        }
        PaymentState::NotRequested | PaymentState::Failed { .. } | PaymentState::Refunded { .. } => None,
    }
}

/// An invoice is paid between seller and buyer: there is no gateway to ask.
fn settle_outside(order: OrderId, refund_wanted: bool) -> PaymentCommand {
    if refund_wanted {
        PaymentCommand::RecordFailure { reason: FailureReason::Cancelled }
    } else {
        PaymentCommand::RecordCharge { charge_id: outside(order) }
    }
}

/// What stands for money that no gateway has moved.
fn outside(order: OrderId) -> String {
    format!("invoice_{order}")
}

async fn record(
    market: &Market,
    order: OrderId,
    command: PaymentCommand,
    context: &Context,
) -> Result<(), SettlementError> {
    let step = match &command {
        PaymentCommand::RecordCharge { .. } => "recordCharge",
        PaymentCommand::RecordFailure { .. } => "recordFailure",
        PaymentCommand::RecordRefund { .. } => "recordRefund",
        PaymentCommand::RecordPartialRefund { refund_key, .. } => &format!("recordRefund/{refund_key}"),
        _ => "request",
    };
    match market.aggregates.payments.execute(order, command, &context.step(step)).await {
        // Two may settle the same payment at once: who comes late finds it settled, and looks again.
        Ok(_) | Err(ExecuteError::Refused(PaymentError::OutOfOrder | PaymentError::NotRequested)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn key(order: OrderId, step: &str) -> Uuid {
    Uuid::new_v5(&order.0, format!("payment/{step}").as_bytes())
}
