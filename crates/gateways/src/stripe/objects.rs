//! What is read of Stripe's objects: the few fields that decide something.

use std::collections::BTreeMap;

use serde::Deserialize;
use souk_domain::payment::FailureReason;

use super::client::Lookup;
use crate::{BuyerAction, GatewayError};

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Method {
    pub(super) id: String,
    /// In seconds since 1970.
    pub(super) created: i64,
    #[serde(default)]
    pub(super) card: Option<Card>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Card {
    pub(super) brand: Option<String>,
    pub(super) last4: Option<String>,
}

/// <https://docs.stripe.com/api/payment_intents/object>. No `Debug`: who holds the client secret may confirm it.
#[derive(Clone, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) created: i64,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) payment_method: Option<Lookup<Method>>,
    #[serde(default)]
    client_secret: Option<String>,
    #[serde(default)]
    next_action: Option<NextAction>,
    #[serde(default)]
    last_payment_error: Option<Failure>,
    #[serde(default)]
    latest_charge: Option<Lookup<Attempt>>,
}

#[derive(Clone, Deserialize)]
struct NextAction {
    #[serde(default)]
    redirect_to_url: Option<Redirect>,
}

#[derive(Clone, Deserialize)]
struct Redirect {
    url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Failure {
    code: Option<String>,
    decline_code: Option<String>,
}

/// A charge of the intent, which keeps why it failed when the intent forgets.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Attempt {
    #[serde(default)]
    failure_code: Option<String>,
    #[serde(default)]
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug, Deserialize)]
struct Outcome {
    #[serde(default)]
    reason: Option<String>,
}

impl Intent {
    /// Made, and nothing else.
    pub(super) fn is_untouched(&self) -> bool {
        self.status == "requires_confirmation"
    }

    pub(super) fn has_failed(&self) -> bool {
        self.status == "requires_payment_method"
            && (self.last_payment_error.is_some() || self.attempt().is_some())
    }

    fn attempt(&self) -> Option<&Attempt> {
        self.latest_charge.as_ref().and_then(Lookup::object).filter(|attempt| attempt.failure_code.is_some())
    }

    /// Why nothing was charged.
    pub(super) fn failure(&self) -> FailureReason {
        let error = self.last_payment_error.as_ref();
        let attempt = self.attempt();
        let codes = [
            error.and_then(|error| error.code.as_deref()),
            error.and_then(|error| error.decline_code.as_deref()),
            attempt.and_then(|attempt| attempt.failure_code.as_deref()),
            attempt
                .and_then(|attempt| attempt.outcome.as_ref())
                .and_then(|outcome| outcome.reason.as_deref()),
        ];
        if codes.contains(&Some("insufficient_funds")) {
            FailureReason::InsufficientFunds
        } else if codes.iter().any(Option::is_some) {
            FailureReason::CardDeclined
        } else {
            FailureReason::Cancelled
        }
    }

    pub(super) fn action(self) -> Option<BuyerAction> {
        if self.status != "requires_action" {
            return None;
        }
        let redirect =
            self.next_action.and_then(|next| next.redirect_to_url).and_then(|redirect| redirect.url);
        match redirect {
            Some(url) => Some(BuyerAction::Redirect { url }),
            None => self.client_secret.map(|client_secret| BuyerAction::ClientSecret { client_secret }),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) amount: i64,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) payment_intent: Option<Lookup<Named>>,
}

impl Refund {
    /// Whether the money is gone, or about to go.
    pub(super) fn counts(&self) -> bool {
        !matches!(self.status.as_deref(), Some("failed" | "canceled"))
    }

    /// Its id, if it stands.
    pub(super) fn standing(self) -> Result<String, GatewayError> {
        if self.counts() {
            return Ok(self.id);
        }
        let message = format!("the refund {} failed at Stripe", self.id);
        Err(GatewayError::Invalid { field: "refund".to_owned(), message })
    }
}

/// <https://docs.stripe.com/api/disputes/object>
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Dispute {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) reason: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) payment_intent: Option<Lookup<Named>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failure(more: serde_json::Value) -> FailureReason {
        let mut intent =
            json!({ "id": "pi_1", "status": "canceled", "amount": 1, "currency": "usd", "created": 0 });
        intent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<Intent>(intent).unwrap().failure()
    }

    #[test]
    fn why_it_failed_is_read_where_stripe_says_it() {
        let poor = json!({ "code": "card_declined", "decline_code": "insufficient_funds" });
        assert_eq!(failure(json!({ "last_payment_error": poor })), FailureReason::InsufficientFunds);
        let no = json!({ "code": "card_declined", "decline_code": "generic_decline" });
        assert_eq!(failure(json!({ "last_payment_error": no })), FailureReason::CardDeclined);
        // The intent has forgotten it, its charge has not.
        let attempt =
            json!({ "failure_code": "card_declined", "outcome": { "reason": "insufficient_funds" } });
        assert_eq!(failure(json!({ "latest_charge": attempt })), FailureReason::InsufficientFunds);
        assert_eq!(failure(json!({ "latest_charge": "ch_1" })), FailureReason::Cancelled);
        assert_eq!(failure(json!({})), FailureReason::Cancelled);
    }
}
