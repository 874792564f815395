//! The port to a carrier, who brings the goods to the buyer.

use async_trait::async_trait;
use uuid::Uuid;

use crate::GatewayError;

/// Books and cancels transports. Every call may be repeated under its key and then answers what it answered before.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Books a transport to `country` (ISO 3166-1, two capital letters; imports may use longer names). `address` is the
    /// rest of the address as JSON, in clear; `None` if the buyer is forgotten.
    async fn book(&self, key: Uuid, country: &str, address: Option<&str>) -> Result<Booking, GatewayError>;

    /// Gives up the booking under `key`; one that arrives later is refused.
    async fn cancel(&self, key: Uuid) -> Result<(), GatewayError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Booking {
    Booked {
        carrier: String,
        booking_id: String,
    },
    /// `reason` may be shown to the buyer.
    Refused {
        reason: String,
    },
}
