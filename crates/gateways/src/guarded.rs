//! Keeps a gateway's troubles from becoming ours: each call has a deadline, what certainly did not happen is tried again
//! after a pause drawn at random, and a gateway that fails again and again is left alone (`breaker`).
//!
//! A call that has no answer in time may have happened, so it is [`GatewayError::Unknown`] and not tried again here: only
//! the caller knows whether to ask or to repeat. Metrics: `souk_gateway_retries_total` by gateway and step, and those of the
//! breaker.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use souk_domain::{AccountId, Money, payment::PaymentMethod};
use uuid::Uuid;

use crate::{
    Booking, BuyerAction, Cancellation, Carrier, Charge, GatewayError, PaymentDetails, PaymentGateway,
    Purchase, breaker::Breaker,
};

const RETRIES: &str = "souk_gateway_retries_total";

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For one try of a call.
    pub deadline: Duration,
    /// Tries of one call after the first.
    pub retries: u32,
    /// Before the first retry it is waited up to so long; each time the bound doubles.
    pub pause: Duration,
    /// Failures in a row until the gateway is left alone.
    pub failures: u32,
    /// How long at first; doubles with each probe that fails.
    pub rest: Duration,
    pub longest_rest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            retries: 2,
            pause: Duration::from_millis(200),
            failures: 10,
            rest: Duration::from_secs(1),
            longest_rest: Duration::from_secs(30),
        }
    }
}

/// From 0 up to 1, at random.
pub type Chance = Arc<dyn Fn() -> f64 + Send + Sync>;

pub struct Guarded<G> {
    gateway: &'static str,
    inner: G,
    limits: Limits,
    chance: Chance,
    breaker: Breaker,
}

impl<G> Guarded<G> {
    pub fn new(gateway: &'static str, inner: G, limits: Limits, chance: Chance) -> Self {
        metrics::describe_counter!(
            RETRIES,
            "Calls to gateways that were tried again, as nothing had happened"
        );
        Self { gateway, inner, limits, chance, breaker: Breaker::new(gateway, limits) }
    }

    async fn guard<T, F>(&self, step: &'static str, call: impl Fn() -> F) -> Result<T, GatewayError>
    where
        F: Future<Output = Result<T, GatewayError>>,
    {
        let mut retry = 0;
        loop {
            let answer = self.call(call()).await;
            if !matches!(answer, Err(GatewayError::Unavailable(_))) || retry == self.limits.retries {
                return answer;
            }
            let longest = self.limits.pause * (1 << retry.min(16));
            tokio::time::sleep(longest.mul_f64((self.chance)().clamp(0.0, 1.0))).await;
            metrics::counter!(RETRIES, "gateway" => self.gateway, "step" => step).increment(1);
            retry += 1;
        }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, GatewayError>>) -> Result<T, GatewayError> {
        let leave = self.breaker.enter().map_err(GatewayError::Resting)?;
        let answer = tokio::time::timeout(self.limits.deadline, call).await.unwrap_or_else(|_| {
            Err(GatewayError::Unknown(format!("no answer within {} ms", self.limits.deadline.as_millis())))
        });
        match &answer {
            Err(GatewayError::Unavailable(_) | GatewayError::Unknown(_)) => leave.failed(),
            // A "no" is an answer.
            Ok(_) | Err(GatewayError::Invalid { .. } | GatewayError::Resting(_)) => leave.went_well(),
        }
        answer
    }
}

#[async_trait]
impl<G: PaymentGateway> PaymentGateway for Guarded<G> {
    async fn tokenize(
        &self,
        key: Uuid,
        buyer: AccountId,
        details: &PaymentDetails,
    ) -> Result<PaymentMethod, GatewayError> {
        self.guard("tokenize", || self.inner.tokenize(key, buyer, details)).await
    }

    async fn charge(&self, purchase: &Purchase) -> Result<Charge, GatewayError> {
        self.guard("charge", || self.inner.charge(purchase)).await
    }

    async fn find(&self, purchase: &Purchase) -> Result<Option<Charge>, GatewayError> {
        self.guard("find", || self.inner.find(purchase)).await
    }

    async fn cancel(&self, purchase: &Purchase) -> Result<Cancellation, GatewayError> {
        self.guard("cancel", || self.inner.cancel(purchase)).await
    }

    async fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Result<String, GatewayError> {
        self.guard("refund", || self.inner.refund(key, charge_id, amount)).await
    }

    async fn action(&self, charge_id: &str) -> Result<Option<BuyerAction>, GatewayError> {
        self.guard("action", || self.inner.action(charge_id)).await
    }
}

#[async_trait]
impl<G: Carrier> Carrier for Guarded<G> {
    async fn book(&self, key: Uuid, country: &str, address: Option<&str>) -> Result<Booking, GatewayError> {
        self.guard("book", || self.inner.book(key, country, address)).await
    }

    async fn cancel(&self, key: Uuid) -> Result<(), GatewayError> {
        self.guard("cancelBooking", || self.inner.cancel(key)).await
    }
}
