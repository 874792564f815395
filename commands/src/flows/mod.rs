//! What clients ask for, one module each. A flow checks what needs more than one stream, then runs its commands.

pub mod accounts;
pub mod carts;
pub mod checkout;
pub mod credits;
pub mod imports;
pub mod items;
pub mod orders;
pub mod pricing;
pub mod revision;
pub mod shipments;
pub mod synonyms;

use souk_event_log::Position;

use crate::Done;

/// A success, durable, with the position from which on readers see it.
#[derive(Clone, Debug)]
pub struct Acknowledged<T> {
    pub value: T,
    pub position: Option<Position>,
}

impl<T> Acknowledged<T> {
    fn of<E>(value: T, done: &Done<E>) -> Self {
        Self { value, position: done.position }
    }
}
