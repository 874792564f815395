//! The ports to the outside (payment, carrier, mail) and their adapters.
//!
//! Whoever calls a port hands in a key: the same key means the same intent, however often it is sent. An adapter answers
//! [`GatewayError::Unavailable`] only if nothing happened, and [`GatewayError::Unknown`] if something may have.
//!
//! Adapters so far: [`sandbox::SandboxBank`] for payments and shipping, and [`MailFolder`] for mail. [`Measured`] puts the
//! metrics around any of them.

mod carrier;
mod error;
mod mail;
mod measured;
mod payment;
mod secret;

pub mod sandbox;

pub use carrier::{Booking, Carrier};
pub use error::GatewayError;
pub use mail::{Mail, MailFolder, Mailer};
pub use measured::Measured;
pub use payment::{Cancellation, Charge, PaymentDetails, PaymentGateway};
pub use secret::Secret;
