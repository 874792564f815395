//! A promotion: a code that takes something off, so many times in all and so many times for one buyer. Orders claim it, and
//! every claim is decided here, so that a race never exceeds a limit. A claim ends redeemed (the order is completed) or released.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    AccountId, Decider, Ending, Money, OrderId, PromotionId, domain_events,
    endings::Endings,
    pricing::{TakesOff, WHOLE},
};

domain_events! {
    pub enum PromotionEvent {
        PromotionCreated = 1,
        PromotionEnded = 1,
        CouponClaimed = 1,
        CouponRejected = 1,
        CouponReleased = 1,
        CouponRedeemed = 1,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromotionCreated {
    /// As the admin wrote it; buyers may write it in any case.
    pub code: String,
    pub takes_off: TakesOff,
    /// Of goods, before anything is taken off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub minimum: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub starts_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ends_at: Option<DateTime<Utc>>,
    /// Orders in all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit_per_buyer: Option<u32>,
}

/// Ended by hand: nobody can claim it any more. What is claimed stays so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionEnded {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CouponClaimed {
    pub order_id: OrderId,
    pub buyer_id: AccountId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CouponRejected {
    pub order_id: OrderId,
    pub buyer_id: AccountId,
    pub reason: CouponRejection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CouponRejection {
    Ended,
    Exhausted,
    ExhaustedForBuyer,
}

/// Of an order that has no claim it is a tombstone: a claim that comes later does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CouponReleased {
    pub order_id: OrderId,
}

/// The order is completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CouponRedeemed {
    pub order_id: OrderId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PromotionState {
    pub created: Option<PromotionCreated>,
    pub ended: bool,
    pub redeemed: u64,
    open: BTreeMap<OrderId, AccountId>,
    /// Claimed or redeemed; kept where there is a limit per buyer.
    by_buyer: BTreeMap<AccountId, u32>,
    endings: Endings,
}

impl PromotionState {
    /// Claimed by orders that have not ended.
    pub fn claimed(&self) -> u64 {
        self.open.len() as u64
    }

    pub fn has_claimed(&self, order: OrderId) -> bool {
        self.open.contains_key(&order)
    }

    pub fn ending(&self, order: OrderId) -> Option<Ending> {
        self.endings.of(order)
    }

    /// Whether a buyer may use it for so much of goods at this moment. The claim decides about limits.
    pub fn usable(
        &self,
        buyer: AccountId,
        goods: Money,
        now: DateTime<Utc>,
    ) -> Result<&PromotionCreated, CouponRefusal> {
        let created = self.created.as_ref().ok_or(CouponRefusal::Unknown)?;
        if created.starts_at.is_some_and(|start| now < start) {
            return Err(CouponRefusal::NotYet);
        }
        if created.ends_at.is_some_and(|end| now >= end) {
            return Err(CouponRefusal::Ended);
        }
        match (&created.takes_off, created.minimum) {
            (TakesOff::Amount { amount }, _) if amount.currency != goods.currency => {
                return Err(CouponRefusal::Currency);
            }
            (_, Some(minimum)) if minimum.currency != goods.currency => return Err(CouponRefusal::Currency),
            (_, Some(minimum)) if goods.amount < minimum.amount => {
                return Err(CouponRefusal::BelowMinimum(minimum));
            }
            _ => {}
        }
        match self.rejection(buyer) {
            None => Ok(created),
            Some(CouponRejection::Ended) => Err(CouponRefusal::Ended),
            Some(CouponRejection::Exhausted) => Err(CouponRefusal::Exhausted),
            Some(CouponRejection::ExhaustedForBuyer) => Err(CouponRefusal::ExhaustedForBuyer),
        }
    }

    fn rejection(&self, buyer: AccountId) -> Option<CouponRejection> {
        let Some(created) = self.created.as_ref().filter(|_| !self.ended) else {
            return Some(CouponRejection::Ended);
        };
        let used = self.redeemed + self.claimed();
        let by_buyer = self.by_buyer.get(&buyer).copied().unwrap_or(0);
        if created.limit.is_some_and(|limit| used >= limit.into()) {
            Some(CouponRejection::Exhausted)
        } else if created.limit_per_buyer.is_some_and(|limit| by_buyer >= limit) {
            Some(CouponRejection::ExhaustedForBuyer)
        } else {
            None
        }
    }

    fn counts_buyers(&self) -> bool {
        self.created.as_ref().is_some_and(|created| created.limit_per_buyer.is_some())
    }
}

#[derive(Clone, Debug)]
pub enum PromotionCommand {
    Create(PromotionCreated),
    End,
    Claim { order_id: OrderId, buyer_id: AccountId },
    Release { order_id: OrderId },
    Redeem { order_id: OrderId },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromotionError {
    #[error("there is no such promotion")]
    NotFound,
    #[error("there is a promotion with this code")]
    CodeTaken,
    #[error("a percentage is between 1 and {WHOLE} basis points")]
    Percentage,
    #[error("amounts and limits are positive")]
    NotPositive,
    #[error("it ends after it starts")]
    Period,
    #[error("order {0} has no claim")]
    NotClaimed(OrderId),
}

/// Why a code cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CouponRefusal {
    #[error("there is no such code")]
    Unknown,
    #[error("this code cannot be used yet")]
    NotYet,
    #[error("this code cannot be used any more")]
    Ended,
    #[error("this code has been used as often as it may be")]
    Exhausted,
    #[error("you have used this code as often as you may")]
    ExhaustedForBuyer,
    #[error("this code is for goods of {0} at least")]
    BelowMinimum(Money),
    #[error("this code is for another currency")]
    Currency,
}

pub struct Promotion;

impl Decider for Promotion {
    type Id = PromotionId;
    type Command = PromotionCommand;
    type Event = PromotionEvent;
    type State = PromotionState;
    type Error = PromotionError;

    const CATEGORY: &'static str = "promotion";

    fn evolve(mut state: PromotionState, event: &PromotionEvent) -> PromotionState {
        match event {
            PromotionEvent::PromotionCreated(event) => state.created = Some(event.clone()),
            PromotionEvent::PromotionEnded(_) => state.ended = true,
            PromotionEvent::CouponClaimed(event) => {
                state.open.insert(event.order_id, event.buyer_id);
                if state.counts_buyers() {
                    *state.by_buyer.entry(event.buyer_id).or_default() += 1;
                }
            }
            PromotionEvent::CouponRejected(event) => state.endings.remember(event.order_id, Ending::Rejected),
            PromotionEvent::CouponReleased(event) => {
                if let Some(buyer) = state.open.remove(&event.order_id)
                    && let Some(count) = state.by_buyer.get_mut(&buyer)
                {
                    *count = count.saturating_sub(1);
                }
                state.endings.remember(event.order_id, Ending::Released);
            }
            PromotionEvent::CouponRedeemed(event) => {
                state.open.remove(&event.order_id);
                state.redeemed += 1;
                state.endings.remember(event.order_id, Ending::Committed);
            }
        }
        state
    }

    fn decide(
        state: &PromotionState,
        command: &PromotionCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<PromotionEvent>, PromotionError> {
        match command {
            PromotionCommand::Create(new) => create(state, new),
            PromotionCommand::End if state.created.is_none() => Err(PromotionError::NotFound),
            PromotionCommand::End if state.ended => Ok(vec![]),
            PromotionCommand::End => Ok(vec![PromotionEnded {}.into()]),
            PromotionCommand::Claim { order_id, buyer_id } => Ok(claim(state, *order_id, *buyer_id)),
            PromotionCommand::Release { order_id } => match state.ending(*order_id) {
                None => Ok(vec![CouponReleased { order_id: *order_id }.into()]),
                Some(_) => Ok(vec![]),
            },
            PromotionCommand::Redeem { order_id } => match state.ending(*order_id) {
                _ if state.has_claimed(*order_id) => Ok(vec![CouponRedeemed { order_id: *order_id }.into()]),
                Some(Ending::Committed) => Ok(vec![]),
                _ => Err(PromotionError::NotClaimed(*order_id)),
            },
        }
    }
}

fn create(state: &PromotionState, new: &PromotionCreated) -> Result<Vec<PromotionEvent>, PromotionError> {
    match &state.created {
        Some(created) if created == new => return Ok(vec![]),
        Some(_) => return Err(PromotionError::CodeTaken),
        None => {}
    }
    let amount = match &new.takes_off {
        TakesOff::Percentage { basis_points } if !(1..=WHOLE).contains(basis_points) => {
            return Err(PromotionError::Percentage);
        }
        TakesOff::Amount { amount } => Some(*amount),
        TakesOff::Percentage { .. } | TakesOff::FreeShipping => None,
    };
    let amounts_hold = amount.iter().chain(&new.minimum).all(|money| money.amount > 0);
    if !amounts_hold || new.limit == Some(0) || new.limit_per_buyer == Some(0) {
        return Err(PromotionError::NotPositive);
    }
    if new.starts_at.zip(new.ends_at).is_some_and(|(start, end)| end <= start) {
        return Err(PromotionError::Period);
    }
    Ok(vec![new.clone().into()])
}

fn claim(state: &PromotionState, order_id: OrderId, buyer_id: AccountId) -> Vec<PromotionEvent> {
    if state.has_claimed(order_id) || state.ending(order_id).is_some() {
        return vec![];
    }
    match state.rejection(buyer_id) {
        None => vec![CouponClaimed { order_id, buyer_id }.into()],
        Some(reason) => vec![CouponRejected { order_id, buyer_id, reason }.into()],
    }
}
