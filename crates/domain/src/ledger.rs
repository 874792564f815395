//! What the market owes a seller, in double entry. Every entry moves money between accounts and sums to zero, so all
//! accounts of a seller together are zero at any moment. A payout never exceeds what is owed: this stream decides it.
//!
//! An amount is what an account gains. `clearing` stands for whatever buyers pay by (gateways, gift cards and store credit,
//! invoices): it goes down by what they pay, and up by what leaves again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    AccountId, Currency, Decider, Money, OrderId, PayoutId, domain_events, order::OrderPlaced, pricing::WHOLE,
};

domain_events! {
    pub enum LedgerEvent {
        EntryPosted = 1,
        PayoutRequested = 1,
        PayoutSettled = 1,
        PayoutFailed = 1,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LedgerAccount {
    /// What buyers paid, less what they got back and what was paid out.
    Clearing,
    /// What the market owes the seller; below zero, what he owes the market.
    SellerPayable,
    /// What the market earned.
    Commission,
    /// On its way to the seller.
    Payouts,
    /// In dispute.
    Chargebacks,
    /// What buyers' banks took although it had been given back, which no seller bears.
    Losses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EntryKind {
    /// With its commission.
    Sale,
    /// With what of the commission goes back.
    Refund,
    Chargeback,
    ChargebackWon,
    ChargebackLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Posting {
    pub account: LedgerAccount,
    pub amount: Money,
}

/// What the market takes of a sale: so much in ten thousand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommissionRate {
    pub on: Money,
    pub basis_points: u32,
}

impl CommissionRate {
    /// In minor units; rounded down, in the seller's favour.
    pub fn commission(&self) -> i64 {
        let exact = i128::from(self.on.amount) * i128::from(self.basis_points) / i128::from(WHOLE);
        i64::try_from(exact).unwrap_or(self.on.amount)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryPosted {
    /// Derived from what the entry stands for, which is so booked once.
    pub entry_id: Uuid,
    pub kind: EntryKind,
    pub order_id: OrderId,
    /// How many entries, one per seller, stand for the same.
    pub parts: u32,
    /// Of a sale: the rates that it was charged.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rates: Vec<CommissionRate>,
    pub postings: Vec<Posting>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayoutRequested {
    pub payout_id: PayoutId,
    pub amount: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayoutSettled {
    pub payout_id: PayoutId,
    pub amount: Money,
    /// The bank's own name for the transfer.
    pub reference: String,
}

/// The money is owed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayoutFailed {
    pub payout_id: PayoutId,
    pub amount: Money,
    pub reason: String,
}

/// From one account to the other.
pub fn moved(amount: Money, from: LedgerAccount, to: LedgerAccount) -> Vec<Posting> {
    let of = |account, units: i64| Posting { account, amount: Money { amount: units, ..amount } };
    vec![of(from, -amount.amount), of(to, amount.amount)]
}

impl LedgerEvent {
    /// What it moves; sums to zero in each currency.
    pub fn postings(&self) -> Vec<Posting> {
        use LedgerAccount::{Clearing, Payouts, SellerPayable};
        match self {
            Self::EntryPosted(event) => event.postings.clone(),
            Self::PayoutRequested(event) => moved(event.amount, SellerPayable, Payouts),
            Self::PayoutSettled(event) => moved(event.amount, Payouts, Clearing),
            Self::PayoutFailed(event) => moved(event.amount, Payouts, SellerPayable),
        }
    }
}

/// Whether the postings sum to zero in each currency.
pub fn balances(postings: &[Posting]) -> bool {
    let mut sums = BTreeMap::<Currency, i128>::new();
    for posting in postings {
        *sums.entry(posting.amount.currency).or_default() += i128::from(posting.amount.amount);
    }
    sums.values().all(|sum| *sum == 0)
}

/// Divides an amount in proportion to the weights; what rounding leaves falls to the last.
pub fn shares<K: Ord + Copy>(amount: Money, weights: &BTreeMap<K, i64>) -> BTreeMap<K, Money> {
    let whole: i128 = weights.values().copied().map(i128::from).sum();
    let mut left = amount.amount;
    let last = weights.keys().next_back().copied();
    weights
        .iter()
        .map(|(&key, &weight)| {
            let exact = i128::from(amount.amount) * i128::from(weight) / whole.max(1);
            let share = if Some(key) == last { left } else { i64::try_from(exact).unwrap_or(left) };
            left -= share;
            (key, Money { amount: share, ..amount })
        })
        .collect()
}

/// What each seller's lines come to.
pub fn by_seller(placed: &OrderPlaced) -> BTreeMap<AccountId, i64> {
    let mut sums = BTreeMap::new();
    for line in &placed.lines {
        let price = line.unit_price.amount.saturating_mul(line.quantity.into());
        let sum: &mut i64 = sums.entry(line.seller_id).or_default();
        *sum = sum.saturating_add(price);
    }
    sums
}

/// What of an order's total is each seller's.
pub fn gross(placed: &OrderPlaced) -> BTreeMap<AccountId, Money> {
    shares(placed.total, &by_seller(placed))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PayoutStatus {
    Requested,
    Settled,
    Failed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LedgerState {
    pub balances: BTreeMap<Currency, BTreeMap<LedgerAccount, i64>>,
    pub payouts: BTreeMap<PayoutId, (Money, PayoutStatus)>,
    posted: Posted,
}

impl LedgerState {
    pub fn balance(&self, account: LedgerAccount, currency: Currency) -> i64 {
        let of_currency = self.balances.get(&currency);
        of_currency.and_then(|accounts| accounts.get(&account)).copied().unwrap_or(0)
    }

    pub fn is_posted(&self, entry: Uuid) -> bool {
        self.posted.known.contains(&entry)
    }
}

/// The latest entries, so that one that is posted twice is found out. The bookkeeper finds in the log what it has not
/// posted yet; twice it comes only when two are at work at once, or when an answer was lost: within moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VecDeque<Uuid>", into = "VecDeque<Uuid>")]
struct Posted {
    known: BTreeSet<Uuid>,
    oldest_first: VecDeque<Uuid>,
}

const ENTRIES_KEPT: usize = 10_000;

impl Posted {
    fn remember(&mut self, entry: Uuid) {
        if self.known.insert(entry) {
            self.oldest_first.push_back(entry);
        }
        if self.oldest_first.len() > ENTRIES_KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl From<VecDeque<Uuid>> for Posted {
    fn from(oldest_first: VecDeque<Uuid>) -> Self {
        Self { known: oldest_first.iter().copied().collect(), oldest_first }
    }
}

impl From<Posted> for VecDeque<Uuid> {
    fn from(posted: Posted) -> Self {
        posted.oldest_first
    }
}

#[derive(Clone, Debug)]
pub enum LedgerCommand {
    Post(EntryPosted),
    RequestPayout { payout_id: PayoutId, amount: Money },
    SettlePayout { payout_id: PayoutId, reference: String },
    FailPayout { payout_id: PayoutId, reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("the entry does not sum to zero")]
    Unbalanced,
    #[error("only {} {} are owed", balance.amount, balance.currency)]
    AboveBalance { balance: Money },
    #[error("there is no such payout")]
    NoSuchPayout,
    #[error("the payout was decided otherwise")]
    Decided,
}

/// The decider of `ledger-{sellerId}`.
pub struct Ledger;

impl Decider for Ledger {
    type Id = AccountId;
    type Command = LedgerCommand;
    type Event = LedgerEvent;
    type State = LedgerState;
    type Error = LedgerError;

    const CATEGORY: &'static str = "ledger";

    fn evolve(mut state: LedgerState, event: &LedgerEvent) -> LedgerState {
        for posting in event.postings() {
            let accounts = state.balances.entry(posting.amount.currency).or_default();
            let balance = accounts.entry(posting.account).or_default();
            *balance = balance.saturating_add(posting.amount.amount);
        }
        match event {
            LedgerEvent::EntryPosted(event) => state.posted.remember(event.entry_id),
            LedgerEvent::PayoutRequested(event) => {
                state.payouts.insert(event.payout_id, (event.amount, PayoutStatus::Requested));
            }
            LedgerEvent::PayoutSettled(event) => {
                state.payouts.insert(event.payout_id, (event.amount, PayoutStatus::Settled));
            }
            LedgerEvent::PayoutFailed(event) => {
                state.payouts.insert(event.payout_id, (event.amount, PayoutStatus::Failed));
            }
        }
        state
    }

    fn decide(
        state: &LedgerState,
        command: &LedgerCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<LedgerEvent>, LedgerError> {
        match command {
            LedgerCommand::Post(entry) if state.is_posted(entry.entry_id) => Ok(vec![]),
            LedgerCommand::Post(entry) if !balances(&entry.postings) => Err(LedgerError::Unbalanced),
            LedgerCommand::Post(entry) => Ok(vec![entry.clone().into()]),
            LedgerCommand::RequestPayout { payout_id, .. } if state.payouts.contains_key(payout_id) => {
                Ok(vec![])
            }
            LedgerCommand::RequestPayout { payout_id, amount } => {
                let owed = state.balance(LedgerAccount::SellerPayable, amount.currency);
                if !(1..=owed).contains(&amount.amount) {
                    return Err(LedgerError::AboveBalance { balance: Money { amount: owed, ..*amount } });
                }
                Ok(vec![PayoutRequested { payout_id: *payout_id, amount: *amount }.into()])
            }
            LedgerCommand::SettlePayout { payout_id, reference } => match payout(state, *payout_id)? {
                (amount, PayoutStatus::Requested) => {
                    let (payout_id, reference) = (*payout_id, reference.clone());
                    Ok(vec![PayoutSettled { payout_id, amount, reference }.into()])
                }
                (_, PayoutStatus::Settled) => Ok(vec![]),
                (_, PayoutStatus::Failed) => Err(LedgerError::Decided),
            },
            LedgerCommand::FailPayout { payout_id, reason } => match payout(state, *payout_id)? {
                (amount, PayoutStatus::Requested) => {
                    let (payout_id, reason) = (*payout_id, reason.clone());
                    Ok(vec![PayoutFailed { payout_id, amount, reason }.into()])
                }
                (_, PayoutStatus::Failed) => Ok(vec![]),
                (_, PayoutStatus::Settled) => Err(LedgerError::Decided),
            },
        }
    }
}

fn payout(state: &LedgerState, id: PayoutId) -> Result<(Money, PayoutStatus), LedgerError> {
    state.payouts.get(&id).copied().ok_or(LedgerError::NoSuchPayout)
}
