//! Metrics around a gateway: the histogram `souk_gateway_seconds` by gateway, step and outcome (`ok`, `refused`, `invalid`,
//! `unavailable`, `unknown`).

use std::{future::Future, time::Instant};

use async_trait::async_trait;
use souk_domain::{AccountId, Money, payment::PaymentMethod};
use uuid::Uuid;

use crate::{
    Booking, BuyerAction, Cancellation, Carrier, Charge, GatewayError, Mail, Mailer, PaymentDetails,
    PaymentGateway, Purchase,
};

const SECONDS: &str = "souk_gateway_seconds";

/// Any gateway, measured under a name.
#[derive(Clone, Debug)]
pub struct Measured<G> {
    gateway: &'static str,
    inner: G,
}

impl<G> Measured<G> {
    pub fn new(gateway: &'static str, inner: G) -> Self {
        metrics::describe_histogram!(SECONDS, metrics::Unit::Seconds, "Calls to gateways");
        Self { gateway, inner }
    }

    async fn measure<T>(
        &self,
        step: &'static str,
        call: impl Future<Output = Result<T, GatewayError>>,
        refused: impl FnOnce(&T) -> bool,
    ) -> Result<T, GatewayError> {
        let start = Instant::now();
        let answer = call.await;
        let outcome = match &answer {
            Ok(value) if refused(value) => "refused",
            Ok(_) => "ok",
            Err(GatewayError::Invalid { .. }) => "invalid",
            Err(GatewayError::Unavailable(_) | GatewayError::Resting(_)) => "unavailable",
            Err(GatewayError::Unknown(_)) => "unknown",
        };
        metrics::histogram!(SECONDS, "gateway" => self.gateway, "step" => step, "outcome" => outcome)
            .record(start.elapsed());
        answer
    }
}

#[async_trait]
impl<G: PaymentGateway> PaymentGateway for Measured<G> {
    async fn tokenize(
        &self,
        key: Uuid,
        buyer: AccountId,
        details: &PaymentDetails,
    ) -> Result<PaymentMethod, GatewayError> {
        self.measure("tokenize", self.inner.tokenize(key, buyer, details), |_| false).await
    }

    async fn charge(&self, purchase: &Purchase) -> Result<Charge, GatewayError> {
        let refused = |charge: &Charge| matches!(charge, Charge::Failed(_));
        self.measure("charge", self.inner.charge(purchase), refused).await
    }

    async fn find(&self, purchase: &Purchase) -> Result<Option<Charge>, GatewayError> {
        self.measure("find", self.inner.find(purchase), |_| false).await
    }

    async fn cancel(&self, purchase: &Purchase) -> Result<Cancellation, GatewayError> {
        let refused = |answer: &Cancellation| matches!(answer, Cancellation::AlreadyCharged(_));
        self.measure("cancel", self.inner.cancel(purchase), refused).await
    }

    async fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Result<String, GatewayError> {
        self.measure("refund", self.inner.refund(key, charge_id, amount), |_| false).await
    }

    async fn action(&self, charge_id: &str) -> Result<Option<BuyerAction>, GatewayError> {
        self.measure("action", self.inner.action(charge_id), |_| false).await
    }
}

#[async_trait]
impl<G: Carrier> Carrier for Measured<G> {
    async fn book(&self, key: Uuid, country: &str, address: Option<&str>) -> Result<Booking, GatewayError> {
        let refused = |booking: &Booking| matches!(booking, Booking::Refused { .. });
        self.measure("book", self.inner.book(key, country, address), refused).await
    }

    async fn cancel(&self, key: Uuid) -> Result<(), GatewayError> {
        self.measure("cancelBooking", self.inner.cancel(key), |()| false).await
    }
}

#[async_trait]
impl<G: Mailer> Mailer for Measured<G> {
    async fn send(&self, key: Uuid, message: &Mail) -> Result<(), GatewayError> {
        self.measure("send", self.inner.send(key, message), |()| false).await
    }
}
