//! The rules of the trade: one decider per kind of stream. Pure: no clock, no randomness, no I/O, no async.
//!
//! Each aggregate is a module with its events, its state, its commands and its refusals. [`Decider`] is the shape they
//! share; whoever runs it brings the time and the ids.

mod decider;
mod ids;
mod money;
mod personal;

pub mod account;
pub mod cart;
pub mod inventory;
pub mod item;
pub mod ledger;
pub mod order;
pub mod payment;
pub mod returns;
pub mod shipment;
#[doc(hidden)]
pub mod stored;
#[cfg(feature = "testing")]
pub mod testing;

pub use decider::{Decider, DomainEvent, UnreadableEvent};
pub use ids::{
    AccountId, CartId, ItemId, OrderId, PayoutId, ReturnId, ReturnIdError, ReturnsId, ShipmentId, Sku,
    SkuError, SkuId,
};
pub use money::{Currency, Money, MoneyError};
pub use personal::Sealed;
