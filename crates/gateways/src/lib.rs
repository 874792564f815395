//! The ports to the outside (payment, carrier, mail) and their adapters.
//!
//! Whoever calls a port hands in a key: the same key means the same intent, however often it is sent. An adapter answers
//! [`GatewayError::Unavailable`] only if nothing happened, and [`GatewayError::Unknown`] if something may have.
//!
//! Adapters so far: [`sandbox::SandboxBank`] for payments and shipping, [`stripe::Stripe`] for payments, and [`MailFolder`]
//! for mail. [`Measured`] puts the metrics around any of them, [`Guarded`] deadlines, retries and a circuit breaker.

mod breaker;
mod carrier;
mod error;
mod guarded;
mod mail;
mod measured;
mod notice;
mod payment;
mod secret;

pub mod sandbox;
pub mod stripe;

pub use carrier::{Booking, Carrier};
pub use error::GatewayError;
pub use guarded::{Chance, Guarded, Limits};
pub use mail::{Mail, MailFolder, Mailer};
pub use measured::Measured;
pub use notice::{Notice, Standing};
pub use payment::{BuyerAction, Cancellation, Charge, PaymentDetails, PaymentGateway, Purchase};
pub use secret::Secret;
