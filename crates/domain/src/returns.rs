//! Returns of one order to one seller. They share a stream, which arbitrates: no unit is returned twice, and no more is
//! refunded than the units cost.
//!
//! A return is asked for by the buyer and accepted, in part or whole, or declined by the seller. What the seller cannot
//! send he gives back himself: that is a return, too, asked for and accepted in one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    AccountId, Decider, Money, ReturnId, ReturnsId, Sealed, Sku, SkuId, domain_events, order::OrderLine,
};

domain_events! {
    pub enum ReturnEvent {
        ReturnRequested = 1,
        ReturnAccepted = 1,
        ReturnDeclined = 1,
        ReturnParked = 1,
        ReturnResumed = 1,
        ReturnCompleted = 1,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReturnCause {
    BuyerRequest,
    /// The seller cannot send it.
    NotSent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReturnLine {
    pub sku_id: SkuId,
    pub sku: Sku,
    pub quantity: u32,
}

/// What becomes of goods that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Disposition {
    Restock,
    /// Broken, opened, or never there: not to be sold again.
    WriteOff,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedLine {
    pub sku_id: SkuId,
    pub quantity: u32,
    pub disposition: Disposition,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReturnRequested {
    pub return_id: ReturnId,
    /// The same request is the same return.
    pub request_id: Uuid,
    pub buyer_id: AccountId,
    pub cause: ReturnCause,
    /// One per SKU.
    pub lines: Vec<ReturnLine>,
    /// In the buyer's own words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Sealed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReturnAccepted {
    pub return_id: ReturnId,
    pub lines: Vec<AcceptedLine>,
    /// What the buyer gets back.
    pub refund: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReturnDeclined {
    pub return_id: ReturnId,
    pub reason: String,
}

/// What is to follow could not be done; an operator has to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReturnParked {
    pub return_id: ReturnId,
    pub reason: String,
}

/// An operator sent it on its way again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReturnResumed {
    pub return_id: ReturnId,
}

/// The goods are put back or written off, the money is with the buyer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReturnCompleted {
    pub return_id: ReturnId,
    /// Less than was agreed on if the buyer's bank had taken back more than was left.
    pub refunded: Money,
}

impl ReturnEvent {
    pub fn return_id(&self) -> ReturnId {
        match self {
            Self::ReturnRequested(event) => event.return_id,
            Self::ReturnAccepted(event) => event.return_id,
            Self::ReturnDeclined(event) => event.return_id,
            Self::ReturnParked(event) => event.return_id,
            Self::ReturnResumed(event) => event.return_id,
            Self::ReturnCompleted(event) => event.return_id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReturnStatus {
    Requested,
    Accepted,
    Declined,
    Parked,
    Completed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Return {
    pub requested: ReturnRequested,
    pub accepted: Option<ReturnAccepted>,
    pub status: ReturnStatus,
}

impl Return {
    /// Units that cannot be returned once more.
    fn units(&self) -> BTreeMap<SkuId, u32> {
        match (&self.accepted, self.status) {
            (Some(accepted), _) => summed(accepted.lines.iter().map(|line| (line.sku_id, line.quantity))),
            (None, ReturnStatus::Declined) => BTreeMap::new(),
            (None, _) => summed(self.requested.lines.iter().map(|line| (line.sku_id, line.quantity))),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReturnsState {
    /// By number.
    pub returns: BTreeMap<u32, Return>,
}

impl ReturnsState {
    /// Returned before, or about to be.
    pub fn taken(&self, sku: SkuId) -> u32 {
        let units = |one: &Return| one.units().get(&sku).copied().unwrap_or(0);
        self.returns.values().map(units).fold(0, u32::saturating_add)
    }

    /// Units that sellers have taken back at the buyers' request, sent or not.
    pub fn taken_back(&self) -> BTreeMap<SkuId, u32> {
        let by_buyer = self.returns.values().filter(|one| one.requested.cause == ReturnCause::BuyerRequest);
        let lines = by_buyer.filter_map(|one| one.accepted.as_ref()).flat_map(|accepted| &accepted.lines);
        summed(lines.map(|line| (line.sku_id, line.quantity)))
    }

    /// Asked for by the buyer, and not decided yet.
    fn undecided(&self, sku: SkuId) -> u32 {
        let open = self.returns.values().filter(|one| one.status == ReturnStatus::Requested);
        open.map(|one| one.units().get(&sku).copied().unwrap_or(0)).fold(0, u32::saturating_add)
    }

    pub fn of_request(&self, request: Uuid) -> Option<&Return> {
        self.returns.values().find(|one| one.requested.request_id == request)
    }
}

#[derive(Clone, Debug)]
pub enum ReturnCommand {
    /// By the buyer. `bought` are the seller's lines of the order, which never change.
    Request {
        ask: Ask,
        bought: Vec<OrderLine>,
        reason: Option<Sealed>,
    },
    /// By the seller, of what he will not send. Units that are under way back already are left to that return; of those
    /// that the buyer has only asked to return it is not known yet.
    GiveBack {
        ask: Ask,
        bought: Vec<OrderLine>,
        disposition: Disposition,
    },
    /// Nothing said: all of it goes back into stock, and all that it cost to the buyer.
    Accept {
        number: u32,
        lines: Option<Vec<AcceptedLine>>,
        refund: Option<Money>,
        bought: Vec<OrderLine>,
    },
    Decline {
        number: u32,
        reason: String,
    },
    Park {
        number: u32,
        reason: String,
    },
    Resume {
        number: u32,
    },
    Complete {
        number: u32,
        refunded: Money,
    },
}

/// What is to be returned, and who asks.
#[derive(Clone, Debug)]
pub struct Ask {
    pub returns: ReturnsId,
    pub request_id: Uuid,
    pub buyer_id: AccountId,
    pub lines: Vec<(SkuId, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReturnError {
    #[error("there is no such return")]
    NotFound,
    #[error("nothing is to be returned")]
    Nothing,
    #[error("this was not bought of this seller")]
    NotBought(SkuId),
    #[error("only {left} of {sku} are left to be returned")]
    TooMany { sku: Sku, left: u32 },
    #[error("only {} {} are to be refunded for this", most.amount, most.currency)]
    TooMuch { most: Money },
    #[error("the return was decided otherwise")]
    Decided,
    #[error("the buyer has asked to return these, and that is not decided")]
    Undecided,
}

/// What the buyer paid for so many units.
pub fn paid_for(bought: &[OrderLine], units: &BTreeMap<SkuId, u32>) -> Result<Money, ReturnError> {
    let mut sum: Option<Money> = None;
    for (&sku, &quantity) in units {
        let mut left = quantity;
        // A SKU may stand in several lines.
        for line in bought.iter().filter(|line| line.sku_id == sku) {
            let of_line = left.min(line.quantity);
            left -= of_line;
            let price = line.unit_price.times(of_line).map_err(|_| ReturnError::NotBought(sku))?;
            sum =
                Some(sum.map_or(Ok(price), |sum| sum.plus(price)).map_err(|_| ReturnError::NotBought(sku))?);
        }
    }
    sum.ok_or(ReturnError::Nothing)
}

fn summed(lines: impl IntoIterator<Item = (SkuId, u32)>) -> BTreeMap<SkuId, u32> {
    let mut sums = BTreeMap::new();
    for (sku, quantity) in lines {
        let sum: &mut u32 = sums.entry(sku).or_default();
        *sum = sum.saturating_add(quantity);
    }
    sums.retain(|_, quantity| *quantity > 0);
    sums
}

/// The decider of `return-{orderId}-{sellerId}`.
pub struct Returns;

impl Decider for Returns {
    type Id = ReturnsId;
    type Command = ReturnCommand;
    type Event = ReturnEvent;
    type State = ReturnsState;
    type Error = ReturnError;

    const CATEGORY: &'static str = "return";

    fn evolve(mut state: ReturnsState, event: &ReturnEvent) -> ReturnsState {
        let number = event.return_id().number;
        if let ReturnEvent::ReturnRequested(event) = event {
            let requested = event.clone();
            state
                .returns
                .insert(number, Return { requested, accepted: None, status: ReturnStatus::Requested });
        }
        let Some(one) = state.returns.get_mut(&number) else { return state };
        one.status = match event {
            ReturnEvent::ReturnRequested(_) => ReturnStatus::Requested,
            ReturnEvent::ReturnAccepted(event) => {
                one.accepted = Some(event.clone());
                ReturnStatus::Accepted
            }
            ReturnEvent::ReturnDeclined(_) => ReturnStatus::Declined,
            ReturnEvent::ReturnParked(_) => ReturnStatus::Parked,
            ReturnEvent::ReturnResumed(_) => ReturnStatus::Accepted,
            ReturnEvent::ReturnCompleted(_) => ReturnStatus::Completed,
        };
        state
    }

    fn decide(
        state: &ReturnsState,
        command: &ReturnCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<ReturnEvent>, ReturnError> {
        match command {
            ReturnCommand::Request { ask, .. } | ReturnCommand::GiveBack { ask, .. }
                if state.of_request(ask.request_id).is_some() =>
            {
                Ok(vec![])
            }
            ReturnCommand::Request { ask, bought, reason } => {
                let units = summed(ask.lines.iter().copied());
                for (&sku_id, &quantity) in &units {
                    let (sku, left) = left(state, bought, sku_id)?;
                    if quantity > left {
                        return Err(ReturnError::TooMany { sku, left });
                    }
                }
                Ok(vec![open(state, ask, &units, bought, ReturnCause::BuyerRequest, reason.clone())?.into()])
            }
            ReturnCommand::GiveBack { ask, bought, disposition } => {
                let mut units = summed(ask.lines.iter().copied());
                for (sku_id, quantity) in &mut units {
                    let left = left(state, bought, *sku_id)?.1;
                    if *quantity > left && state.undecided(*sku_id) > 0 {
                        return Err(ReturnError::Undecided);
                    }
                    *quantity = left.min(*quantity);
                }
                units.retain(|_, quantity| *quantity > 0);
                if units.is_empty() {
                    return Ok(vec![]);
                }
                let requested = open(state, ask, &units, bought, ReturnCause::NotSent, None)?;
                let accepted = ReturnAccepted {
                    return_id: requested.return_id,
                    lines: disposed(&units, *disposition),
                    refund: paid_for(bought, &units)?,
                };
                Ok(vec![requested.into(), accepted.into()])
            }
            ReturnCommand::Accept { number, lines, refund, bought } => {
                let one = state.returns.get(number).ok_or(ReturnError::NotFound)?;
                let accepted = accept(one, lines.as_deref(), *refund, bought)?;
                match &one.accepted {
                    None if one.status == ReturnStatus::Requested => Ok(vec![accepted.into()]),
                    Some(before) if *before == accepted => Ok(vec![]),
                    _ => Err(ReturnError::Decided),
                }
            }
            ReturnCommand::Decline { number, reason } => {
                let (return_id, status) = find(state, *number)?;
                match status {
                    ReturnStatus::Requested => {
                        Ok(vec![ReturnDeclined { return_id, reason: reason.clone() }.into()])
                    }
                    ReturnStatus::Declined => Ok(vec![]),
                    _ => Err(ReturnError::Decided),
                }
            }
            ReturnCommand::Park { number, reason } => match find(state, *number)? {
                (return_id, ReturnStatus::Accepted) => {
                    Ok(vec![ReturnParked { return_id, reason: reason.clone() }.into()])
                }
                _ => Ok(vec![]),
            },
            ReturnCommand::Resume { number } => match find(state, *number)? {
                (return_id, ReturnStatus::Parked) => Ok(vec![ReturnResumed { return_id }.into()]),
                _ => Ok(vec![]),
            },
            ReturnCommand::Complete { number, refunded } => {
                let one = state.returns.get(number).ok_or(ReturnError::NotFound)?;
                match (&one.accepted, one.status) {
                    (Some(_), ReturnStatus::Completed) => Ok(vec![]),
                    (Some(accepted), _) if !is_part(*refunded, accepted.refund) => {
                        Err(ReturnError::TooMuch { most: accepted.refund })
                    }
                    (Some(accepted), _) => {
                        let (return_id, refunded) = (accepted.return_id, *refunded);
                        Ok(vec![ReturnCompleted { return_id, refunded }.into()])
                    }
                    (None, _) => Err(ReturnError::Decided),
                }
            }
        }
    }
}

fn find(state: &ReturnsState, number: u32) -> Result<(ReturnId, ReturnStatus), ReturnError> {
    let one = state.returns.get(&number).ok_or(ReturnError::NotFound)?;
    Ok((one.requested.return_id, one.status))
}

/// How many units of what was bought may still be returned.
fn left(state: &ReturnsState, bought: &[OrderLine], sku_id: SkuId) -> Result<(Sku, u32), ReturnError> {
    let lines = || bought.iter().filter(|line| line.sku_id == sku_id);
    let sku = lines().next().ok_or(ReturnError::NotBought(sku_id))?.sku.clone();
    let units = lines().map(|line| line.quantity).fold(0, u32::saturating_add);
    Ok((sku, units.saturating_sub(state.taken(sku_id))))
}

fn open(
    state: &ReturnsState,
    ask: &Ask,
    units: &BTreeMap<SkuId, u32>,
    bought: &[OrderLine],
    cause: ReturnCause,
    reason: Option<Sealed>,
) -> Result<ReturnRequested, ReturnError> {
    if units.is_empty() {
        return Err(ReturnError::Nothing);
    }
    let lines = units
        .iter()
        .map(|(&sku_id, &quantity)| Ok(ReturnLine { sku_id, sku: left(state, bought, sku_id)?.0, quantity }))
        .collect::<Result<_, _>>()?;
    let number = state.returns.keys().next_back().map_or(1, |last| last + 1);
    let return_id = ReturnId { returns: ask.returns, number };
    let Ask { request_id, buyer_id, .. } = *ask;
    Ok(ReturnRequested { return_id, request_id, buyer_id, cause, lines, reason })
}

fn accept(
    one: &Return,
    lines: Option<&[AcceptedLine]>,
    refund: Option<Money>,
    bought: &[OrderLine],
) -> Result<ReturnAccepted, ReturnError> {
    let requested = summed(one.requested.lines.iter().map(|line| (line.sku_id, line.quantity)));
    let lines = match lines {
        None => disposed(&requested, Disposition::Restock),
        Some(lines) => [Disposition::Restock, Disposition::WriteOff]
            .into_iter()
            .flat_map(|disposition| {
                let of = lines.iter().filter(|line| line.disposition == disposition);
                disposed(&summed(of.map(|line| (line.sku_id, line.quantity))), disposition)
            })
            .collect(),
    };
    let units = summed(lines.iter().map(|line| (line.sku_id, line.quantity)));
    for (&sku_id, &quantity) in &units {
        let asked = one.requested.lines.iter().find(|line| line.sku_id == sku_id);
        let asked = asked.ok_or(ReturnError::NotBought(sku_id))?;
        if quantity > asked.quantity {
            return Err(ReturnError::TooMany { sku: asked.sku.clone(), left: asked.quantity });
        }
    }
    let most = paid_for(bought, &units)?;
    let refund = refund.unwrap_or(most);
    if !is_part(refund, most) {
        return Err(ReturnError::TooMuch { most });
    }
    Ok(ReturnAccepted { return_id: one.requested.return_id, lines, refund })
}

fn is_part(refund: Money, of: Money) -> bool {
    refund.currency == of.currency && (0..=of.amount).contains(&refund.amount)
}

fn disposed(units: &BTreeMap<SkuId, u32>, disposition: Disposition) -> Vec<AcceptedLine> {
    units.iter().map(|(&sku_id, &quantity)| AcceptedLine { sku_id, quantity, disposition }).collect()
}
