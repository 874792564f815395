//! Payouts: a seller asks for what he is owed, and an operator says what came of the transfer. The seller's ledger decides.

use souk_domain::{
    AccountId, Money, PayoutId,
    ledger::{LedgerCommand, LedgerError, LedgerState, PayoutStatus},
};

use super::Acknowledged;
use crate::{Context, ExecuteError, Market};

#[derive(Clone, Copy, Debug)]
pub struct Payout {
    pub payout_id: PayoutId,
    pub amount: Money,
    pub status: PayoutStatus,
}

/// The same request again is the same payout.
pub async fn request(
    market: &Market,
    context: &Context,
    seller_id: AccountId,
    amount: Money,
) -> Result<Acknowledged<Payout>, ExecuteError<LedgerError>> {
    let payout_id = PayoutId { seller_id, request_id: context.command_id };
    run(market, context, payout_id, LedgerCommand::RequestPayout { payout_id, amount }).await
}

/// The money has arrived.
pub async fn settle(
    market: &Market,
    context: &Context,
    payout_id: PayoutId,
    reference: String,
) -> Result<Acknowledged<Payout>, ExecuteError<LedgerError>> {
    run(market, context, payout_id, LedgerCommand::SettlePayout { payout_id, reference }).await
}

/// It has not, and is owed again.
pub async fn fail(
    market: &Market,
    context: &Context,
    payout_id: PayoutId,
    reason: String,
) -> Result<Acknowledged<Payout>, ExecuteError<LedgerError>> {
    run(market, context, payout_id, LedgerCommand::FailPayout { payout_id, reason }).await
}

async fn run(
    market: &Market,
    context: &Context,
    payout_id: PayoutId,
    command: LedgerCommand,
) -> Result<Acknowledged<Payout>, ExecuteError<LedgerError>> {
    let ledgers = &market.aggregates.ledgers;
    let done = ledgers.execute(payout_id.seller_id, command, context).await?;
    let look = |state: &LedgerState| state.payouts.get(&payout_id).copied();
    let found = ledgers.read(payout_id.seller_id, look).await?.value;
    let (amount, status) = found.ok_or(ExecuteError::Refused(LedgerError::NoSuchPayout))?;
    Ok(Acknowledged::of(Payout { payout_id, amount, status }, &done))
}
