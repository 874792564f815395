//! The rules of the trade: one decider per kind of stream. Pure: no clock, no randomness, no I/O, no async.
//!
//! Each aggregate is a module with its events, its state, its commands and its refusals. [`Decider`] is the shape they
//! share; whoever runs it brings the time and the ids.

mod decider;
mod endings;
mod ids;
mod money;
mod personal;

pub mod account;
pub mod cart;
pub mod credit;
pub mod inventory;
pub mod item;
pub mod ledger;
pub mod order;
pub mod payment;
pub mod pricing;
pub mod promotion;
pub mod returns;
pub mod search;
pub mod shipment;
#[doc(hidden)]
pub mod stored;
pub mod synonyms;
#[cfg(feature = "testing")]
pub mod testing;

pub use decider::{Decider, DomainEvent, UnreadableEvent};
pub use endings::Ending;
pub use ids::{
    AccountId, CartId, CreditId, ItemId, OrderId, PayoutId, PromotionId, ReturnId, ReturnIdError, ReturnsId,
    ShipmentId, Sku, SkuError, SkuId, SynonymsId,
};
pub use money::{Currency, Money, MoneyError};
pub use personal::Sealed;
