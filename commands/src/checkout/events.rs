//! What the process manager records: facts it learnt, effects it decided on.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_domain::{
    AccountId, CartId, CreditId, Money, PromotionId, SkuId, domain_events,
    order::{CancelReason, ShortLine},
};
use uuid::Uuid;

domain_events! {
    pub enum CheckoutEvent {
        CheckoutStarted = 2,
        CheckoutAdvanced = 2,
        CheckoutParked = 2 upcast parked_once,
        CheckoutResumed = 1,
        CheckoutSettled = 1,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutStarted {
    pub cart_id: CartId,
    pub buyer_id: AccountId,
    /// One per SKU: lines that share a SKU are summed.
    pub reservations: Vec<Reservation>,
    /// None of version 1.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub claims: Vec<Claim>,
    pub sellers: Vec<AccountId>,
    /// Until when the order must be ready to ship; then it is given up.
    pub deadline: DateTime<Utc>,
    pub correlation_id: Uuid,
    /// When an imported order happened; all that follows from it happened then, too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backdated_to: Option<DateTime<Utc>>,
    pub decided: Vec<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    pub sku_id: SkuId,
    pub quantity: u32,
}

/// What there is only so much of, beside stock, and an order uses up. It is claimed, released and committed as stock is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    pub source: Source,
    /// Of credit; a coupon is claimed as a whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub amount: Option<Money>,
}

/// Whose stream decides about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "camelCase")]
pub enum Source {
    Promotion(PromotionId),
    Credit(CreditId),
}

impl Source {
    /// Why an order is cancelled whose claim is rejected.
    pub(super) fn exhausted(self) -> CancelReason {
        match self {
            Self::Promotion(_) => CancelReason::PromotionExhausted,
            Self::Credit(_) => CancelReason::CreditExhausted,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Promotion(id) => write!(f, "promotion/{id}"),
            Self::Credit(id) => write!(f, "credit/{id}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutAdvanced {
    pub learnt: Vec<Fact>,
    pub decided: Vec<Effect>,
}

/// What was to be done could not be done; an operator has to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutParked {
    pub effect: Effect,
    /// What the last try came to.
    pub reason: String,
    pub attempts: u32,
}

/// Version 1 did not say how often it was tried; it was once at least.
fn parked_once(_version: u32, mut data: Value) -> Value {
    data["attempts"] = 1.into();
    data
}

/// An operator sent it on its way again, or what was parked was done after all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutResumed {}

/// An operator has seen to what was parked outside of Souk: it goes on to its end without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutSettled {
    pub effect: Effect,
    pub outcome: ByHand,
    /// In the operator's words.
    pub reason: String,
}

/// What an operator says of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ByHand {
    /// It was done outside.
    Done,
    /// There is nothing that would have to be done.
    NotNeeded,
}

/// What happened elsewhere and concerns the checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fact {
    StockReserved { sku_id: SkuId },
    ReservationRejected { sku_id: SkuId, available: u64 },
    ReservationReleased { sku_id: SkuId },
    ReservationCommitted { sku_id: SkuId },
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    ShipmentReady { seller_id: AccountId },
    ShipmentRefused { seller_id: AccountId },
    ShipmentCancelled { seller_id: AccountId },
    ReadyToShip,
    CancellationRequested,
    DeadlinePassed,
    ClaimHeld { source: Source },
    ClaimRejected { source: Source },
    ClaimReleased { source: Source },
    ClaimCommitted { source: Source },
}

/// What is to be done. Each may be done twice: its command ids derive from the order and the step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    PlaceOrder,
    Reserve {
        sku_id: SkuId,
        quantity: u32,
    },
    MarkStockReserved,
    RequestPayment,
    MarkPaid,
    RequestShipment {
        seller_id: AccountId,
    },
    MarkReadyToShip,
    Commit {
        sku_id: SkuId,
    },
    CompleteOrder,
    Release {
        sku_id: SkuId,
    },
    Refund,
    CancelShipment {
        seller_id: AccountId,
    },
    RestoreCart,
    CancelOrder {
        reason: CancelReason,
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        short_lines: Vec<ShortLine>,
    },
    Claim {
        claim: Claim,
    },
    ReleaseClaim {
        source: Source,
    },
    CommitClaim {
        source: Source,
    },
    /// What an operator said of an effect is to be recorded where the effect would have been.
    RecordByHand {
        of: Box<Self>,
        outcome: ByHand,
    },
}

/// What checkouts wait for, as metrics name it.
pub(super) const PHASES: [&str; 9] = [
    "reserving",
    "paying",
    "shipping",
    "readying",
    "committing",
    "completing",
    "compensating",
    "cancelling",
    "parked",
];

impl Effect {
    /// What a checkout waits for that has decided on this last.
    pub(super) fn phase(&self) -> &'static str {
        match self {
            Self::PlaceOrder | Self::Reserve { .. } | Self::Claim { .. } => "reserving",
            Self::MarkStockReserved | Self::RequestPayment => "paying",
            Self::MarkPaid | Self::RequestShipment { .. } => "shipping",
            Self::MarkReadyToShip => "readying",
            Self::Commit { .. } | Self::CommitClaim { .. } => "committing",
            Self::CompleteOrder => "completing",
            Self::Release { .. } | Self::ReleaseClaim { .. } | Self::Refund | Self::CancelShipment { .. } => {
                "compensating"
            }
            Self::RestoreCart | Self::CancelOrder { .. } => "cancelling",
            Self::RecordByHand { of, .. } => of.phase(),
        }
    }
}
