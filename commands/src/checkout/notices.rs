//! What a gateway tells on its own, recorded in the payment. It may come before the answer of the call that it is about,
//! after it, or twice: every one is a command that says what is so, and says it again in vain.

use souk_domain::{
    OrderId,
    payment::{PaymentCommand, PaymentError, PaymentEvent, PaymentState},
};
use souk_gateways::{Notice, Standing};
use uuid::Uuid;

use super::settlement::{REFUND, key, learnt, part};
use crate::{Context, ExecuteError, Market, executor::ReadFailure};

/// Who signs what a gateway tells.
const ACTOR: &str = "gateway";

#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    #[error("the notice could not be recorded: {0}")]
    Log(#[from] ExecuteError<PaymentError>),
    #[error("the notice could not be recorded: {0}")]
    Read(#[from] ReadFailure),
}

/// Records what the notice says. One that does not fit the payment is logged and nothing else: it would not fit the next
/// time either.
pub async fn take_notice(market: &Market, notice: Notice) -> Result<(), NoticeError> {
    match notice {
        Notice::Charge { order, amount, charge } => {
            let read = |state: &PaymentState| match state {
                PaymentState::Pending { request, .. } => Some(request.amount),
                _ => None,
            };
            let asked = market.aggregates.payments.read(order, read).await?.value;
            if asked.is_some_and(|asked| asked != amount) {
                tracing::error!(%order, %amount, "a charge is not of the amount that was asked for");
                return Ok(());
            }
            record(market, order, learnt(charge)).await
        }
        Notice::Refund { order, key: of, amount, refund_id } => {
            let read = |state: &PaymentState| match state {
                PaymentState::Charged { taken_back, .. } => taken_back.due().collect(),
                _ => Vec::new(),
            };
            let due = market.aggregates.payments.read(order, read).await?.value;
            if of == key(order, REFUND) {
                return record(market, order, PaymentCommand::RecordRefund { refund_id, amount }).await;
            }
            let part = due.into_iter().find(|(refund_key, _)| of == key(order, &part(*refund_key)));
            match part {
                Some((refund_key, _)) => {
                    record(market, order, PaymentCommand::RecordPartialRefund { refund_key, refund_id }).await
                }
                // Recorded before, by whoever asked for it.
                None => Ok(()),
            }
        }
        Notice::Dispute { order, charge, dispute_id, amount, reason, standing } => {
            // What is in dispute was charged, whether or not we have heard of it; and what is decided was opened.
            record(market, order, learnt(charge)).await?;
            let id = dispute_id.clone();
            record(market, order, PaymentCommand::OpenChargeback { dispute_id: id, amount, reason }).await?;
            match standing {
                Standing::Open => Ok(()),
                Standing::Won | Standing::Lost => {
                    let won = standing == Standing::Won;
                    record(market, order, PaymentCommand::CloseChargeback { dispute_id, won }).await
                }
            }
        }
    }
}

async fn record(market: &Market, order: OrderId, command: PaymentCommand) -> Result<(), NoticeError> {
    // The same notice is the same command.
    let context = Context::new(Uuid::new_v5(&order.0, format!("notice/{command:?}").as_bytes()), ACTOR);
    match market.aggregates.payments.execute(order, command.clone(), &context).await {
        Ok(done) => {
            if let Some(loss) = done.events.iter().find_map(PaymentEvent::loss) {
                tracing::warn!(%order, ?command, %loss, "the bank has taken back what was refunded: the market bears it");
            }
            Ok(())
        }
        Err(ExecuteError::Refused(refusal)) => {
            tracing::warn!(%order, ?command, %refusal, "what the gateway tells does not fit the payment");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
