//! What a gateway tells on its own of a charge, a refund or a dispute, looked up and believed.

use souk_domain::{Money, OrderId};
use uuid::Uuid;

use crate::Charge;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Charge {
        order: OrderId,
        amount: Money,
        charge: Charge,
    },
    /// Carried out, or under way, under the key that it was asked for with.
    Refund {
        order: OrderId,
        key: Uuid,
        amount: Money,
        refund_id: String,
    },
    Dispute {
        order: OrderId,
        /// The charge in dispute.
        charge: Charge,
        dispute_id: String,
        amount: Money,
        reason: String,
        standing: Standing,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Open,
    Won,
    Lost,
}
