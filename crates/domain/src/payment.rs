//! The payment of one order: what was asked of the gateway, what came of it, what went back in parts, and what the buyer
//! had his bank take back.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Decider, Money, OrderId, domain_events};

domain_events! {
    pub enum PaymentEvent {
        PaymentRequested = 1,
        PaymentActionRequired = 1,
        PaymentCompleted = 1,
        PaymentFailed = 1,
        RefundRequested = 1,
        PaymentRefunded = 2,
        PartialRefundRequested = 1,
        PaymentPartlyRefunded = 1,
        ChargebackOpened = 1,
        ChargebackClosed = 2,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PaymentType {
    Card,
    Upi,
    Wallet,
    /// Settled outside of Souk; only imports may use it.
    Invoice,
}

/// How the buyer pays, without a secret: the gateway's token stands for the card or account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentMethod {
    pub payment_type: PaymentType,
    pub token: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub brand: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_four: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequested {
    pub amount: Money,
    pub method: PaymentMethod,
}

/// The gateway charges only after the buyer has confirmed it there (3-D Secure).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentActionRequired {
    /// The gateway's own name for the charge that waits.
    pub charge_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentCompleted {
    pub amount: Money,
    /// The gateway's own name for the charge.
    pub charge_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    pub reason: FailureReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureReason {
    CardDeclined,
    InsufficientFunds,
    /// Given up before the gateway charged anything, and it never will under this key.
    Cancelled,
}

/// The money is to go back, if it was taken: asked for also while the outcome of the charge is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRequested {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRefunded {
    /// What was left of the charge: what the buyer's bank has taken back is with him already.
    pub amount: Money,
    /// The gateway's own name for the refund.
    pub refund_id: String,
    /// What of it the bank had taken back by then: the market's loss.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss: Option<Money>,
}

/// A part of the money is to go back: for what was returned or never sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialRefundRequested {
    /// What it is for, such as a return: one refund each.
    pub refund_key: Uuid,
    /// Zero if all of the charge is with the buyer already.
    pub amount: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPartlyRefunded {
    pub refund_key: Uuid,
    pub amount: Money,
    /// The gateway's own name for the refund.
    pub refund_id: String,
}

/// The buyer disputes the charge at his bank, which takes the money back until that is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargebackOpened {
    /// The gateway's own name for the dispute.
    pub dispute_id: String,
    pub amount: Money,
    /// As the gateway says it.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargebackClosed {
    pub dispute_id: String,
    pub amount: Money,
    /// Won: the money is back. Lost: it stays with the buyer.
    pub won: bool,
    /// Lost: what of it had been refunded before, or was lost already, and so is the market's loss.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss: Option<Money>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PaymentState {
    #[default]
    NotRequested,
    /// To be charged, or perhaps charged already.
    Pending {
        request: PaymentRequested,
        refund_wanted: bool,
        /// The charge that waits for the buyer to confirm it.
        action_required: Option<String>,
    },
    Charged {
        amount: Money,
        charge_id: String,
        refund_wanted: bool,
        taken_back: TakenBack,
    },
    Failed {
        reason: FailureReason,
    },
    /// As a whole, as far as the bank had not taken it back.
    Refunded {
        amount: Money,
        /// Of so much.
        charged: Money,
        taken_back: TakenBack,
    },
}

/// What went back of a charge, or is about to, in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenBack {
    /// By key; done or not.
    refunds: BTreeMap<Uuid, (Money, bool)>,
    /// By the gateway's name; undecided, won or lost.
    chargebacks: BTreeMap<String, (Money, Option<bool>)>,
}

impl TakenBack {
    /// Refunds that the gateway has not carried out yet.
    pub fn due(&self) -> impl Iterator<Item = (Uuid, Money)> {
        self.refunds.iter().filter(|(_, (_, done))| !done).map(|(key, (amount, _))| (*key, *amount))
    }

    /// What was asked to be refunded under this key, and whether the gateway has done it.
    pub fn refund(&self, key: Uuid) -> Option<(Money, bool)> {
        self.refunds.get(&key).copied()
    }

    fn is_disputed(&self) -> bool {
        self.chargebacks.values().any(|(_, won)| won.is_none())
    }

    /// In minor units of the charge's currency: what is refunded or to be, and the chargebacks that stand so.
    fn total(&self, counts: impl Fn(Option<bool>) -> bool) -> i64 {
        let refunds = self.refunds.values().map(|(amount, _)| amount.amount);
        let chargebacks = self.chargebacks.values().filter(|(_, won)| counts(*won));
        refunds.chain(chargebacks.map(|(amount, _)| amount.amount)).fold(0, i64::saturating_add)
    }

    /// What is not refunded or to be, nor in dispute or lost.
    pub fn left_of(&self, charged: Money) -> Money {
        let total = self.total(|won| won != Some(true));
        Money { amount: charged.amount.saturating_sub(total).max(0), ..charged }
    }

    /// What of this amount, which goes back as well, the charge does not have any more; `refunded` went back as a whole.
    fn loss(&self, charged: Money, refunded: i64, amount: Money) -> Option<Money> {
        let gone = self.total(|won| won == Some(false)).saturating_add(refunded);
        let beyond = gone.saturating_add(amount.amount).saturating_sub(charged.amount);
        let loss = beyond.clamp(0, amount.amount.max(0));
        (loss > 0).then_some(Money { amount: loss, ..amount })
    }
}

impl PaymentEvent {
    /// What the market loses by it, since the charge does not have that any more.
    pub fn loss(&self) -> Option<Money> {
        match self {
            Self::PaymentRefunded(event) => event.loss,
            Self::ChargebackClosed(event) => event.loss,
            _ => None,
        }
    }
}

impl PaymentState {
    /// Nobody knows yet who has the money in the end.
    pub fn is_disputed(&self) -> bool {
        match self {
            Self::Charged { taken_back, .. } | Self::Refunded { taken_back, .. } => taken_back.is_disputed(),
            Self::NotRequested | Self::Pending { .. } | Self::Failed { .. } => false,
        }
    }

    /// What may still be given back; nothing unless it is charged and stays so.
    pub fn refundable(&self) -> Option<Money> {
        match self {
            Self::Charged { amount, refund_wanted: false, taken_back, .. } => {
                Some(taken_back.left_of(*amount))
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub enum PaymentCommand {
    Request(PaymentRequested),
    RecordActionRequired {
        charge_id: String,
    },
    RecordCharge {
        charge_id: String,
    },
    RecordFailure {
        reason: FailureReason,
    },
    /// Of the whole payment, charged or not: the order is given up.
    RequestRefund,
    RecordRefund {
        refund_id: String,
        amount: Money,
    },
    /// Of a part, as far as the charge still has it; the same key asks for the same refund.
    RequestPartialRefund {
        refund_key: Uuid,
        amount: Money,
    },
    RecordPartialRefund {
        refund_key: Uuid,
        refund_id: String,
    },
    OpenChargeback {
        dispute_id: String,
        amount: Money,
        reason: String,
    },
    CloseChargeback {
        dispute_id: String,
        won: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    #[error("no payment was requested")]
    NotRequested,
    #[error("the payment is not in a state that allows this")]
    OutOfOrder,
    #[error("the payment was made in another currency")]
    Currency,
    #[error("the buyer disputes the payment: what goes back is known when that is decided")]
    Disputed,
    #[error("there is no such dispute")]
    NoSuchDispute,
}

pub struct Payment;

impl Decider for Payment {
    type Id = OrderId;
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type State = PaymentState;
    type Error = PaymentError;

    const CATEGORY: &'static str = "payment";
    const STATE_VERSION: u32 = 3;

    fn evolve(mut state: PaymentState, event: &PaymentEvent) -> PaymentState {
        use {PaymentEvent as Event, PaymentState as State};
        match (event, &mut state) {
            (Event::PaymentRequested(request), _) => {
                return State::Pending {
                    request: request.clone(),
                    refund_wanted: false,
                    action_required: None,
                };
            }
            (Event::PaymentCompleted(event), state) => {
                return State::Charged {
                    amount: event.amount,
                    charge_id: event.charge_id.clone(),
                    refund_wanted: matches!(state, State::Pending { refund_wanted: true, .. }),
                    taken_back: TakenBack::default(),
                };
            }
            (Event::PaymentFailed(event), _) => return State::Failed { reason: event.reason },
            (Event::PaymentRefunded(event), state) => {
                let (charged, taken_back) = match std::mem::take(state) {
                    State::Charged { amount, taken_back, .. } => (amount, taken_back),
                    _ => (event.amount, TakenBack::default()),
                };
                return State::Refunded { amount: event.amount, charged, taken_back };
            }
            (Event::PaymentActionRequired(event), State::Pending { action_required, .. }) => {
                *action_required = Some(event.charge_id.clone());
            }
            (
                Event::RefundRequested(_),
                State::Pending { refund_wanted, .. } | State::Charged { refund_wanted, .. },
            ) => *refund_wanted = true,
            (Event::PartialRefundRequested(event), State::Charged { taken_back, .. }) => {
                taken_back.refunds.insert(event.refund_key, (event.amount, event.amount.amount == 0));
            }
            (Event::PaymentPartlyRefunded(event), State::Charged { taken_back, .. }) => {
                taken_back.refunds.insert(event.refund_key, (event.amount, true));
            }
            (
                Event::ChargebackOpened(event),
                State::Charged { taken_back, .. } | State::Refunded { taken_back, .. },
            ) => {
                taken_back.chargebacks.insert(event.dispute_id.clone(), (event.amount, None));
            }
            (
                Event::ChargebackClosed(event),
                State::Charged { taken_back, .. } | State::Refunded { taken_back, .. },
            ) => {
                taken_back.chargebacks.insert(event.dispute_id.clone(), (event.amount, Some(event.won)));
            }
            (
                Event::PaymentActionRequired(_)
                | Event::RefundRequested(_)
                | Event::PartialRefundRequested(_)
                | Event::PaymentPartlyRefunded(_)
                | Event::ChargebackOpened(_)
                | Event::ChargebackClosed(_),
                _,
            ) => {}
        }
        state
    }

    #[expect(clippy::match_same_arms, reason = "one arm per rule, in the order one would tell them")]
    fn decide(
        state: &PaymentState,
        command: &PaymentCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<PaymentEvent>, PaymentError> {
        use {PaymentCommand as Command, PaymentState as State};
        match (command, state) {
            (Command::Request(request), State::NotRequested) => Ok(vec![request.clone().into()]),
            (Command::Request(_), _) => Ok(vec![]),

            (Command::RecordActionRequired { charge_id }, State::Pending { action_required, .. })
                if action_required.as_ref() != Some(charge_id) =>
            {
                Ok(vec![PaymentActionRequired { charge_id: charge_id.clone() }.into()])
            }
            (Command::RecordActionRequired { .. }, State::NotRequested) => Err(PaymentError::NotRequested),
            (Command::RecordActionRequired { .. }, _) => Ok(vec![]),

            (Command::RecordCharge { charge_id }, State::Pending { request, .. }) => {
                Ok(vec![PaymentCompleted { amount: request.amount, charge_id: charge_id.clone() }.into()])
            }
            (Command::RecordCharge { .. }, State::Charged { .. } | State::Refunded { .. }) => Ok(vec![]),
            (Command::RecordCharge { .. }, State::NotRequested | State::Failed { .. }) => {
                Err(PaymentError::OutOfOrder)
            }

            (Command::RecordFailure { reason }, State::Pending { .. }) => {
                Ok(vec![PaymentFailed { reason: *reason }.into()])
            }
            (Command::RecordFailure { .. }, State::Failed { .. }) => Ok(vec![]),
            (Command::RecordFailure { .. }, State::NotRequested) => Err(PaymentError::NotRequested),
            (Command::RecordFailure { .. }, State::Charged { .. } | State::Refunded { .. }) => {
                Err(PaymentError::OutOfOrder)
            }

            // Never asked for, or not yet: whatever still arrives finds the payment closed.
            (Command::RequestRefund, State::NotRequested) => {
                Ok(vec![PaymentFailed { reason: FailureReason::Cancelled }.into()])
            }
            (Command::RequestRefund, State::Charged { taken_back, .. }) if !taken_back.refunds.is_empty() => {
                Err(PaymentError::OutOfOrder)
            }
            (
                Command::RequestRefund,
                State::Pending { refund_wanted: false, .. } | State::Charged { refund_wanted: false, .. },
            ) => Ok(vec![RefundRequested {}.into()]),
            (Command::RequestRefund, _) => Ok(vec![]),

            (
                Command::RecordRefund { refund_id, amount },
                State::Charged { amount: charged, refund_wanted: true, taken_back, .. },
            ) => {
                let amount = Money { amount: amount.amount.clamp(0, charged.amount.max(0)), ..*charged };
                let (refund_id, loss) = (refund_id.clone(), taken_back.loss(*charged, 0, amount));
                Ok(vec![PaymentRefunded { amount, refund_id, loss }.into()])
            }
            (Command::RecordRefund { .. }, State::Refunded { .. }) => Ok(vec![]),
            (Command::RecordRefund { .. }, _) => Err(PaymentError::OutOfOrder),

            (_, State::NotRequested) => Err(PaymentError::NotRequested),
            (_, State::Charged { amount, taken_back, .. }) => {
                take_back(state, (*amount, 0), taken_back, command)
            }
            (_, State::Refunded { amount, charged, taken_back }) => {
                take_back(state, (*charged, amount.amount), taken_back, command)
            }
            (_, State::Pending { .. } | State::Failed { .. }) => Err(PaymentError::OutOfOrder),
        }
    }

    fn begins(command: &PaymentCommand) -> bool {
        matches!(command, PaymentCommand::Request(_))
    }
}

/// Of a charge: refunds in part, and disputes, which may also come when all of it went back.
fn take_back(
    state: &PaymentState,
    (charged, refunded): (Money, i64),
    taken_back: &TakenBack,
    command: &PaymentCommand,
) -> Result<Vec<PaymentEvent>, PaymentError> {
    match command {
        PaymentCommand::RequestPartialRefund { refund_key, amount } => {
            if taken_back.refunds.contains_key(refund_key) {
                return Ok(vec![]);
            }
            let left = state.refundable().ok_or(PaymentError::OutOfOrder)?;
            if amount.currency != left.currency {
                return Err(PaymentError::Currency);
            }
            if amount.amount > left.amount && taken_back.is_disputed() {
                return Err(PaymentError::Disputed);
            }
            let amount = Money { amount: amount.amount.clamp(0, left.amount), ..*amount };
            Ok(vec![PartialRefundRequested { refund_key: *refund_key, amount }.into()])
        }
        PaymentCommand::RecordPartialRefund { refund_key, refund_id } => {
            match taken_back.refunds.get(refund_key) {
                Some((amount, false)) => {
                    let (refund_key, amount, refund_id) = (*refund_key, *amount, refund_id.clone());
                    Ok(vec![PaymentPartlyRefunded { refund_key, amount, refund_id }.into()])
                }
                Some((_, true)) => Ok(vec![]),
                None => Err(PaymentError::OutOfOrder),
            }
        }
        PaymentCommand::OpenChargeback { dispute_id, amount, reason } => {
            if taken_back.chargebacks.contains_key(dispute_id) {
                return Ok(vec![]);
            }
            let (dispute_id, reason) = (dispute_id.clone(), reason.clone());
            Ok(vec![ChargebackOpened { dispute_id, amount: *amount, reason }.into()])
        }
        PaymentCommand::CloseChargeback { dispute_id, won } => match taken_back.chargebacks.get(dispute_id) {
            Some((amount, None)) => {
                let (dispute_id, amount, won) = (dispute_id.clone(), *amount, *won);
                let loss = if won { None } else { taken_back.loss(charged, refunded, amount) };
                Ok(vec![ChargebackClosed { dispute_id, amount, won, loss }.into()])
            }
            Some((_, Some(_))) => Ok(vec![]),
            None => Err(PaymentError::NoSuchDispute),
        },
        _ => Err(PaymentError::OutOfOrder),
    }
}
