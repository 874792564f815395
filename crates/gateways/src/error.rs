//! What can go wrong at a gateway, sorted by what the caller may do next.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// What was asked for can't be done, now or later. `field` is a name of the HTTP contract where the buyer's own
    /// entries are wrong (`paymentInfo.cardNo`), or the parameter's where the caller is.
    #[error("{field}: {message}")]
    Invalid { field: String, message: String },
    /// Nothing happened: try again.
    #[error("the gateway is not available: {0}")]
    Unavailable(String),
    /// Nothing happened, as nobody was asked: the gateway failed too often and is left alone for so long.
    #[error("the gateway failed too often and is left alone for {} ms", .0.as_millis())]
    Resting(Duration),
    /// It may have happened: ask by key, or send the same key again.
    #[error("the gateway's answer is not known: {0}")]
    Unknown(String),
}

impl GatewayError {
    pub fn invalid(field: &str, message: &str) -> Self {
        Self::Invalid { field: field.to_owned(), message: message.to_owned() }
    }
}
