//! Money that the market owes: a gift card, which whoever has its code may spend, or an account's store credit. What was
//! granted is available, held by an order under way, or spent; what an order spent may come back in parts. It is never below zero.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    AccountId, CreditId, Currency, Decider, Ending, Money, OrderId, domain_events, endings::Endings,
};

/// Minor units of one card or account at most: any sum of them is exact in JSON.
pub const MAX_BALANCE: i64 = 1_000_000_000_000;

domain_events! {
    pub enum CreditEvent {
        CreditOpened = 1,
        CreditGranted = 1,
        CreditHeld = 1,
        CreditHoldRejected = 1,
        CreditReleased = 1,
        CreditSpent = 1,
        CreditReturned = 1,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CreditKind {
    GiftCard,
    StoreCredit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditOpened {
    pub kind: CreditKind,
    pub currency: Currency,
    /// Of store credit; a gift card belongs to whoever knows its code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<AccountId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditGranted {
    pub amount: Money,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditHeld {
    pub order_id: OrderId,
    pub amount: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditHoldRejected {
    pub order_id: OrderId,
    pub amount: Money,
    /// What was available then, in minor units.
    pub available: i64,
}

/// Of an order that holds nothing it is a tombstone, without an amount: a hold that comes later does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditReleased {
    pub order_id: OrderId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub amount: Option<Money>,
}

/// The order is completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditSpent {
    pub order_id: OrderId,
    pub amount: Money,
}

/// Something of what the order spent came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditReturned {
    pub order_id: OrderId,
    /// The same refund comes back once.
    pub refund_key: Uuid,
    pub amount: Money,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreditState {
    pub opened: Option<CreditOpened>,
    /// Granted and not spent, held or not.
    pub balance: i64,
    pub held: i64,
    open: BTreeMap<OrderId, i64>,
    spent: BTreeMap<OrderId, Spent>,
    endings: Endings,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    amount: i64,
    /// By refund.
    returned: BTreeMap<Uuid, i64>,
}

impl CreditState {
    pub fn available(&self) -> i64 {
        self.balance - self.held
    }

    pub fn is_held_by(&self, order: OrderId) -> bool {
        self.open.contains_key(&order)
    }

    pub fn ending(&self, order: OrderId) -> Option<Ending> {
        self.endings.of(order)
    }

    /// What came back with a refund.
    pub fn returned(&self, order: OrderId, refund_key: Uuid) -> Option<i64> {
        self.spent.get(&order)?.returned.get(&refund_key).copied()
    }

    /// What is left of what an order spent, after what came back.
    fn returnable(&self, order: OrderId) -> i64 {
        self.spent.get(&order).map_or(0, |spent| spent.amount - spent.returned.values().sum::<i64>())
    }

    fn money(&self, amount: i64) -> Option<Money> {
        Some(Money::new(amount, self.opened.as_ref()?.currency))
    }
}

#[derive(Clone, Debug)]
pub enum CreditCommand {
    /// A gift card, with all that it will ever hold.
    Issue {
        amount: Money,
        reason: Option<String>,
    },
    /// Store credit: the first grant opens it.
    Grant {
        owner: AccountId,
        amount: Money,
        reason: Option<String>,
    },
    Hold {
        order_id: OrderId,
        amount: Money,
    },
    Release {
        order_id: OrderId,
    },
    Spend {
        order_id: OrderId,
    },
    /// Part of a refund of an order that spent it, as far as that has not come back.
    Return {
        order_id: OrderId,
        refund_key: Uuid,
        amount: Money,
        reason: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    #[error("there is no such credit")]
    NotFound,
    #[error("an amount is positive")]
    NotPositive,
    #[error("it is in another currency")]
    Currency,
    #[error("it holds {MAX_BALANCE} at most")]
    TooMuch,
    #[error("it belongs to somebody else")]
    NotTheirs,
    #[error("order {0} holds nothing of it")]
    NotHeld(OrderId),
}

pub struct Credit;

impl Decider for Credit {
    type Id = CreditId;
    type Command = CreditCommand;
    type Event = CreditEvent;
    type State = CreditState;
    type Error = CreditError;

    const CATEGORY: &'static str = "credit";

    fn evolve(mut state: CreditState, event: &CreditEvent) -> CreditState {
        match event {
            CreditEvent::CreditOpened(event) => state.opened = Some(event.clone()),
            CreditEvent::CreditGranted(event) => state.balance += event.amount.amount,
            CreditEvent::CreditHeld(event) => {
                state.held += event.amount.amount;
                state.open.insert(event.order_id, event.amount.amount);
            }
            CreditEvent::CreditHoldRejected(event) => {
                state.endings.remember(event.order_id, Ending::Rejected);
            }
            CreditEvent::CreditReleased(event) => {
                state.held -= state.open.remove(&event.order_id).unwrap_or(0);
                state.endings.remember(event.order_id, Ending::Released);
            }
            CreditEvent::CreditSpent(event) => {
                let amount = state.open.remove(&event.order_id).unwrap_or(0);
                state.held -= amount;
                state.balance -= amount;
                state.spent.entry(event.order_id).or_default().amount += amount;
                state.endings.remember(event.order_id, Ending::Committed);
            }
            CreditEvent::CreditReturned(event) => {
                state.balance += event.amount.amount;
                let spent = state.spent.entry(event.order_id).or_default();
                spent.returned.insert(event.refund_key, event.amount.amount);
            }
        }
        state
    }

    fn decide(
        state: &CreditState,
        command: &CreditCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<CreditEvent>, CreditError> {
        match command {
            CreditCommand::Issue { .. } if state.opened.is_some() => Ok(vec![]),
            CreditCommand::Issue { amount, reason } => grant(state, None, *amount, reason.clone()),
            CreditCommand::Grant { owner, amount, reason } => {
                grant(state, Some(*owner), *amount, reason.clone())
            }
            CreditCommand::Hold { order_id, amount } => Ok(hold(state, *order_id, *amount)),
            CreditCommand::Release { order_id } => {
                match (state.open.get(order_id), state.ending(*order_id)) {
                    (Some(&held), _) => {
                        Ok(vec![CreditReleased { order_id: *order_id, amount: state.money(held) }.into()])
                    }
                    (None, None) => Ok(vec![CreditReleased { order_id: *order_id, amount: None }.into()]),
                    (None, Some(_)) => Ok(vec![]),
                }
            }
            CreditCommand::Spend { order_id } => match (state.open.get(order_id), state.ending(*order_id)) {
                (Some(&held), _) => {
                    let amount = state.money(held).ok_or(CreditError::NotFound)?;
                    Ok(vec![CreditSpent { order_id: *order_id, amount }.into()])
                }
                (None, Some(Ending::Committed)) => Ok(vec![]),
                (None, _) => Err(CreditError::NotHeld(*order_id)),
            },
            CreditCommand::Return { order_id, refund_key, amount, reason } => {
                give_back(state, *order_id, *refund_key, *amount, reason.clone())
            }
        }
    }
}

fn grant(
    state: &CreditState,
    owner: Option<AccountId>,
    amount: Money,
    reason: Option<String>,
) -> Result<Vec<CreditEvent>, CreditError> {
    let granted = CreditGranted { amount, reason };
    if amount.amount <= 0 {
        return Err(CreditError::NotPositive);
    }
    if state.balance.saturating_add(amount.amount) > MAX_BALANCE {
        return Err(CreditError::TooMuch);
    }
    match &state.opened {
        None => {
            let kind = if owner.is_some() { CreditKind::StoreCredit } else { CreditKind::GiftCard };
            Ok(vec![CreditOpened { kind, currency: amount.currency, owner }.into(), granted.into()])
        }
        Some(opened) if opened.owner != owner => Err(CreditError::NotTheirs),
        Some(opened) if opened.currency != amount.currency => Err(CreditError::Currency),
        Some(_) => Ok(vec![granted.into()]),
    }
}

fn hold(state: &CreditState, order_id: OrderId, amount: Money) -> Vec<CreditEvent> {
    if state.is_held_by(order_id) || state.ending(order_id).is_some() {
        return vec![];
    }
    let same_currency = state.opened.as_ref().is_some_and(|opened| opened.currency == amount.currency);
    let available = if same_currency { state.available() } else { 0 };
    if amount.amount > 0 && amount.amount <= available {
        vec![CreditHeld { order_id, amount }.into()]
    } else {
        vec![CreditHoldRejected { order_id, amount, available }.into()]
    }
}

fn give_back(
    state: &CreditState,
    order_id: OrderId,
    refund_key: Uuid,
    amount: Money,
    reason: Option<String>,
) -> Result<Vec<CreditEvent>, CreditError> {
    let opened = state.opened.as_ref().ok_or(CreditError::NotFound)?;
    if state.spent.get(&order_id).is_some_and(|spent| spent.returned.contains_key(&refund_key)) {
        return Ok(vec![]);
    }
    match amount.amount.min(state.returnable(order_id)) {
        _ if amount.currency != opened.currency => Err(CreditError::Currency),
        _ if amount.amount <= 0 => Err(CreditError::NotPositive),
        0 => Ok(vec![]),
        left => {
            let amount = Money { amount: left, ..amount };
            Ok(vec![CreditReturned { order_id, refund_key, amount, reason }.into()])
        }
    }
}
