//! Accounts: registering, and what admins do with them.
//!
//! The registry of addresses in the vault comes first and the event second, so that an address is never registered
//! twice; a crash in between is completed by registering again.

use souk_domain::{
    AccountId,
    account::{AccountCommand, AccountError, AccountState, Role},
};
use souk_vault::{Claim, VaultError};

use super::Acknowledged;
use crate::{Context, ExecuteError, Fresh, Market, executor::ReadFailure};

#[derive(Debug)]
pub struct Registration {
    /// Proposed; if the address was claimed before and not completed, the one of that time is used.
    pub account_id: AccountId,
    pub email: String,
    pub password: String,
    pub display_name: String,
    pub role: Role,
}

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("an account with this e-mail address exists")]
    AddressTaken,
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Execute(#[from] ExecuteError<AccountError>),
}

pub async fn register(
    market: &Market,
    context: &Context,
    registration: Registration,
) -> Result<Acknowledged<AccountId>, RegisterError> {
    let Registration { account_id, email, password, display_name, role } = registration;
    let accounts = &market.aggregates.accounts;
    accounts.recall(account_id, context).await?;
    let account_id =
        match market.vault.claim_address(&email, &password, account_id, market.clock.now()).await? {
            Claim::New => account_id,
            Claim::Same(earlier) => earlier,
            Claim::Taken => return Err(RegisterError::AddressTaken),
        };
    let command = AccountCommand::Register {
        role,
        email: Some(market.vault.seal(account_id, email.as_bytes()).await?),
        display_name: market.vault.seal(account_id, display_name.as_bytes()).await?,
    };
    let done = accounts.execute(account_id, command, context).await?;
    if !market.vault.mark_registered(account_id).await? {
        // Somebody else took the address over while this request was on its way.
        return Err(RegisterError::AddressTaken);
    }
    Ok(Acknowledged::of(account_id, &done))
}

/// An account that nobody can log in to, as imports make them.
pub async fn register_without_login(
    market: &Market,
    context: &Context,
    account_id: AccountId,
    display_name: &str,
    role: Role,
) -> Result<Acknowledged<AccountId>, RegisterError> {
    let display_name = market.vault.seal(account_id, display_name.as_bytes()).await?;
    let command = AccountCommand::Register { role, email: None, display_name };
    let done = market.aggregates.accounts.execute(account_id, command, context).await?;
    Ok(Acknowledged::of(account_id, &done))
}

pub async fn grant_role(
    market: &Market,
    context: &Context,
    account: AccountId,
    role: Role,
) -> Result<Acknowledged<()>, ExecuteError<AccountError>> {
    run(market, context, account, AccountCommand::GrantRole(role)).await
}

pub async fn suspend(
    market: &Market,
    context: &Context,
    account: AccountId,
    reason: String,
) -> Result<Acknowledged<()>, RegisterError> {
    let done = run(market, context, account, AccountCommand::Suspend { reason }).await?;
    market.vault.end_sessions(account, market.clock.now()).await?;
    Ok(done)
}

pub async fn reinstate(
    market: &Market,
    context: &Context,
    account: AccountId,
) -> Result<Acknowledged<()>, ExecuteError<AccountError>> {
    run(market, context, account, AccountCommand::Reinstate).await
}

/// The event comes first: if the key is not destroyed at once, forgetting again will do it.
pub async fn forget(
    market: &Market,
    context: &Context,
    account: AccountId,
) -> Result<Acknowledged<()>, RegisterError> {
    let done = run(market, context, account, AccountCommand::Forget).await?;
    market.vault.forget(account).await?;
    Ok(done)
}

/// Roles and standing as the account's stream has them.
pub async fn find(market: &Market, account: AccountId) -> Result<Fresh<AccountState>, ReadFailure> {
    market.aggregates.accounts.read(account, AccountState::clone).await
}

async fn run(
    market: &Market,
    context: &Context,
    account: AccountId,
    command: AccountCommand,
) -> Result<Acknowledged<()>, ExecuteError<AccountError>> {
    let done = market.aggregates.accounts.execute(account, command, context).await?;
    Ok(Acknowledged::of((), &done))
}
