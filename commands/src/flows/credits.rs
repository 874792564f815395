//! Gift cards and store credit: giving them out, and looking at what is left.

use souk_domain::{
    AccountId, CreditId, Money,
    account::{AccountError, Standing},
    credit::{CreditCommand, CreditError, CreditKind, CreditState},
};

use super::{Acknowledged, accounts};
use crate::{Context, ExecuteError, Market, executor::ReadFailure};

/// Letters and digits that are not mistaken for each other.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[derive(Clone)]
pub struct GiftCard {
    pub credit_id: CreditId,
    /// Whoever knows it may spend the card: it is told once and kept nowhere.
    pub code: String,
    pub amount: Money,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    pub credit_id: CreditId,
    /// Not spent, held or not.
    pub balance: Money,
    /// By orders under way.
    pub held: Money,
    pub available: Money,
}

#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Credit(#[from] ExecuteError<CreditError>),
}

/// The same command makes the same card, and tells the same code.
pub async fn issue(
    market: &Market,
    context: &Context,
    amount: Money,
    reason: Option<String>,
) -> Result<Acknowledged<GiftCard>, ExecuteError<CreditError>> {
    let code = code(market, context);
    let credit_id = CreditId::of_gift_card(&code);
    let command = CreditCommand::Issue { amount, reason };
    let done = market.aggregates.credits.execute(credit_id, command, context).await?;
    Ok(Acknowledged::of(GiftCard { credit_id, code, amount }, &done))
}

/// 80 bits that only who has the master key can make of the command's id, which is in the log.
fn code(market: &Market, context: &Context) -> String {
    let mac = market.vault.mac("gift card", context.command_id.as_bytes());
    let mut code = String::with_capacity(19);
    for (place, byte) in mac.iter().take(16).enumerate() {
        if place > 0 && place % 4 == 0 {
            code.push('-');
        }
        code.push(char::from(LETTERS[usize::from(byte & 31)]));
    }
    code
}

pub async fn grant(
    market: &Market,
    context: &Context,
    owner: AccountId,
    amount: Money,
    reason: Option<String>,
) -> Result<Acknowledged<Balance>, GrantError> {
    match accounts::find(market, owner).await.map_err(ExecuteError::from)?.value.standing {
        Standing::Unknown => return Err(AccountError::NotFound.into()),
        Standing::Forgotten => return Err(AccountError::Forgotten.into()),
        Standing::Active | Standing::Suspended => {}
    }
    let id = CreditId::of_account(owner, amount.currency);
    let command = CreditCommand::Grant { owner, amount, reason };
    let done = market.aggregates.credits.execute(id, command, context).await?;
    let state = market.aggregates.credits.seen(id, CreditState::clone).await.map_err(ExecuteError::from)?;
    Ok(Acknowledged::of(balance(id, &state.value, amount), &done))
}

/// An account's credit in the currency of `like`; zero of one that was never given any.
pub async fn of_account(market: &Market, owner: AccountId, like: Money) -> Result<Balance, ReadFailure> {
    let id = CreditId::of_account(owner, like.currency);
    let state = market.aggregates.credits.read(id, CreditState::clone).await?.value;
    Ok(balance(id, &state, like))
}

/// `None` if there is no such card.
pub async fn on_card(market: &Market, code: &str) -> Result<Option<Balance>, ReadFailure> {
    let id = CreditId::of_gift_card(code);
    let state = market.aggregates.credits.read(id, CreditState::clone).await?.value;
    let card = state.opened.as_ref().filter(|opened| opened.kind == CreditKind::GiftCard);
    Ok(card.map(|opened| balance(id, &state, Money::new(0, opened.currency))))
}

fn balance(credit_id: CreditId, state: &CreditState, like: Money) -> Balance {
    Balance {
        credit_id,
        balance: like.with(state.balance),
        held: like.with(state.held),
        available: like.with(state.available()),
    }
}
