//! The port to a payment gateway.

use async_trait::async_trait;
use souk_domain::{
    AccountId, Money,
    payment::{FailureReason, PaymentMethod},
};
use uuid::Uuid;

use crate::{GatewayError, Secret};

/// Takes money and gives it back. Every call may be repeated under its key and then answers what it answered before; the
/// same key with other parameters is [`GatewayError::Invalid`] (but see [`tokenize`](Self::tokenize)).
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// Turns what the buyer entered into a token that stands for it; the details never leave this call. Wrong details are
    /// [`GatewayError::Invalid`] naming `paymentInfo.paymentType`, `.cardNo`, `.expiry`, `.cvc` or `.vpa`.
    ///
    /// The same key answers the same token, also for other details: those of the first call count.
    async fn tokenize(
        &self,
        key: Uuid,
        buyer: AccountId,
        details: &PaymentDetails,
    ) -> Result<PaymentMethod, GatewayError>;

    /// Takes `amount`, at most once under `key`. A key that was cancelled answers
    /// [`FailureReason::Cancelled`], and nothing is charged.
    async fn charge(&self, key: Uuid, method: &PaymentMethod, amount: Money) -> Result<Charge, GatewayError>;

    /// What became of the charge under `key`; `None` if the gateway never heard of it. `None` is no promise: a charge that
    /// is still on its way may arrive later, unless it is [cancelled](Self::cancel).
    async fn find(&self, key: Uuid) -> Result<Option<Charge>, GatewayError>;

    /// Sees to it that nothing is charged under `key`, also by a charge that arrives later, or says that it is too late.
    async fn cancel(&self, key: Uuid) -> Result<Cancellation, GatewayError>;

    /// Gives back `amount` of a charge and answers the refund's id. All refunds of a charge together never exceed it.
    async fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Result<String, GatewayError>;
}

/// How the buyer wants to pay, as he entered it.
#[derive(Clone, Debug)]
pub enum PaymentDetails {
    Card {
        card_no: Secret,
        /// `MM/YY` or `MM/YYYY`.
        expiry: String,
        cvc: Secret,
    },
    Upi {
        vpa: String,
    },
    /// The buyer's balance at the gateway.
    Wallet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charge {
    Charged { charge_id: String },
    Failed(FailureReason),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// Nothing was charged under the key, and nothing ever will be.
    Cancelled,
    /// Too late; refund this charge.
    AlreadyCharged(String),
}
