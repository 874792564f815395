//! The payment of one order: what was asked of the gateway and what came of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Decider, Money, OrderId, domain_events};

domain_events! {
    pub enum PaymentEvent {
        PaymentRequested = 1,
        PaymentCompleted = 1,
        PaymentFailed = 1,
        RefundRequested = 1,
        PaymentRefunded = 1,
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
    pub amount: Money,
    /// The gateway's own name for the refund.
    pub refund_id: String,
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
    },
    Charged {
        amount: Money,
        charge_id: String,
        refund_wanted: bool,
    },
    Failed {
        reason: FailureReason,
    },
    Refunded {
        amount: Money,
    },
}

impl PaymentState {
    /// Nothing is left to do at the gateway, and nothing is owed to the buyer of a cancelled order.
    pub fn is_settled_for_cancellation(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Refunded { .. })
    }
}

#[derive(Clone, Debug)]
pub enum PaymentCommand {
    Request(PaymentRequested),
    RecordCharge { charge_id: String },
    RecordFailure { reason: FailureReason },
    RequestRefund,
    RecordRefund { refund_id: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    #[error("no payment was requested")]
    NotRequested,
    #[error("the payment is not in a state that allows this")]
    OutOfOrder,
}

pub struct Payment;

impl Decider for Payment {
    type Id = OrderId;
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type State = PaymentState;
    type Error = PaymentError;

    const CATEGORY: &'static str = "payment";

    fn evolve(state: PaymentState, event: &PaymentEvent) -> PaymentState {
        use PaymentState as State;
        match (event, state) {
            (PaymentEvent::PaymentRequested(request), _) => {
                State::Pending { request: request.clone(), refund_wanted: false }
            }
            (PaymentEvent::PaymentCompleted(event), state) => State::Charged {
                amount: event.amount,
                charge_id: event.charge_id.clone(),
                refund_wanted: matches!(state, State::Pending { refund_wanted: true, .. }),
            },
            (PaymentEvent::PaymentFailed(event), _) => State::Failed { reason: event.reason },
            (PaymentEvent::RefundRequested(_), State::Pending { request, .. }) => {
                State::Pending { request, refund_wanted: true }
            }
            (PaymentEvent::RefundRequested(_), State::Charged { amount, charge_id, .. }) => {
                State::Charged { amount, charge_id, refund_wanted: true }
            }
            (PaymentEvent::RefundRequested(_), state) => state,
            (PaymentEvent::PaymentRefunded(event), _) => State::Refunded { amount: event.amount },
        }
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
            (
                Command::RequestRefund,
                State::Pending { refund_wanted: false, .. } | State::Charged { refund_wanted: false, .. },
            ) => Ok(vec![RefundRequested {}.into()]),
            (Command::RequestRefund, _) => Ok(vec![]),

            (Command::RecordRefund { refund_id }, State::Charged { amount, refund_wanted: true, .. }) => {
                Ok(vec![PaymentRefunded { amount: *amount, refund_id: refund_id.clone() }.into()])
            }
            (Command::RecordRefund { .. }, State::Refunded { .. }) => Ok(vec![]),
            (Command::RecordRefund { .. }, _) => Err(PaymentError::OutOfOrder),
        }
    }

    fn begins(command: &PaymentCommand) -> bool {
        matches!(command, PaymentCommand::Request(_))
    }
}
