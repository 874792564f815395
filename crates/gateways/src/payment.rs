//! The port to a payment gateway.

use std::fmt;

use async_trait::async_trait;
use souk_domain::{
    AccountId, Money, OrderId,
    payment::{FailureReason, PaymentMethod},
};
use uuid::Uuid;

use crate::{GatewayError, Secret};

/// Takes money and gives it back. Every call may be repeated under its key and then answers what it answered before, or
/// what has become of it since; the same key with other parameters is [`GatewayError::Invalid`] (but see
/// [`tokenize`](Self::tokenize)).
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// Turns what the buyer entered into a token that stands for it; the details never leave this call. Wrong details are
    /// [`GatewayError::Invalid`] naming `paymentInfo.paymentType`, `.cardNo`, `.expiry`, `.cvc`, `.vpa` or `.token`.
    ///
    /// The same key and the same details answer the same token. For other details it may be the first one's, too.
    async fn tokenize(
        &self,
        key: Uuid,
        buyer: AccountId,
        details: &PaymentDetails,
    ) -> Result<PaymentMethod, GatewayError>;

    /// Takes the purchase's amount, at most once under its key. A key that was cancelled answers
    /// [`FailureReason::Cancelled`], and nothing is charged. [`Charge::ActionRequired`] is not the last word: ask again.
    async fn charge(&self, purchase: &Purchase) -> Result<Charge, GatewayError>;

    /// What became of the charge; `None` if the gateway never heard of it. `None` is no promise: a charge that is still on
    /// its way may arrive later, unless it is [cancelled](Self::cancel).
    async fn find(&self, purchase: &Purchase) -> Result<Option<Charge>, GatewayError>;

    /// Sees to it that nothing is charged under the key, also by a charge that arrives later, or says that it is too late.
    async fn cancel(&self, purchase: &Purchase) -> Result<Cancellation, GatewayError>;

    /// Gives back `amount` of a charge and answers the refund's id. All refunds of a charge together never exceed it. A key
    /// that stands for a refund of another amount is [`GatewayError::Invalid`], with the field `key`.
    async fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Result<String, GatewayError>;

    /// What the buyer has to do so that a charge goes on; `None` if it does not wait for him (any more).
    async fn action(&self, charge_id: &str) -> Result<Option<BuyerAction>, GatewayError>;
}

/// What is to be charged, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    pub key: Uuid,
    /// The gateway notes it, so that what it tells on its own finds the order again.
    pub order: OrderId,
    pub method: PaymentMethod,
    pub amount: Money,
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
    /// A card that the buyer's browser showed to the gateway itself; this is what it got for it.
    CardToken {
        token: String,
    },
    Upi {
        vpa: String,
    },
    /// The buyer's balance at the gateway.
    Wallet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charge {
    Charged {
        charge_id: String,
    },
    Failed(FailureReason),
    /// Nothing is taken before the buyer (3-D Secure) or his bank has done his part.
    ActionRequired {
        charge_id: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// Nothing was charged under the key, and nothing ever will be.
    Cancelled,
    /// Too late; refund this charge.
    AlreadyCharged(String),
}

/// For the buyer alone: whoever holds it may confirm the payment. It is asked for when it is shown, and never kept.
#[derive(Clone, PartialEq, Eq)]
pub enum BuyerAction {
    /// To be opened in the buyer's browser; a path is one of ours.
    Redirect { url: String },
    /// For the gateway's own script in the buyer's browser.
    ClientSecret { client_secret: String },
}

impl fmt::Debug for BuyerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redirect { .. } => "Redirect(***)",
            Self::ClientSecret { .. } => "ClientSecret(***)",
        })
    }
}
