//! Accounts: who takes part in the market, and in which roles. Secrets are not here but in the vault.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{AccountId, Decider, Sealed, domain_events};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    Buyer,
    Seller,
    Admin,
    Analyst,
}

domain_events! {
    pub enum AccountEvent {
        AccountRegistered = 1,
        RoleGranted = 1,
        ProfileRevised = 1,
        AccountSuspended = 1,
        AccountReinstated = 1,
        AccountForgotten = 1,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRegistered {
    pub role: Role,
    /// None for accounts that an import made: nobody can log in to them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<Sealed>,
    pub display_name: Sealed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleGranted {
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileRevised {
    pub display_name: Sealed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountSuspended {
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountReinstated {}

/// The person's key is destroyed: what was sealed under it can never be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountForgotten {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    #[default]
    Unknown,
    Active,
    Suspended,
    Forgotten,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    pub standing: Standing,
    pub roles: BTreeSet<Role>,
}

#[derive(Clone, Debug)]
pub enum AccountCommand {
    Register { role: Role, email: Option<Sealed>, display_name: Sealed },
    GrantRole(Role),
    ReviseProfile { display_name: Sealed },
    Suspend { reason: String },
    Reinstate,
    Forget,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error("there is no such account")]
    NotFound,
    #[error("the account is suspended")]
    Suspended,
    #[error("the person asked to be forgotten")]
    Forgotten,
}

pub struct Account;

impl Decider for Account {
    type Id = AccountId;
    type Command = AccountCommand;
    type Event = AccountEvent;
    type State = AccountState;
    type Error = AccountError;

    const CATEGORY: &'static str = "account";

    fn evolve(mut state: AccountState, event: &AccountEvent) -> AccountState {
        match event {
            AccountEvent::AccountRegistered(event) => {
                state.standing = Standing::Active;
                state.roles.insert(event.role);
            }
            AccountEvent::RoleGranted(event) => {
                state.roles.insert(event.role);
            }
            AccountEvent::ProfileRevised(_) => {}
            AccountEvent::AccountSuspended(_) => state.standing = Standing::Suspended,
            AccountEvent::AccountReinstated(_) => state.standing = Standing::Active,
            AccountEvent::AccountForgotten(_) => state.standing = Standing::Forgotten,
        }
        state
    }

    fn decide(
        state: &AccountState,
        command: &AccountCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<AccountEvent>, AccountError> {
        use AccountCommand as Command;
        match (state.standing, command) {
            (Standing::Unknown, Command::Register { role, email, display_name }) => Ok(vec![
                AccountRegistered { role: *role, email: email.clone(), display_name: display_name.clone() }
                    .into(),
            ]),
            (Standing::Unknown, _) => Err(AccountError::NotFound),
            (_, Command::Register { .. }) | (Standing::Forgotten, Command::Forget) => Ok(vec![]),
            (Standing::Forgotten, _) => Err(AccountError::Forgotten),
            (_, Command::Forget) => Ok(vec![AccountForgotten {}.into()]),
            (_, Command::GrantRole(role)) if state.roles.contains(role) => Ok(vec![]),
            (_, Command::GrantRole(role)) => Ok(vec![RoleGranted { role: *role }.into()]),
            (Standing::Suspended, Command::Reinstate) => Ok(vec![AccountReinstated {}.into()]),
            (Standing::Suspended, Command::Suspend { .. }) | (Standing::Active, Command::Reinstate) => {
                Ok(vec![])
            }
            (Standing::Suspended, Command::ReviseProfile { .. }) => Err(AccountError::Suspended),
            (Standing::Active, Command::Suspend { reason }) => {
                Ok(vec![AccountSuspended { reason: reason.clone() }.into()])
            }
            (Standing::Active, Command::ReviseProfile { display_name }) => {
                Ok(vec![ProfileRevised { display_name: display_name.clone() }.into()])
            }
        }
    }
}
