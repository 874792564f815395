//! Settles a payment with the gateway: charges what is to be charged, gives back what is to be given back.
//!
//! What to do next is read from the payment's own stream, so that it may be started at any time, twice, and again after
//! a crash. An unknown outcome is asked about by its key; the gateway decides between a charge and its cancellation.

use std::time::Duration;

use souk_domain::{
    Money, OrderId,
    payment::{
        FailureReason, PaymentCommand, PaymentError, PaymentRequested, PaymentState, PaymentType, TakenBack,
    },
};
use souk_gateways::{Cancellation, Charge, GatewayError, Purchase};
use uuid::Uuid;

use super::{events::ByHand, pause};
use crate::{Context, ExecuteError, Market};

/// Attempts to give money back, or to learn that none was taken, before an operator has to look. A charge is tried until
/// the checkout's deadline.
const REFUND_ATTEMPTS: u32 = 12;
/// Between two looks whether the buyer has confirmed: doubles from one second on, up to half a minute. A webhook does not
/// wait for it: what it says is recorded at once, and the next look finds the payment settled.
fn until_next_look(looks: u32) -> Duration {
    Duration::from_secs(1 << looks.min(5)).min(Duration::from_secs(30))
}

/// What stands in the place of a gateway's name for what an operator has done.
pub(crate) const BY_HAND: &str = "byHand";

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettlementError {
    #[error("the payment could not be recorded: {0}")]
    Log(#[from] ExecuteError<PaymentError>),
    #[error("the gateway does not give the money back: {error}")]
    NotGivenBack { error: GatewayError, attempts: u32 },
    #[error("the buyer disputes the payment: what goes back is known when that is decided")]
    Disputed,
}

/// Until nothing is left to do. Returns how it stands then. Of what goes back in parts, only the part that is named: each
/// is the business of its own return, which may wait for an operator while others go on.
pub(crate) async fn settle(
    market: &Market,
    order: OrderId,
    part: Option<Uuid>,
    context: &Context,
) -> Result<PaymentState, SettlementError> {
    let (mut attempt, mut looks) = (0, 0);
    loop {
        let state = seen(market, order).await?;
        if waits_for_the_bank(&state) {
            return Err(SettlementError::Disputed);
        }
        let Some(step) = next_step(market, order, part, &state).await else { return Ok(state) };
        match step {
            Ok(command @ PaymentCommand::RecordActionRequired { .. }) => {
                attempt = 0;
                record(market, order, command, context).await?;
                tokio::time::sleep(until_next_look(looks)).await;
                looks += 1;
            }
            Ok(command) => {
                attempt = 0;
                record(market, order, command, context).await?;
            }
            // Nobody was asked, so it counts for nothing.
            Err(GatewayError::Resting(rest)) => tokio::time::sleep(rest).await,
            // Of a cancellation that is refused nobody knows whether it was charged.
            Err(GatewayError::Invalid { .. })
                if matches!(state, PaymentState::Pending { refund_wanted: false, .. }) =>
            {
                let reason = FailureReason::CardDeclined;
                record(market, order, PaymentCommand::RecordFailure { reason }, context).await?;
            }
            Err(error) => {
                attempt += 1;
                tracing::warn!(%order, attempt, %error, "the payment gateway did not answer as hoped");
                if attempt >= REFUND_ATTEMPTS && is_to_go_back(&state, part) {
                    return Err(SettlementError::NotGivenBack { error, attempts: attempt });
                }
                tokio::time::sleep(pause(attempt)).await;
            }
        }
    }
}

/// Records what an operator says of a refund. It is of no use where the charge is known and said not to be there: then the
/// gateway is asked once more.
pub(super) async fn settle_by_hand(
    market: &Market,
    order: OrderId,
    outcome: ByHand,
    context: &Context,
) -> Result<PaymentState, SettlementError> {
    let name = || format!("{BY_HAND}:{order}");
    loop {
        let state = seen(market, order).await?;
        let command = match (&state, outcome) {
            _ if waits_for_the_bank(&state) => return Err(SettlementError::Disputed),
            (PaymentState::Pending { .. }, ByHand::Done) => {
                PaymentCommand::RecordCharge { charge_id: name() }
            }
            (PaymentState::Pending { .. }, ByHand::NotNeeded) => {
                PaymentCommand::RecordFailure { reason: FailureReason::Cancelled }
            }
            (PaymentState::Charged { amount, refund_wanted: true, taken_back, .. }, ByHand::Done) => {
                PaymentCommand::RecordRefund { refund_id: name(), amount: taken_back.left_of(*amount) }
            }
            _ => return settle(market, order, None, context).await,
        };
        record(market, order, command, context).await?;
    }
}

async fn seen(market: &Market, order: OrderId) -> Result<PaymentState, SettlementError> {
    let seen = market.aggregates.payments.seen(order, PaymentState::clone).await;
    Ok(seen.map_err(|failure| SettlementError::Log(failure.into()))?.value)
}

/// The order is given up, whether the buyer was charged or not; or this part of it is returned.
fn is_to_go_back(state: &PaymentState, part: Option<Uuid>) -> bool {
    match state {
        PaymentState::Pending { refund_wanted, .. } => *refund_wanted,
        PaymentState::Charged { refund_wanted, taken_back, .. } => {
            *refund_wanted || due(taken_back, part).is_some()
        }
        PaymentState::NotRequested | PaymentState::Failed { .. } | PaymentState::Refunded { .. } => false,
    }
}

/// The whole is to go back, and the bank holds some of it: how much that is in the end nobody knows yet.
fn waits_for_the_bank(state: &PaymentState) -> bool {
    matches!(state, PaymentState::Charged { refund_wanted: true, .. }) && state.is_disputed()
}

fn due(taken_back: &TakenBack, part: Option<Uuid>) -> Option<(Uuid, Money)> {
    taken_back.due().find(|(key, _)| Some(*key) == part)
}

/// Asks the gateway for what the payment waits for; `None` if it waits for nothing.
async fn next_step(
    market: &Market,
    order: OrderId,
    wanted: Option<Uuid>,
    state: &PaymentState,
) -> Option<Result<PaymentCommand, GatewayError>> {
    let gateway = &market.payments;
    match state {
        PaymentState::Pending { request, refund_wanted, .. }
            if request.method.payment_type == PaymentType::Invoice || request.amount.amount == 0 =>
        {
            Some(Ok(settle_outside(order, *refund_wanted)))
        }
        PaymentState::Pending { request, refund_wanted: false, .. } => {
            let purchase = purchase(order, request);
            let mut charged = gateway.charge(&purchase).await;
            if matches!(charged, Err(GatewayError::Unknown(_)))
                && let Ok(Some(found)) = gateway.find(&purchase).await
            {
                charged = Ok(found);
            }
            Some(charged.map(learnt))
        }
        PaymentState::Pending { request, refund_wanted: true, .. } => {
            Some(gateway.cancel(&purchase(order, request)).await.map(|cancellation| match cancellation {
                Cancellation::Cancelled => PaymentCommand::RecordFailure { reason: FailureReason::Cancelled },
                Cancellation::AlreadyCharged(charge_id) => PaymentCommand::RecordCharge { charge_id },
            }))
        }
        PaymentState::Charged { amount, charge_id, refund_wanted: true, .. }
            if *charge_id == outside(order) =>
        {
            Some(Ok(PaymentCommand::RecordRefund { refund_id: outside(order), amount: *amount }))
        }
        PaymentState::Charged { amount, charge_id, refund_wanted: true, taken_back, .. } => {
            Some(refund_the_rest(market, order, charge_id, *amount, taken_back.left_of(*amount)).await)
        }
        PaymentState::Charged { charge_id, refund_wanted: false, taken_back, .. } => {
            let (refund_key, amount) = due(taken_back, wanted)?;
            let refunded = if *charge_id == outside(order) {
                Ok(outside(order))
            } else {
                gateway.refund(key(order, &part(refund_key)), charge_id, amount).await
            };
            Some(refunded.map(|refund_id| PaymentCommand::RecordPartialRefund { refund_key, refund_id }))
        }
        PaymentState::NotRequested | PaymentState::Failed { .. } | PaymentState::Refunded { .. } => None,
    }
}

/// What the bank has left of the charge goes back. All of it may have gone out before that was known: the gateway tells,
/// since under a key it makes one refund, of one amount.
async fn refund_the_rest(
    market: &Market,
    order: OrderId,
    charge_id: &str,
    charged: Money,
    left: Money,
) -> Result<PaymentCommand, GatewayError> {
    let refund = |amount: Money| market.payments.refund(key(order, REFUND), charge_id, amount);
    let (refund_id, amount) = match refund(left).await {
        Err(GatewayError::Invalid { field, .. }) if left != charged && field == "key" => {
            (refund(charged).await?, charged)
        }
        // None was made, and a gateway need not know one of nothing.
        Err(GatewayError::Invalid { .. }) if left.amount == 0 => (outside(order), left),
        refunded => (refunded?, left),
    };
    Ok(PaymentCommand::RecordRefund { refund_id, amount })
}

fn purchase(order: OrderId, request: &PaymentRequested) -> Purchase {
    Purchase { key: charge_key(order), order, method: request.method.clone(), amount: request.amount }
}

/// What the gateway says of a charge, as it is recorded.
pub(super) fn learnt(charge: Charge) -> PaymentCommand {
    match charge {
        Charge::Charged { charge_id } => PaymentCommand::RecordCharge { charge_id },
        Charge::Failed(reason) => PaymentCommand::RecordFailure { reason },
        Charge::ActionRequired { charge_id } => PaymentCommand::RecordActionRequired { charge_id },
    }
}

/// An invoice is paid between seller and buyer, and of what credit has paid in whole nothing is left to pay: there is no
/// gateway to ask.
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
        PaymentCommand::RecordActionRequired { .. } => "recordActionRequired",
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

/// The refund of the whole payment, and that of a part: what their keys are made of.
pub(super) const REFUND: &str = "refund";

pub(super) fn part(refund_key: Uuid) -> String {
    format!("refund/{refund_key}")
}

/// Under which the gateway has an order's charge.
pub fn charge_key(order: OrderId) -> Uuid {
    key(order, "charge")
}

pub(super) fn key(order: OrderId, step: &str) -> Uuid {
    Uuid::new_v5(&order.0, format!("payment/{step}").as_bytes())
}
