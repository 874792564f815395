//! What Stripe tells on its own (<https://docs.stripe.com/webhooks>): its signature, and what it means for an order.
//!
//! An event says that something has changed, not how things stand: events come late, twice, and in any order. So the object
//! that an event names is looked at, and what it says now is the notice.

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use souk_domain::OrderId;

use super::{
    KEY, ORDER, Stripe, amounts,
    client::Lookup,
    objects::{Dispute, Intent, Named, Refund},
};
use crate::{Charge, GatewayError, Notice, Standing};

/// How far the time of a signature may be from ours, in seconds.
const TOLERANCE: i64 = 5 * 60;
/// Signatures looked at; Stripe sends one for each secret of an endpoint, of which there are two at most.
const SIGNATURES: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("no secret for webhooks is configured")]
    NotConfigured,
    #[error("the signature is missing or wrong")]
    Signature,
    #[error("the signature is too old, or from the future")]
    Stale,
    #[error("this is no event of Stripe")]
    Malformed,
}

/// An event that Stripe has signed.
#[derive(Clone, Debug, Deserialize)]
pub struct StripeEvent {
    /// The same when it is sent again.
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    data: Data,
}

#[derive(Clone, Debug, Deserialize)]
struct Data {
    object: Named,
}

impl Stripe {
    /// `signature` is the header `Stripe-Signature`: `t=` the time, `v1=` the HMAC of time, dot and body.
    pub fn verify(&self, signature: &str, body: &[u8]) -> Result<StripeEvent, WebhookError> {
        let secret = self.webhook_secret.as_ref().ok_or(WebhookError::NotConfigured)?;
        let parts = || signature.split(',').filter_map(|part| part.trim().split_once('='));
        let time = parts().find(|(name, _)| *name == "t").ok_or(WebhookError::Signature)?.1;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
            .map_err(|_| WebhookError::NotConfigured)?;
        for part in [time.as_bytes(), b".", body] {
            mac.update(part);
        }
        let given = parts().filter(|(name, _)| *name == "v1").filter_map(|(_, hex)| from_hex(hex));
        // Compares in constant time.
        if !given.take(SIGNATURES).any(|given| mac.clone().verify_slice(&given).is_ok()) {
            return Err(WebhookError::Signature);
        }
        let time: i64 = time.parse().map_err(|_| WebhookError::Signature)?;
        let age = (self.clock)().timestamp().saturating_sub(time);
        if age.saturating_abs() > TOLERANCE {
            return Err(WebhookError::Stale);
        }
        serde_json::from_slice(body).map_err(|_| WebhookError::Malformed)
    }

    /// What the event means for an order; `None` if it concerns none of ours.
    pub async fn notice(&self, event: &StripeEvent) -> Result<Option<Notice>, GatewayError> {
        let id = event.data.object.id.as_str();
        let known = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match event.kind.as_str() {
            _ if !known => Ok(None),
            "payment_intent.succeeded"
            | "payment_intent.payment_failed"
            | "payment_intent.canceled"
            | "payment_intent.requires_action"
            | "payment_intent.processing"
            | "payment_intent.amount_capturable_updated" => self.intent_notice(id).await,
            "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
                self.refund_notice(id).await
            }
            kind if kind.starts_with("charge.dispute.") => self.dispute_notice(id).await,
            _ => Ok(None),
        }
    }

    async fn intent_notice(&self, id: &str) -> Result<Option<Notice>, GatewayError> {
        let Some((order, intent)) = self.ours(id).await? else { return Ok(None) };
        let money = amounts::from_stripe(intent.amount, &intent.currency);
        let (Some(amount), Some(charge)) = (money, self.judge(intent).await?) else { return Ok(None) };
        Ok(Some(Notice::Charge { order, amount, charge }))
    }

    async fn refund_notice(&self, id: &str) -> Result<Option<Notice>, GatewayError> {
        let refund: Refund = self.client.get(&format!("/v1/refunds/{id}"), &[]).await?;
        let Some(intent) = refund.payment_intent.as_ref().map(Lookup::id) else { return Ok(None) };
        let Some((order, intent)) = self.ours(intent).await? else { return Ok(None) };
        // In the currency of the charge, like each of its refunds.
        let Some(amount) = amounts::from_stripe(refund.amount, &intent.currency) else { return Ok(None) };
        let key = refund.metadata.get(KEY).and_then(|key| key.parse().ok());
        let Some(key) = key else {
            tracing::error!(%order, refund = refund.id, "a refund was made at Stripe that Souk knows nothing of");
            return Ok(None);
        };
        if !refund.counts() {
            tracing::error!(%order, refund = refund.id, "Stripe could not carry out a refund: the buyer has no money yet");
            return Ok(None);
        }
        Ok(Some(Notice::Refund { order, key, amount, refund_id: refund.id }))
    }

    async fn dispute_notice(&self, id: &str) -> Result<Option<Notice>, GatewayError> {
        let dispute: Dispute = self.client.get(&format!("/v1/disputes/{id}"), &[]).await?;
        let standing = match dispute.status.as_str() {
            "needs_response" | "under_review" => Standing::Open,
            "won" => Standing::Won,
            "lost" => Standing::Lost,
            // Questions of the bank, which move no money.
            _ => return Ok(None),
        };
        let Some(intent) = dispute.payment_intent.as_ref().map(Lookup::id) else { return Ok(None) };
        let Some((order, intent)) = self.ours(intent).await? else { return Ok(None) };
        let Some(charged) = amounts::from_stripe(intent.amount, &intent.currency) else { return Ok(None) };
        // In another currency the bank's figure does not compare: then the whole charge is in dispute.
        let amount = amounts::from_stripe(dispute.amount, &dispute.currency)
            .filter(|amount| amount.currency == charged.currency)
            .unwrap_or(charged);
        let charge = Charge::Charged { charge_id: intent.id };
        let Dispute { id: dispute_id, reason, .. } = dispute;
        Ok(Some(Notice::Dispute { order, charge, dispute_id, amount, reason, standing }))
    }

    /// An intent that Souk made, and its order. The account may have others.
    async fn ours(&self, intent: &str) -> Result<Option<(OrderId, Intent)>, GatewayError> {
        let intent = self.look_at(intent).await?;
        let order = intent.metadata.get(ORDER).and_then(|order| order.parse().ok());
        Ok(order.map(|order| (order, intent)))
    }
}

impl Lookup<Named> {
    fn id(&self) -> &str {
        match self {
            Self::Object(object) => &object.id,
            Self::Id(id) => id,
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 128 {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
