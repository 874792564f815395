//! Stripe (<https://docs.stripe.com/api>, version 2024-06-20): the port of payments over payment intents.
//!
//! How the port's promises are kept. An intent is first made and only then confirmed; to make one moves no money, so it may
//! be done by anybody, under one idempotency key: charge, search and cancellation all begin with it and so meet at the same
//! intent, whoever comes first. What happens to it is decided by Stripe: an intent is confirmed or cancelled, never both.
//! Stripe forgets idempotency keys after 24 hours. Our key therefore also stands in the metadata, where it is searched for
//! if the payment method is so old that an earlier charge may be forgotten. Answers are never taken from a replay: it tells
//! how things stood at first, so the intent is looked at again.
//!
//! - `client`: one request, and what can go wrong with it
//! - `objects`: what is read of Stripe's answers
//! - `amounts`: minor units, as Stripe counts them
//! - `webhook`: signatures and what events say

mod amounts;
mod client;
mod objects;
#[cfg(feature = "testing")]
pub mod testing;
mod webhook;

pub use webhook::{StripeEvent, WebhookError};

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use reqwest::Url;
use souk_domain::{
    AccountId, Money,
    payment::{FailureReason, PaymentMethod, PaymentType},
};
use uuid::Uuid;

use self::{
    client::{Client, Form, Lookup},
    objects::{Intent, List, Method, Refund},
};
use crate::{
    BuyerAction, Cancellation, Charge, GatewayError, PaymentDetails, PaymentGateway, Purchase, Secret,
    sandbox::details::Card,
};

/// Stripe keeps idempotency keys for 24 hours at least; a bit less, for clocks that differ.
const FORGETS_AFTER: i64 = 23 * 3_600;
/// Where our key and the order stand in the metadata.
const KEY: &str = "souk_key";
const ORDER: &str = "souk_order";

#[derive(Clone, Debug)]
pub struct StripeConfig {
    /// `sk_…` or `rk_…`.
    pub secret_key: Secret,
    /// `whsec_…`, of the endpoint that Stripe sends to; `None`: no webhook is believed.
    pub webhook_secret: Option<Secret>,
    /// `https://api.stripe.com`, but for tests.
    pub url: Url,
    /// Where Stripe sends the buyer back to after 3-D Secure. Without one he confirms in the shop's own page.
    pub return_url: Option<Url>,
    /// For one request.
    pub timeout: Duration,
}

/// Clones share one client.
#[derive(Clone)]
pub struct Stripe {
    client: Client,
    return_url: Option<Url>,
    webhook_secret: Option<Secret>,
    clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stripe")
    }
}

impl Stripe {
    pub fn new(
        config: StripeConfig,
        clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        let StripeConfig { secret_key, webhook_secret, url, return_url, timeout } = config;
        let client = Client::new(url, secret_key, timeout)?;
        Ok(Self { client, return_url, webhook_secret, clock: Arc::new(clock) })
    }

    /// The one intent of the purchase, as it is now. It is made if there is none.
    async fn intent(&self, purchase: &Purchase) -> Result<Intent, GatewayError> {
        let amount = amounts::to_stripe(purchase.amount)?;
        if amount < 1 {
            return Err(GatewayError::invalid("amount", "Stripe charges nothing below one unit"));
        }
        let form = Form::new()
            .with("amount", amount)
            .with("currency", amounts::currency(purchase.amount))
            .with("payment_method", &purchase.method.token)
            .with("payment_method_types[]", "card")
            .with(&format!("metadata[{KEY}]"), purchase.key)
            .with(&format!("metadata[{ORDER}]"), purchase.order)
            .with("expand[]", "payment_method");
        let made = self.client.create::<Intent>("/v1/payment_intents", form, purchase.key).await?;
        if made.replayed {
            return self.look_at(&made.object.id).await;
        }
        let method_made =
            made.object.payment_method.as_ref().and_then(Lookup::object).map(|method| method.created);
        if method_made.is_some_and(|at| made.object.created - at < FORGETS_AFTER) {
            return Ok(made.object);
        }
        self.earlier(purchase, made.object).await
    }

    /// Stripe may have forgotten the key: an earlier intent under it goes before the one that was made just now.
    async fn earlier(&self, purchase: &Purchase, made: Intent) -> Result<Intent, GatewayError> {
        let query = format!("metadata['{KEY}']:'{}'", purchase.key);
        let found: List<Intent> = self.client.get("/v1/payment_intents/search", &[("query", &query)]).await?;
        let older = found.data.into_iter().filter(|intent| intent.id != made.id);
        let Some(first) = older.min_by_key(|intent| intent.created) else { return Ok(made) };
        // Nobody confirms it; cancelled, it does not lie about as unfinished.
        let _ =
            self.client.post::<Intent>(&format!("/v1/payment_intents/{}/cancel", made.id), Form::new()).await;
        let asked = (amounts::to_stripe(purchase.amount)?, amounts::currency(purchase.amount));
        if (first.amount, first.currency.clone()) != asked {
            return Err(GatewayError::invalid("key", "this key belongs to another charge"));
        }
        self.look_at(&first.id).await
    }

    async fn look_at(&self, intent: &str) -> Result<Intent, GatewayError> {
        self.client.get(&format!("/v1/payment_intents/{intent}"), &[("expand[]", "latest_charge")]).await
    }

    /// After a step that the intent refused: how it stands decides, and only if it says nothing the refusal does.
    async fn after(&self, intent: &str, refusal: GatewayError) -> Result<Intent, GatewayError> {
        match refusal {
            GatewayError::Invalid { .. } => {
                let now = self.look_at(intent).await?;
                if now.is_untouched() { Err(refusal) } else { Ok(now) }
            }
            other => Err(other),
        }
    }

    async fn step(&self, intent: &str, step: &str, form: Form) -> Result<Intent, GatewayError> {
        // No idempotency key: an intent takes each of these steps once, and says where it stands.
        match self.client.post::<Intent>(&format!("/v1/payment_intents/{intent}/{step}"), form).await {
            Ok(intent) => Ok(intent),
            Err(refusal) => self.after(intent, refusal).await,
        }
    }

    /// What an intent says; `None` if nobody has confirmed it yet. One that failed is closed first: whoever holds its
    /// client secret could try another card, long after the order is given up.
    async fn judge(&self, mut intent: Intent) -> Result<Option<Charge>, GatewayError> {
        if intent.status == "requires_capture" {
            intent = self.step(&intent.id, "capture", Form::new()).await?;
        }
        if intent.has_failed() {
            let reason = intent.failure();
            intent = self.step(&intent.id, "cancel", Form::new()).await?;
            if intent.status == "canceled" {
                return Ok(Some(Charge::Failed(reason)));
            }
        }
        let charge_id = intent.id.clone();
        Ok(match intent.status.as_str() {
            "succeeded" => Some(Charge::Charged { charge_id }),
            "canceled" => Some(Charge::Failed(intent.failure())),
            "requires_action" | "processing" => Some(Charge::ActionRequired { charge_id }),
            "requires_confirmation" | "requires_payment_method" => None,
            other => return Err(GatewayError::Unknown(format!("an intent of Stripe is {other:?}"))),
        })
    }
}

#[async_trait]
impl PaymentGateway for Stripe {
    async fn tokenize(
        &self,
        key: Uuid,
        _buyer: AccountId,
        details: &PaymentDetails,
    ) -> Result<PaymentMethod, GatewayError> {
        let method: Method = match details {
            PaymentDetails::Card { card_no, expiry, cvc } => {
                let card = Card::read(card_no, expiry, cvc, (self.clock)())?;
                // Other details under the same key are another token, so the key is of both. It goes to Stripe alone,
                // which gets the card anyhow.
                let text = [card.digits.as_str(), expiry, cvc.expose()].join("/");
                let key = Uuid::new_v5(&key, zeroize::Zeroizing::new(text).as_bytes());
                let form = Form::new()
                    .with("type", "card")
                    .with("card[number]", card.digits.as_str())
                    .with("card[exp_month]", card.month)
                    .with("card[exp_year]", card.year)
                    .with("card[cvc]", cvc.expose());
                self.client.create("/v1/payment_methods", form, key).await?.object
            }
            PaymentDetails::CardToken { token } => {
                let is_one = |token: &str| {
                    token.starts_with("pm_")
                        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                };
                if !is_one(token) {
                    return Err(GatewayError::invalid(
                        "paymentInfo.token",
                        "A token of Stripe begins with pm_.",
                    ));
                }
                match self.client.get(&format!("/v1/payment_methods/{token}"), &[]).await {
                    Err(GatewayError::Invalid { message, .. }) => {
                        return Err(GatewayError::invalid("paymentInfo.token", &message));
                    }
                    found => found?,
                }
            }
            PaymentDetails::Upi { .. } | PaymentDetails::Wallet => {
                return Err(GatewayError::invalid("paymentInfo.paymentType", "Pay with a card."));
            }
        };
        let Some(card) = method.card else {
            return Err(GatewayError::invalid("paymentInfo.token", "This is not a card."));
        };
        Ok(PaymentMethod {
            payment_type: PaymentType::Card,
            token: method.id,
            brand: card.brand,
            last_four: card.last4,
        })
    }

    async fn charge(&self, purchase: &Purchase) -> Result<Charge, GatewayError> {
        let mut intent = self.intent(purchase).await?;
        if intent.status == "requires_confirmation" {
            let mut form = Form::new();
            if let Some(url) = &self.return_url {
                form = form.with("return_url", url);
            }
            intent = self.step(&intent.id, "confirm", form).await?;
        }
        // One that is still not confirmed has no method to be confirmed with.
        Ok(self.judge(intent).await?.unwrap_or(Charge::Failed(FailureReason::CardDeclined)))
    }

    async fn find(&self, purchase: &Purchase) -> Result<Option<Charge>, GatewayError> {
        let intent = self.intent(purchase).await?;
        self.judge(intent).await
    }

    async fn cancel(&self, purchase: &Purchase) -> Result<Cancellation, GatewayError> {
        let mut intent = self.intent(purchase).await?;
        if !matches!(intent.status.as_str(), "canceled" | "succeeded") {
            intent = self.step(&intent.id, "cancel", Form::new()).await?;
        }
        match intent.status.as_str() {
            "canceled" => Ok(Cancellation::Cancelled),
            "succeeded" => Ok(Cancellation::AlreadyCharged(intent.id)),
            other => Err(GatewayError::Unknown(format!("an intent that was to be cancelled is {other:?}"))),
        }
    }

    async fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Result<String, GatewayError> {
        let unknown = |message: &str| GatewayError::invalid("chargeId", message);
        if !charge_id.starts_with("pi_") {
            return Err(unknown("there is no such charge"));
        }
        let asked = amounts::to_stripe(amount)?;
        let intent = match self.look_at(charge_id).await {
            Err(GatewayError::Invalid { message, .. }) => return Err(unknown(&message)),
            intent => intent?,
        };
        // Stripe may have forgotten the key, but not the refund.
        let made: List<Refund> =
            self.client.get("/v1/refunds", &[("payment_intent", charge_id), ("limit", "100")]).await?;
        let key_text = key.to_string();
        if let Some(refund) = made.data.iter().find(|refund| refund.metadata.get(KEY) == Some(&key_text)) {
            return if refund.amount == asked {
                refund.clone().standing()
            } else {
                Err(GatewayError::invalid("key", "this key belongs to another refund"))
            };
        }
        let gone: i64 = made.data.iter().filter(|refund| refund.counts()).map(|refund| refund.amount).sum();
        let left = if intent.status == "succeeded" { intent.amount - gone } else { 0 };
        if intent.currency != amounts::currency(amount) || !(1..=left).contains(&asked) {
            let message = format!("at most {left} {} of this charge can be refunded", intent.currency);
            return Err(GatewayError::invalid("amount", &message));
        }
        let form = Form::new()
            .with("payment_intent", charge_id)
            .with("amount", asked)
            .with(&format!("metadata[{KEY}]"), key);
        self.client.create::<Refund>("/v1/refunds", form, key).await?.object.standing()
    }

    async fn action(&self, charge_id: &str) -> Result<Option<BuyerAction>, GatewayError> {
        Ok(self.look_at(charge_id).await?.action())
    }
}
